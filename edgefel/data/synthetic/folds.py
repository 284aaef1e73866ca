"""Wrinkles and folds that an expression and age draw in the skin."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from edgefel.data.synthetic.canvas import Canvas, Field, Grid, draw
from edgefel.data.synthetic.geometry import Face
from edgefel.data.synthetic.shapes import SIGN, Points, smooth_each

_FAINT = 0.05  # weaker folds are not drawn
_HALF_WIDTH = 6  # of a broad fold, in 1/16 pixels


class Fold(NamedTuple):
    """A smooth line through `points`, as deep as `strength` (0 to 1), broad or sharp."""

    points: Sequence[Sequence[float]] | Points
    strength: float
    broad: bool


def fold_field(face: Face, grid: Grid) -> Field:
    """Depth of the folds [n, n] in 0..1."""
    mask = Canvas(grid.side, 1)
    parts = (_cheek_folds, _nose_folds, _eye_folds, _brow_folds)
    folds = [fold for side in (0, 1) for part in parts for fold in part(face, side)]
    for length in {len(fold.points) for fold in folds}:
        alike = [fold for fold in folds if len(fold.points) == length]
        curves = grid.to_pixels(smooth_each(np.array([fold.points for fold in alike]).transpose(1, 0, 2)))
        for fold, curve in zip(alike, curves, strict=True):
            value = round(255 * min(fold.strength, 1.0))
            # two thin lines side by side: OpenCV takes five times as long for a thick one
            lines = [curve - _HALF_WIDTH, curve + _HALF_WIDTH] if fold.broad else [curve]
            draw(mask.pixels, lines, value, thick=1)
    return np.minimum(mask.blurred(0.019) * np.float32(1.35), np.float32(1))


def _cheek_folds(face: Face, side: int) -> Iterator[Fold]:
    """Nasolabial fold (9, 12), lines beside the mouth (14, 15, 20)."""
    au, s, age = face.sides[side], SIGN[side], face.identity.age
    x, cy = face.mouth.top[0 if side == 0 else -1].tolist()
    cx = abs(x)
    wing, nose = face.identity.nose_width, face.nose_y
    up = face.nose_up[side]
    # strength of each line, x and y of its points
    lines = (
        (
            0.05 + 0.32 * age + 0.55 * au[12] + 0.65 * au[9] + 0.2 * au[20] + 0.15 * au[15],
            (wing + 0.03, wing + 0.16 + 0.06 * au[12], cx + 0.11 + 0.04 * au[12], cx + 0.14),
            (nose - 0.08 - up, nose + 0.10 - up, cy - 0.12, cy + 0.08 + 0.06 * au[15]),
        ),
        (
            0.75 * au[15] + 0.15 * age - 0.4 * au[12],
            (cx + 0.02, cx + 0.06, cx + 0.05),
            (cy + 0.01, cy + 0.10, cy + 0.20),
        ),
        (0.75 * au[14] + 0.22 * au[12], (cx + 0.05, cx + 0.09, cx + 0.055), (cy - 0.09, cy, cy + 0.09)),
        (0.8 * au[20], (cx + 0.10, cx + 0.15, cx + 0.11), (cy - 0.12, cy, cy + 0.14)),
    )
    for strength, across, down in lines:
        if strength > _FAINT:
            yield Fold([(s * x, y) for x, y in zip(across, down, strict=True)], strength, broad=True)


def _nose_folds(face: Face, side: int) -> Iterator[Fold]:
    """Wrinkles across the root of the nose (9)."""
    au, s = face.sides[side], SIGN[side]
    for k in range(3 if au[9] > _FAINT else 0):
        y = 0.02 + 0.085 * k
        line = [(s * (0.04 + 0.02 * k), y - 0.045), (s * (0.13 + 0.02 * k), y), (s * 0.20, y + 0.07)]
        yield Fold(line, (1.0 - 0.1 * k) * au[9], broad=False)


def _eye_folds(face: Face, side: int) -> Iterator[Fold]:
    """Crow's feet (6), pouch below the eye (6, 7), bags of age."""
    age, au, s = face.identity.age, face.sides[side], SIGN[side]
    feet = 0.85 * au[6] + 0.28 * max(age - 0.35, 0) + 0.2 * au[12]
    for k, slope in enumerate((-0.13, -0.02, 0.10) if feet > _FAINT else ()):
        y = -0.035 + 0.05 * k
        line = [(s * (0.79 + 0.01 * k), y), (s * 0.87, y + 0.005 + 0.5 * slope), (s * 0.97, y + 0.01 + slope)]
        yield Fold(line, feet, broad=False)
    lower = face.eyes[side].lower
    pouch = 0.6 * au[6] + 0.45 * au[7] + 0.3 * age
    if pouch > _FAINT:
        yield Fold(lower[1:11:3] + _POUCH, pouch, broad=False)
    bag = 0.5 * max(age - 0.3, 0) + 0.35 * au[6] + 0.4 * au[9]
    if bag > _FAINT:
        yield Fold(lower[0:10:3] + _BAG, bag, broad=True)


_POUCH = np.stack([np.zeros(4), 0.07 + 0.03 * np.sin(np.linspace(0, np.pi, 4))], 1)
_BAG = np.stack([np.zeros(4), 0.03 + 0.13 * np.linspace(0, 1, 4) ** 0.5], 1)


def _brow_folds(face: Face, side: int) -> Iterator[Fold]:
    """Forehead lines (1, 2), frown (4)."""
    identity, au, s = face.identity, face.sides[side], SIGN[side]
    inner_y, outer_y = face.brows[side][[0, 10], 1].tolist()
    frown = 0.8 * au[4] + 0.2 * max(identity.age - 0.4, 0)
    if frown > _FAINT:
        line = [(s * 0.075, inner_y + 0.08), (s * 0.06, inner_y - 0.05), (s * 0.08, inner_y - 0.14)]
        yield Fold(line, frown, broad=True)
    top, worn = identity.forehead + 0.12, 0.45 * max(identity.age - 0.3, 0)
    for k in range(3 if max(au[1], au[2], worn) > _FAINT else 0):
        share = (k + 0.7) / 3.4
        inner = (1 - share) * (inner_y - 0.10) + share * top
        outer = (1 - share) * (outer_y - 0.12) + share * top
        middle = [(0.0, inner + 0.015), (s * 0.2, inner), (s * 0.36, 0.5 * (inner + outer) - 0.01)]
        lateral = [(s * 0.36, 0.5 * (inner + outer) - 0.01), (s * 0.55, outer), (s * 0.74, outer + 0.06)]
        fade = 1 - 0.15 * k
        for line, strength in ((middle, 0.8 * au[1] * fade), (lateral, 0.75 * au[2] * fade - 0.2 * worn)):
            if strength + worn > _FAINT:
                yield Fold(line, strength + worn, broad=False)
