"""Figures of matplotlib, an optional dependency: drawn without a display, as PNG files or as SVG inside a page."""

from __future__ import annotations

import hashlib
import io
import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from xml.etree import ElementTree

# names of the colours in the style sheet, on light and on dark paper; a figure is drawn with those on light paper
COLOURS = {
    "paper": ("#ffffff", "#14171a"),
    "soft": ("#5d646d", "#9aa3ad"),
    "line": ("#e2e5e9", "#2b3036"),
    "c0": ("#0b6bbd", "#5aaef5"),
    "c1": ("#d9730d", "#f29a4a"),
    "c2": ("#1b8a5a", "#52c48f"),
    "c3": ("#b3367f", "#e77ab8"),
    "c4": ("#6f5bd0", "#a596f5"),
    "c5": ("#947600", "#d0b23c"),
    "c6": ("#0f8c99", "#4cc3d0"),
    "c7": ("#70757c", "#a2a8b0"),
    "with-head": ("#14508c", "#7fb8f2"),
    "without-head": ("#8fb3d9", "#43668c"),
    "gap": ("#c2410c", "#f29a4a"),
    "right": ("#15803d", "#52c48f"),
    "wrong": ("#b91c1c", "#f08a84"),
}
LIGHT = {name: light for name, (light, _) in COLOURS.items()}
DPI = 120
# of figures that are drawn for a page: inches, and points
WIDTH = 7.5
TEXT, SMALL_TEXT = 8.0, 7.5
# decimals that no screen shows
_DECIMALS = re.compile(r"(\.\d\d)\d+")
_IN_PAGE = {light: f"var(--{name})" for name, light in LIGHT.items()} | {"#000000": "currentColor"}
# what XML cannot hold: control characters, surrogates and two that are no characters
_NO_XML = dict.fromkeys([*range(9), 11, 12, *range(14, 32), *range(0xD800, 0xE000), 0xFFFE, 0xFFFF], "\ufffd")


def new_figure(width: float, height: float) -> Any:
    """A matplotlib Figure in inches on a canvas of its own: no window, no global state, and no display is needed."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def plain_axes(axes: Any) -> None:
    """No frame but a baseline, a faint grid, and soft numbers without ticks."""
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(LIGHT["soft"])
    axes.tick_params(length=0, labelsize=SMALL_TEXT, labelcolor=LIGHT["soft"])
    axes.grid(color=LIGHT["line"], linewidth=0.6)
    axes.set_axisbelow(True)


def title_axes(axes: Any, x: str = "", y: str = "") -> None:
    """Titles of the axes with their units; that of y stands level above it, where it reads without turning."""
    bold = {"fontsize": TEXT, "fontweight": "bold", "color": LIGHT["soft"]}
    describe(axes.set_xlabel(x, **bold), "axis-title")
    if y:
        describe(axes.set_title(y, loc="left", **bold), "axis-title")


def describe(artist: Any, kind: str, hint: str = "") -> None:
    """Gives an artist a CSS class in the page, and a tooltip. `to_svg` finds both in the artist's gid."""
    artist.set_gid(f"{kind}|{hint}")


def legible(text: str) -> str:
    """The text with a replacement character for each that neither fonts nor XML can hold."""
    return text.translate(_NO_XML)


def save_png(figure: Any, path: str | os.PathLike[str]) -> None:
    """Writes the figure with DPI pixels per inch."""
    _save(figure, path, format="png", dpi=DPI)


def to_svg(figure: Any, label: str) -> str:
    """The figure as an <svg> element that follows the page's colours and fonts.

    label: the text alternative. Inline styles, which the page's policy forbids, become attributes. Colours of COLOURS
    become variables of the style sheet, and black the colour of the text. The same figure gives the same text.
    """
    buffer = io.StringIO()
    _save(figure, buffer, format="svg", metadata={"Date": None})
    text = legible(buffer.getvalue())
    root = ElementTree.fromstring(text)
    prefix = hashlib.sha256(text.encode()).hexdigest()[:8]
    for parent in list(root.iter()):
        for child in list(parent):
            if _local(child.tag) in ("metadata", "style"):
                parent.remove(child)
    for element in root.iter():
        _rewrite(element, prefix)
    box = root.get("viewBox", "")
    root.attrib.clear()
    width = float(box.split()[2]) * DPI / 72
    root.attrib |= {"viewBox": box, "width": f"{width:.0f}", "role": "img", "aria-label": label}
    return ElementTree.tostring(root, encoding="unicode")


def _save(figure: Any, target: Any, **how: Any) -> None:
    with plain_text(figure):
        figure.savefig(target, **how)


@contextmanager
def plain_text(figure: Any) -> Iterator[None]:
    """Within it the figure is drawn with every text as it is: a dollar sign in a name starts no formula."""
    import matplotlib
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        text.set_text(legible(text.get_text()))
        text.set_parse_math(False)
    settings: Any = {"svg.fonttype": "none", "svg.hashsalt": "edgefel", "text.parse_math": False}
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        # the browser has glyphs that matplotlib's font lacks
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        yield


def _rewrite(element: ElementTree.Element, prefix: str) -> None:
    """Local names, styles as attributes, ids that are unique in the page, and what `describe` said."""
    element.tag = _local(element.tag)
    attributes = {_local(name): value for name, value in element.attrib.items()}
    styles = (part.partition(":") for part in attributes.pop("style", "").split(";"))
    attributes |= {name.strip(): value.strip() for name, _, value in styles if value}
    attributes.pop("font-family", None)
    if font := attributes.pop("font", ""):  # older versions of matplotlib: "bold 12px 'DejaVu Sans'"
        attributes["font-size"] = next(word for word in font.split() if word.endswith("px"))
        if weight := re.match(r"bold|\d00\b", font):
            attributes["font-weight"] = weight[0]
    identity = attributes.pop("id", "")
    element.attrib.clear()
    if "d" in attributes:
        attributes["d"] = _DECIMALS.sub(r"\1", attributes["d"])
    for name, value in attributes.items():
        value = value.replace("url(#", f"url(#{prefix}-")
        if name == "href" and value.startswith("#"):
            value = f"#{prefix}-{value[1:]}"
        element.set(name, _IN_PAGE.get(value, value))
    kind, described, hint = identity.partition("|")
    if described:
        element.set("class", kind)
        if hint:
            title = ElementTree.Element("title")
            title.text = hint
            element.insert(0, title)
    elif identity and element.tag != "g":  # nothing refers to a group
        element.set("id", f"{prefix}-{identity}")


def _local(name: str) -> str:
    return name.rpartition("}")[2]
