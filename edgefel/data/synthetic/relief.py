"""The head as a height field, and the folds in its skin: what the light falls on.

The field is a smooth head plus Gaussian bumps (nose, brow ridge, cheeks, lips, chin) that action units move,
minus creases. Shading is Lambert's, with a highlight, darkened hollows and a warm tint in the shade.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from edgefel.data.synthetic.canvas import Canvas, Field, Grid, draw, gaussian
from edgefel.data.synthetic.geometry import Face
from edgefel.data.synthetic.shapes import SIGN, Points, smooth_each

# A bump: x, y, its widths, and the amounts of height, redness and darkness at its centre.
Bump = tuple[float, float, float, float, float, float, float]

_F = np.float32
_FAINT = 0.05  # weaker folds are not drawn
_HALF_WIDTH = 6  # of a broad fold, in 1/16 pixels
_POUCH = np.stack([np.zeros(4), 0.07 + 0.03 * np.sin(np.linspace(0, np.pi, 4))], 1)
_BAG = np.stack([np.zeros(4), 0.03 + 0.13 * np.linspace(0, 1, 4) ** 0.5], 1)
# OpenBLAS starts threads above 2^18 multiplications
_SERIAL_PRODUCT = 200_000


@dataclass(frozen=True)
class Relief:
    """Fields [n, n] in face units. `depth`: coarse distance towards the viewer, for turning the head.
    `height`: detailed, for shading. `red`, `dark`: pigment. `crease`: 0 to 1."""

    grid: Grid
    depth: Field
    height: Field
    red: Field
    dark: Field
    crease: Field


@dataclass(frozen=True)
class Light:
    """direction: unit vector towards the light (x right, y down, z to the viewer); colour, ambient: RGB."""

    direction: tuple[float, float, float]
    colour: tuple[float, float, float]
    ambient: tuple[float, float, float]
    gloss: float


def build_relief(face: Face, grid: Grid) -> Relief:
    """The height field of a face on `grid`."""
    bumps = np.array([*_middle_bumps(face), *_side_bumps(face, 0), *_side_bumps(face, 1)])
    height, red, dark = gaussian_sums(bumps, grid)
    across = (grid.x / (1.20 * face.identity.face_width)).astype(np.float32) ** 2
    down = ((grid.y - 0.15) / (1.95 + face.mouth.jaw)).astype(np.float32) ** 2
    radius = across[None, :] + down[:, None]
    crease = fold_field(face, grid)
    depth = np.maximum(height, 0) * _F(0.8) - _F(0.95) * np.minimum(radius, _F(1.25)) + _F(0.95)
    dome = np.sqrt(np.maximum(_F(1) - radius, _F(0.02))) * _F(1.05) + height - _F(0.035) * crease
    return Relief(grid, gaussian(depth, 0.09 * grid.scale), dome, red, dark, crease)


def gaussian_sums(bumps: NDArray[np.float64], grid: Grid) -> tuple[Field, Field, Field]:
    """Sums of separable Gaussians: three fields [n, n] from bumps [m, 7]."""
    # Factors are rounded to multiples of 2^-18, so that products and sums are exact in float64 and the
    # result has the same bits whatever order and however many threads the matrix product uses.
    step = 2.0**18
    along_x = (grid.x - bumps[:, 0:1]) * (1 / bumps[:, 2:3])
    along_y = (grid.y - bumps[:, 1:2]) * (1 / bumps[:, 3:4])
    along_x = np.rint(np.exp(-0.5 * along_x * along_x) * step) * (1 / step)
    along_y = np.exp(-0.5 * along_y * along_y)
    weighted = np.rint(along_y[:, None, :] * (bumps[:, 4:, None] * step)) * (1 / step)
    rows = weighted.reshape(len(bumps), -1).T
    total = np.empty((len(rows), grid.side), np.float32)
    # In pieces that OpenBLAS multiplies on the calling thread: waking its others takes longer than the
    # product, and far longer where every core already draws faces.
    piece = max(_SERIAL_PRODUCT // (len(bumps) * grid.side), 1)
    for start in range(0, len(rows), piece):
        total[start : start + piece] = rows[start : start + piece] @ along_x
    height, red, dark = total.reshape(3, grid.side, grid.side)
    return height, red, dark


def _middle_bumps(face: Face) -> list[Bump]:
    identity, mouth = face.identity, face.mouth
    nose, tip = identity.nose_height, face.nose_y
    up = 0.5 * sum(face.nose_up)
    middle = len(mouth.top) // 2
    top, inner, bottom = mouth.top[middle, 1], mouth.inner_bottom[middle, 1], mouth.bottom[middle, 1]
    chin = identity.chin + mouth.jaw
    raised, frown = face.both(17), face.both(4)
    half = float(mouth.top[-1, 0] - mouth.top[0, 0]) / 2
    return [
        (0, 0.10, 0.11, 0.22, 0.11 * nose, 0, 0),
        (0, 0.38, 0.12, 0.22, 0.19 * nose, 0.05, 0),
        (0, tip - 0.04 - 0.5 * up, 0.125, 0.11, 0.24 * nose, 0.14, 0),
        (0, tip + 0.135 - up, 0.17, 0.045, -0.05, 0, 0.26),
        (0, -0.60, 0.70, 0.32, 0.07, 0, 0),
        (0, 0.5 * (tip + 0.1 + top), 0.035, 0.07, -0.025, 0, 0.05),
        (0, top - 0.02, 0.8 * half, 0.07, 0.045, 0, 0),
        (0, 0.35 * inner + 0.65 * bottom, 0.55 * half, 0.045, 0.055, 0, 0),
        (0, bottom + 0.085, 0.24, 0.05, -0.05 - 0.02 * raised, 0, 0.13 + 0.1 * raised),
        (0, 0.5 * (bottom + chin) + 0.06, 0.24, 0.13, 0.10 + 0.05 * raised, 0.05, 0),
        (0, chin + 0.22, 0.7, 0.13, 0, 0, 0.42),
        (0, -0.18, 0.09, 0.13, -0.03 - 0.02 * frown, 0.03, 0.03 + 0.06 * frown),
    ]


def _side_bumps(face: Face, side: int) -> list[Bump]:
    identity, au, sign = face.identity, face.sides[side], SIGN[side]
    eye, brow, up = face.eyes[side], face.brows[side], face.nose_up[side]
    wing, dent = identity.nose_width, au[14]
    smile = max(au[12], 0.8 * au[6])
    corner_x, corner_y = face.mouth.top[0 if side == 0 else -1].tolist()
    age = identity.age
    brow_y = float(brow[8, 1])
    eye_y = eye.pupil[1] + 0.01
    bag = 0.03 + 0.05 * age + 0.06 * au[6]
    return [
        (sign * 0.50, brow_y + 0.02, 0.30, 0.075, 0.055, 0, 0),
        (sign * 0.36, 0.5 * (brow_y + eye_y) - 0.02, 0.17, 0.09, -0.06, 0.04, 0.14 + 0.10 * au[4]),
        (sign * 0.50, eye_y, 0.25, 0.14, -0.05, 0.05, 0.08 + 0.05 * identity.makeup),
        (sign * 0.50, eye_y, 0.17, 0.10, 0.06, 0, 0),
        (sign * 0.50, 0.205 - 0.02 * au[6], 0.22, 0.045, -0.012 - bag * 0.35, 0.04, 0.04 + bag),
        (sign * (wing - 0.035), face.nose_y + 0.01 - up, 0.075, 0.075, 0.11, 0.10, 0),
        (sign * (wing + 0.075), face.nose_y - 0.02 - up, 0.05, 0.10, -0.05 - 0.02 * au[9], 0.03, 0.10),
        (sign * 0.66, 0.40 - 0.05 * smile, 0.25, 0.20, 0.055 + 0.10 * smile, 0.12 + 0.08 * smile, 0),
        (sign * 0.72, 0.92, 0.20, 0.24, -0.035 * (1 - smile), 0, 0.04 * (1 - smile) + 0.05 * age),
        (sign * 1.02, -0.25, 0.12, 0.40, -0.05, 0, 0.08),
        (sign * 1.08, 0.75, 0.16, 0.50, 0, 0, 0.14),
        (corner_x + sign * 0.05, corner_y + 0.01, 0.055, 0.06, -0.03 - 0.05 * dent, 0, 0.06 + 0.16 * dent),
        (sign * 0.78, corner_y, 0.14, 0.16, 0.05 * dent + 0.03 * au[12], 0, 0),
        (sign * 0.20, brow_y + 0.03, 0.09, 0.06, 0.06 * au[4], 0, 0),
    ]


# blood shows as less green and blue; folds are dark, and warm where light passes through the skin
_BLOOD = np.array([0.0, 0.85, 0.75], np.float32)[:, None, None]
_FOLD = np.array([0.10, 0.24, 0.28], np.float32)[:, None, None]


def shade(relief: Relief, light: Light) -> tuple[Field, Field]:
    """Multipliers for red, green and blue [3, n, n], and additive highlights [n, n]."""
    height, grid = relief.height, relief.grid
    slopes = [
        cv2.Sobel(height, cv2.CV_32F, *order, ksize=3, scale=0.125 * grid.scale) for order in ((1, 0), (0, 1))
    ]
    slope_x, slope_y = slopes
    inverse = np.reciprocal(np.sqrt(slope_x * slope_x + slope_y * slope_y + _F(1)))

    def along(x: float, y: float, z: float) -> Field:
        """How far the surface faces a direction: the product of its normal with it [n, n]."""
        return np.asarray((slope_x * _F(-x) - slope_y * _F(y) + _F(z)) * inverse)

    lx, ly, lz = light.direction
    lambert = np.maximum(along(0.85 * lx, 0.85 * ly, 0.85 * lz) + _F(0.15), 0)
    # hollows see less of the sky: compare the height with its surroundings
    hollow = np.minimum(height - gaussian(height, 0.10 * grid.scale), 0)
    sky = hollow * _F(2.6) - _F(0.22) * relief.crease - relief.dark + _F(1)
    sky = np.maximum(sky, _F(0.25))
    shadow = _cast_shadow(relief, light)
    direct = lambert * (1 - _F(0.5) * shadow) * (_F(0.45) + _F(0.55) * sky)
    multipliers = sky * np.array(light.ambient, np.float32)[:, None, None]
    multipliers += direct * np.array(light.colour, np.float32)[:, None, None]
    multipliers *= _F(1) - (relief.red * _BLOOD + relief.crease * _FOLD)
    half = np.array([lx, ly, lz + 1.0])
    shine = np.maximum(along(*(half / np.linalg.norm(half)).tolist()), 0)
    for _ in range(4):
        shine *= shine
    return multipliers, shine * (_F(1) - shadow) * sky * _F(light.gloss)


def _cast_shadow(relief: Relief, light: Light) -> Field:
    """Soft shadow [n, n] in 0..1 of what stands out (nose, brow ridge): higher ground towards the light."""
    lx, ly, lz = light.direction
    reach, height = 0.16, relief.height
    side, pixels = len(height), reach * relief.grid.scale
    margin = int(pixels) + 1
    top, left = margin + round(ly * pixels), margin + round(lx * pixels)
    padded = cv2.copyMakeBorder(height, margin, margin, margin, margin, cv2.BORDER_REPLICATE)
    rise = padded[top : top + side, left : left + side] - height - _F(reach * max(lz, 0.25) * 0.9)
    return np.clip(rise * _F(5.0), 0, 1)


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
