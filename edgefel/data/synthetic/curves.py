"""Smooth curves through a few points, by matrices that are made once."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]  # [n, 2], x to the right and y down, in face units


@lru_cache(maxsize=64)
def _matrix(controls: int, per_segment: int, closed: bool) -> NDArray[np.float64]:
    """Catmull-Rom weights [points, controls]."""
    segments = controls if closed else controls - 1
    rows = []
    for segment in range(segments):
        for step in range(per_segment):
            rows.append(_row(segment, step / per_segment, controls, closed))
    if not closed:
        rows.append(_row(segments - 1, 1.0, controls, closed))
    return np.array(rows)


def _row(segment: int, t: float, controls: int, closed: bool) -> NDArray[np.float64]:
    weights = (-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, t**3 - t**2)
    row = np.zeros(controls)
    for offset, weight in zip((-1, 0, 1, 2), weights, strict=True):
        index = (segment + offset) % controls if closed else min(max(segment + offset, 0), controls - 1)
        row[index] += 0.5 * weight
    return row


def smooth(
    points: Sequence[Sequence[float]] | Points, per_segment: int = 4, *, closed: bool = False
) -> Points:
    """A Catmull-Rom curve [m, 2] through `points` [n, 2]."""
    controls = np.asarray(points, dtype=np.float64)
    return np.asarray(_matrix(len(controls), per_segment, closed) @ controls)


def bundle(controls: Points) -> Points:
    """Curves [count, m, 2] through controls [n, count, 2], 3 points to a segment."""
    length, count = controls.shape[:2]
    return smooth(controls.reshape(length, -1), 3).reshape(-1, count, 2).transpose(1, 0, 2)


def columns(x: NDArray[np.float64], y: NDArray[np.float64] | float) -> Points:
    """Points [n, 2] from coordinates [n]."""
    points = np.empty((len(x), 2))
    points[:, 0] = x
    points[:, 1] = y
    return points


def shifted(points: Points, x: float, y: float) -> Points:
    """`points` [..., 2], moved."""
    return np.asarray(points + np.array((x, y)))
