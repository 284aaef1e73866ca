"""Points, smooth curves and colours in face units: what the parts of a face are made of."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

Points = NDArray[np.float64]  # [n, 2], x to the right and y down, in face units
Shapes = Sequence[Points] | NDArray[np.float64]  # a list of [n, 2], or [m, n, 2]
Colour = tuple[float, ...]  # red, green, blue, 0 to 255

SIGN = (-1.0, 1.0)  # of x on side 0 (left) and side 1 (right)
MIRROR = np.array(SIGN)
_ANGLE = np.linspace(0, 2 * np.pi, 25)[:-1]
CIRCLE = np.stack([np.cos(_ANGLE), np.sin(_ANGLE)], 1)  # [24, 2], radius 1


@lru_cache(maxsize=64)
def _catmull_rom(controls: int, per_segment: int, closed: bool) -> NDArray[np.float64]:
    """Weights of the control points [points, controls]."""
    segments = controls if closed else controls - 1
    rows = np.zeros((segments * per_segment + (not closed), controls))
    for number, row in enumerate(rows):
        segment = min(number // per_segment, segments - 1)
        t = (number - segment * per_segment) / per_segment
        weights = (-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, t**3 - t**2)
        for index, weight in enumerate(weights, segment - 1):
            row[index % controls if closed else min(max(index, 0), controls - 1)] += 0.5 * weight
    return rows


def smooth(points: ArrayLike, per_segment: int = 4, *, closed: bool = False) -> Points:
    """A Catmull-Rom curve [m, 2] through `points` [n, 2]."""
    controls = np.asarray(points, dtype=np.float64)
    return np.asarray(_catmull_rom(len(controls), per_segment, closed) @ controls)


def smooth_each(controls: Points) -> Points:
    """Curves [count, m, 2] through `controls` [n, count, 2], three points to a segment."""
    length, count = controls.shape[:2]
    return smooth(controls.reshape(length, -1), 3).reshape(-1, count, 2).transpose(1, 0, 2)


def ellipse(x: float, y: float, rx: float, ry: float) -> Points:
    """An outline [24, 2]."""
    return np.asarray(CIRCLE * (rx, ry) + (x, y))


def ring(upper: Points, lower: Points) -> Points:
    """The outline between two edges that run in the same direction."""
    return np.concatenate([upper, lower[::-1]])


def mirrored(right: Points) -> Points:
    """The outline of a right half and its mirror image."""
    return ring(right, right * MIRROR)


def scaled(colour: Colour, factor: float) -> Colour:
    """A lighter or darker colour."""
    return tuple(min(255.0, part * factor) for part in colour)


def mixed(first: Colour, second: Colour, share: float) -> Colour:
    """`share` of the second colour in the first."""
    return tuple(one + (other - one) * share for one, other in zip(first, second, strict=True))
