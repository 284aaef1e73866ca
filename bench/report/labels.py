"""Labels of a chart that cover neither a mark nor each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edgefel.report.figures import describe, legible, plain_text

# right, left, above, below, then the corners
_SIDES = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1))
_ALIGNMENT = {-1: ("right", "top"), 0: ("center", "center"), 1: ("left", "bottom")}


@dataclass(frozen=True)
class Spot:
    """A mark to be labelled: centre in the axes' data, radius in points."""

    x: float
    y: float
    radius: float
    label: str


def place_labels(axes: Any, spots: Sequence[Spot], line: Any = None, *, fontsize: float) -> list[Any]:
    """Draws the label of each spot for which there is room, and returns their Texts.

    Put the most important spots first: they choose first. Eight places are tried around each; those that the Line2D
    `line` crosses are the last choice. The layout of the figure is final afterwards.
    """
    from matplotlib.transforms import Bbox

    figure = axes.figure
    with plain_text(figure):
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
        scale, bounds = figure.dpi / 72, axes.get_window_extent()
        path = None if line is None else line.get_transform().transform_path(line.get_path())
        centres = [axes.transData.transform((spot.x, spot.y)) for spot in spots]
        taken = [
            Bbox([centre - scale * spot.radius, centre + scale * spot.radius])
            for spot, centre in zip(spots, centres, strict=True)
        ]
        texts = []
        for spot in spots:
            text = axes.annotate(
                legible(spot.label), (spot.x, spot.y), (0, 0), textcoords="offset points", fontsize=fontsize
            )
            describe(text, "label")
            free = []
            for side in _SIDES if spot.label else ():
                box = _move(text, spot, side)
                inside = bounds.contains(*box.min) and bounds.contains(*box.max)
                if inside and not box.count_overlaps(taken):
                    free.append((path is not None and path.intersects_bbox(box, filled=False), side))
            if free:
                taken.append(_move(text, spot, min(free, key=lambda found: found[0])[1]))
                texts.append(text)
            else:
                text.remove()
    return texts


def _move(text: Any, spot: Spot, side: tuple[int, int]) -> Any:
    """Puts the text at this side of its mark; returns the box that it takes."""
    gap = spot.radius + 2.4
    text.set_position((side[0] * gap, side[1] * gap))
    text.set(ha=_ALIGNMENT[side[0]][0], va=_ALIGNMENT[side[1]][1])
    return text.get_window_extent()
