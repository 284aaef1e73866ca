"""Axes, ticks, labels and marks as SVG text. Colours and fonts are the page's: marks carry classes, not styles."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

# mean width of a character of the labels (12 px, system sans serif) in px; wide enough for capitals not to touch
CHARACTER = 6.6
LINE = 15.0


@dataclass(frozen=True)
class Axis:
    """Maps values to pixels. low, high: the ends, in the values' unit; start, end: in pixels, in either order.

    title: with the unit, as it is printed. Raises ValueError for an empty range, and a logarithm of nothing.
    """

    title: str
    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __post_init__(self) -> None:
        if not self.low < self.high or (self.log and self.low <= 0):
            raise ValueError(f"axis '{self.title}' from {self.low} to {self.high}")

    def at(self, value: float) -> float:
        """Pixels; values beyond the ends lie at them."""
        value = min(max(value, self.low), self.high)
        if self.log:
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    @property
    def ticks(self) -> list[float]:
        """Round values within the ends, about six."""
        return log_ticks(self.low, self.high) if self.log else linear_ticks(self.low, self.high)


def padded(values: Sequence[float], *, log: bool = False, least: float | None = None) -> tuple[float, float]:
    """Ends of an axis on which all values lie clear of the edges; not below `least`."""
    low, high = min(values), max(values)
    if log:
        factor = max((high / low) ** 0.08, 1.15)
        return low / factor, high * factor
    room = 0.1 * (high - low) or 0.1 * abs(high) or 1.0
    bottom = low - room
    return (bottom if least is None else max(least, bottom)), high + room


def linear_ticks(low: float, high: float, count: int = 6) -> list[float]:
    """Multiples of 1, 2, 2.5 or 5 times a power of ten within the ends."""
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten; only powers over many decades, and linear ones where too few fall within."""
    decades = math.log10(high / low)
    steps = (1,) if decades > 4 else (1, 2, 5)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [step * 10.0**power for power in powers for step in steps if low <= step * 10.0**power <= high]
    return ticks if len(ticks) >= 3 else linear_ticks(low, high, 5)


def tick_text(value: float) -> str:
    """The shortest form: "0.5", "20", "1 000"."""
    return f"{value:,.6g}".replace(",", " ") if abs(value) < 1e6 else f"{value:.3g}"


def horizontal_axis(axis: Axis, top: float, bottom: float) -> str:
    """Ticks and title below, grid lines up to `top`."""
    parts = []
    for tick in axis.ticks:
        x = axis.at(tick)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{top:.1f}" y2="{bottom:.1f}"/>')
        parts.append(text(x, bottom + 18, tick_text(tick), "tick", "middle"))
    middle = (axis.start + axis.end) / 2
    parts.append(
        f'<line class="axis" x1="{axis.start:.1f}" x2="{axis.end:.1f}" y1="{bottom:.1f}" y2="{bottom:.1f}"/>'
    )
    return "".join(parts) + text(middle, bottom + 40, axis.title, "axis-title", "middle")


def vertical_axis(axis: Axis, left: float, right: float) -> str:
    """Ticks left, grid lines to `right`; the title stands level above the axis, where it reads without turning."""
    parts = []
    for tick in axis.ticks:
        y = axis.at(tick)
        parts.append(f'<line class="grid" x1="{left:.1f}" x2="{right:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(text(left - 8, y + 4, tick_text(tick), "tick", "end"))
    return "".join(parts) + text(2, min(axis.start, axis.end) - 14, axis.title, "axis-title")


def text(x: float, y: float, words: str, kind: str, anchor: str = "start") -> str:
    """Escaped text; kind: its class."""
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def place(x: float, y: float, width: float, height: float) -> str:
    """Attributes of a rectangle, in px."""
    return f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'


def mark(shape: str, hint: str) -> str:
    """A shape that says `hint` when pointed at; `shape` is SVG without its end: '<circle r="3"'."""
    name = shape[1:].split(" ", 1)[0]
    return f"{shape}><title>{escape(hint)}</title></{name}>"


def figure(width: float, height: float, name: str, parts: Sequence[str]) -> str:
    """The whole image, scaled to the page's width; name: what a screen reader says it shows."""
    return (
        f'<svg viewBox="0 0 {width:.0f} {height:.0f}" role="img" aria-label="{escape(name)}">'
        + "".join(parts)
        + "</svg>"
    )


def width_of(words: str) -> float:
    """About how wide a label is, in px."""
    return CHARACTER * len(words)


def shortened(words: str, pixels: float) -> str:
    """As much as fits, with an ellipsis for the rest."""
    room = max(1, int(pixels / CHARACTER))
    return words if len(words) <= room else words[: room - 1].rstrip(" ,") + "…"


@dataclass(frozen=True)
class Box:
    """Left, top, right, bottom in px."""

    left: float
    top: float
    right: float
    bottom: float

    def overlaps(self, other: Box) -> bool:
        """Whether they share any area."""
        return (
            self.left < other.right
            and other.left < self.right
            and self.top < other.bottom
            and other.top < self.bottom
        )

    def within(self, other: Box) -> bool:
        """Whether it lies inside the other."""
        return (
            self.left >= other.left
            and self.top >= other.top
            and self.right <= other.right
            and self.bottom <= other.bottom
        )


@dataclass(frozen=True)
class Spot:
    """Something to be labelled: centre and radius in px."""

    x: float
    y: float
    radius: float
    label: str


def place_labels(spots: Sequence[Spot], bounds: Box, lines: Sequence[Box] = ()) -> list[Box | None]:
    """Where each label goes so that none covers a mark or another label; None where there is no room.

    The first spots choose first, so give the most important ones first. Eight places are tried around each; those that
    `lines` cross only where there is no other.
    """
    marks = [
        Box(spot.x - spot.radius, spot.y - spot.radius, spot.x + spot.radius, spot.y + spot.radius)
        for spot in spots
    ]
    taken: list[Box] = []
    places: list[Box | None] = []
    for spot in spots:
        free = [
            box
            for box in _around(spot)
            if box.within(bounds) and not any(box.overlaps(other) for other in (*marks, *taken))
        ]
        clear = (box for box in free if not any(box.overlaps(line) for line in lines))
        chosen = next(clear, free[0] if free else None)
        places.append(chosen)
        if chosen is not None:
            taken.append(chosen)
    return places


def _around(spot: Spot) -> list[Box]:
    """Right, left, above, below, then the corners."""
    width, gap = width_of(spot.label), spot.radius + 4
    rows = {"middle": spot.y - LINE / 2, "above": spot.y - gap - LINE + 2, "below": spot.y + gap - 2}
    columns = {"right": spot.x + gap, "left": spot.x - gap - width, "middle": spot.x - width / 2}
    order = [
        *(("right", "middle"), ("left", "middle"), ("middle", "above"), ("middle", "below")),
        *(("right", "above"), ("right", "below"), ("left", "above"), ("left", "below")),
    ]
    return [
        Box(columns[column], rows[row], columns[column] + width, rows[row] + LINE) for column, row in order
    ]
