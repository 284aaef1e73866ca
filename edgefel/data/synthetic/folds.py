"""Wrinkles and folds: which lines an expression and age draw in the skin."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from edgefel.data.synthetic.canvas import SHIFT, Field, Grid, Mask
from edgefel.data.synthetic.curves import Points, bundle
from edgefel.data.synthetic.geometry import SIGN, Face

# weaker folds than this are not drawn
_FAINT = 0.05
# of a broad fold, in fixed-point pixels
_HALF_WIDTH = 6


class Fold(NamedTuple):
    """A smooth line through `points`, as deep as `strength` (0 to 1), broad or sharp."""

    points: Sequence[Sequence[float]] | Points
    strength: float
    broad: bool


def fold_field(face: Face, grid: Grid) -> Field:
    """Depth of the folds [n, n] in 0..1."""
    mask = Mask(grid)
    folds = _folds(face)
    for length in {len(fold.points) for fold in folds}:
        alike = [fold for fold in folds if len(fold.points) == length]
        curves = grid.to_pixels(bundle(np.array([fold.points for fold in alike]).transpose(1, 0, 2)))
        for fold, curve in zip(alike, curves, strict=True):
            value = round(255 * min(fold.strength, 1.0))
            # two thin lines side by side: OpenCV takes five times as long for a thick one
            lines = [curve - _HALF_WIDTH, curve + _HALF_WIDTH] if fold.broad else [curve]
            cv2.polylines(mask.values, lines, False, value, 1, cv2.LINE_AA, SHIFT)
    return np.minimum(mask.blurred(0.019) * np.float32(1.35), np.float32(1))


def _folds(face: Face) -> list[Fold]:
    return [
        fold
        for side in (0, 1)
        for part in (_cheek_folds, _nose_folds, _eye_folds, _brow_folds)
        for fold in part(face, side)
    ]


def _cheek_folds(face: Face, side: int) -> list[Fold]:
    """Nasolabial fold (9, 12), lines beside the mouth (14, 15, 20)."""
    identity, au, s = face.identity, face.sides[side], SIGN[side]
    cx, cy = face.mouth.top[0 if side == 0 else -1].tolist()
    cx = abs(cx)
    up, wing, nose = face.nose_up[side], identity.nose_width, face.nose_y
    age = identity.age
    folds: list[Fold] = []

    def fold(strength: float, *points: tuple[float, float]) -> None:
        if strength > _FAINT:
            folds.append(Fold([(s * x, y) for x, y in points], strength, True))

    fold(
        0.05 + 0.32 * age + 0.55 * au[12] + 0.65 * au[9] + 0.2 * au[20] + 0.15 * au[15],
        (wing + 0.03, nose - 0.08 - up),
        (wing + 0.16 + 0.06 * au[12], nose + 0.10 - up),
        (cx + 0.11 + 0.04 * au[12], cy - 0.12),
        (cx + 0.14, cy + 0.08 + 0.06 * au[15]),
    )
    down = 0.75 * au[15] + 0.15 * age - 0.4 * au[12]
    fold(down, (cx + 0.02, cy + 0.01), (cx + 0.06, cy + 0.10), (cx + 0.05, cy + 0.20))
    dimple = 0.75 * au[14] + 0.22 * au[12]
    fold(dimple, (cx + 0.05, cy - 0.09), (cx + 0.09, cy), (cx + 0.055, cy + 0.09))
    fold(0.8 * au[20], (cx + 0.10, cy - 0.12), (cx + 0.15, cy), (cx + 0.11, cy + 0.14))
    return folds


def _nose_folds(face: Face, side: int) -> list[Fold]:
    """Wrinkles across the root of the nose (9)."""
    au, s = face.sides[side], SIGN[side]
    folds: list[Fold] = []
    for k in range(3 if au[9] > _FAINT else 0):
        y = 0.02 + 0.085 * k
        line = [(s * (0.04 + 0.02 * k), y - 0.045), (s * (0.13 + 0.02 * k), y), (s * 0.20, y + 0.07)]
        folds.append(Fold(line, (1.0 - 0.1 * k) * au[9], False))
    return folds


def _eye_folds(face: Face, side: int) -> list[Fold]:
    """Crow's feet (6), pouch below the eye (6, 7), bags of age."""
    identity, au, s = face.identity, face.sides[side], SIGN[side]
    feet = 0.85 * au[6] + 0.28 * max(identity.age - 0.35, 0) + 0.2 * au[12]
    folds: list[Fold] = []
    for k, slope in enumerate((-0.13, -0.02, 0.10) if feet > _FAINT else ()):
        y = -0.035 + 0.05 * k
        line = [(s * (0.79 + 0.01 * k), y), (s * 0.87, y + 0.005 + 0.5 * slope), (s * 0.97, y + 0.01 + slope)]
        folds.append(Fold(line, feet, False))
    lower = face.eyes[side].lower
    pouch = 0.6 * au[6] + 0.45 * au[7] + 0.3 * identity.age
    if pouch > _FAINT:
        folds.append(Fold(lower[1:11:3] + _POUCH, pouch, False))
    bag = 0.5 * max(identity.age - 0.3, 0) + 0.35 * au[6] + 0.4 * au[9]
    if bag > _FAINT:
        folds.append(Fold(lower[0:10:3] + _BAG, bag, True))
    return folds


_POUCH = np.stack([np.zeros(4), 0.07 + 0.03 * np.sin(np.linspace(0, np.pi, 4))], 1)
_BAG = np.stack([np.zeros(4), 0.03 + 0.13 * np.linspace(0, 1, 4) ** 0.5], 1)


def _brow_folds(face: Face, side: int) -> list[Fold]:
    """Forehead lines (1, 2), frown (4)."""
    identity, au, s = face.identity, face.sides[side], SIGN[side]
    brow = face.brows[side]
    inner_y, outer_y = float(brow[0, 1]), float(brow[10, 1])
    frown = 0.8 * au[4] + 0.2 * max(identity.age - 0.4, 0)
    folds: list[Fold] = []
    if frown > _FAINT:
        line = [(s * 0.075, inner_y + 0.08), (s * 0.06, inner_y - 0.05), (s * 0.08, inner_y - 0.14)]
        folds.append(Fold(line, frown, True))
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
                folds.append(Fold(line, strength + worn, False))
    return folds
