"""Figures inside a page."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import cv2
import pytest

from edgefel.report.figures import COLOURS, LIGHT, describe, new_figure, save_png, to_svg


def figure_of(title: str = "title", colour: str = LIGHT["c0"]):
    figure = new_figure(4, 3)
    axes = figure.subplots()
    axes.bar((1, 2), (3, 4), color=colour)
    (dot,) = axes.plot(1, 3, "o", color="black")
    describe(dot, "dot", title)
    axes.imshow([[0, 1]], extent=(0, 1, 0, 1))
    axes.set_title(title, fontweight="bold")
    return figure


def test_it_has_a_text_alternative_and_a_size_and_no_inline_style():
    text = to_svg(figure_of(), "bars & a <dot>")
    root = ElementTree.fromstring(text)
    assert (root.get("role"), root.get("aria-label")) == ("img", "bars & a <dot>")
    assert root.get("viewBox") == "0 0 288 216"
    assert root.get("width") == "480"
    assert {"style", "metadata", "script"}.isdisjoint(element.tag for element in root.iter())
    assert not any("style" in element.attrib for element in root.iter())
    title = next(element for element in root.iter("text") if element.text == "title")
    assert title.get("font-size") == "12px"
    assert title.get("font-weight") in ("700", "bold")
    assert "font-family" not in title.attrib


def test_colours_follow_the_page():
    text = to_svg(figure_of(), "bars")
    assert 'fill="var(--c0)"' in text
    assert 'fill="var(--paper)"' in text
    assert 'stroke="currentColor"' in text
    assert not any(light in text for light, _ in COLOURS.values())
    assert 'fill="#123456"' in to_svg(figure_of(colour="#123456"), "bars")


def test_the_same_figure_is_the_same_text_and_ids_are_its_own():
    first, again, other = (to_svg(figure_of(title), "bars") for title in ("a", "a", "b"))
    assert first == again
    ids = [
        {element.get("id") for element in ElementTree.fromstring(text).iter() if element.get("id")}
        for text in (first, other)
    ]
    assert ids[0]
    assert not ids[0] & ids[1]
    root = ElementTree.fromstring(first)
    referred = {element.get("href")[1:] for element in root.iter("use")}
    referred |= {element.get("clip-path")[5:-1] for element in root.iter() if element.get("clip-path")}
    assert referred <= ids[0]


@pytest.mark.parametrize("title", ["<script>x</script>", "$\\frac{$", "a | b", "\x1b\ufffe"])
def test_a_text_is_only_a_text(title, tmp_path):
    figure = figure_of(title)
    root = ElementTree.fromstring(to_svg(figure, title.translate({27: "", 0xFFFE: ""})))
    assert root.find(".//script") is None
    shown = title.translate(dict.fromkeys((27, 0xFFFE), "\ufffd"))
    assert [element.text for element in root.iter("title")] == [shown]
    assert shown in [element.text for element in root.iter("text")]
    save_png(figure, tmp_path / "figure.png")
    assert cv2.imread(str(tmp_path / "figure.png")).shape == (360, 480, 3)


def test_paths_have_two_decimals_and_lie_where_they_were():
    figure = new_figure(4, 3)
    axes = figure.subplots()
    figure.set_layout_engine("none")  # which depends on how wide a text is drawn
    axes.plot((0, 1 / 3, 1), (0, 1 / 7, 1), color=LIGHT["c0"])
    paths = [element.get("d") for element in ElementTree.fromstring(to_svg(figure, "line")).iter("path")]
    assert not [path for path in paths if re.search(r"\.\d{3}", path)]
    (line,) = [path for path in paths if path.count("L") == 2]
    found = [float(number) for number in re.findall(r"-?\d+\.?\d*", line)]
    figure.draw_without_rendering()
    # of the canvas from below, of the page from above
    pixels = axes.transData.transform([(0, 0), (1 / 3, 1 / 7), (1, 1)]) * 72 / figure.dpi
    assert found == pytest.approx([value for x, y in pixels for value in (x, 216 - y)], abs=0.011)
