"""The head as a height field: what the light falls on.

The field is a smooth head plus Gaussian bumps (nose, brow ridge, cheeks, lips, chin) that action units move,
minus creases. Shading is Lambert's, with a highlight, darkened hollows and a warm tint in the shade.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from edgefel.data.synthetic.canvas import Field, Grid
from edgefel.data.synthetic.curves import Points, smooth
from edgefel.data.synthetic.geometry import SIGN, Face

# A bump: x, y, its widths, and the amounts of height, redness and darkness at its centre.
Bump = tuple[float, float, float, float, float, float, float]


@dataclass(frozen=True)
class Relief:
    """Fields [n, n] in face units. `depth`: coarse distance towards the viewer, for turning the head.
    `height`: detailed, for shading. `red`, `dark`: pigment. `crease`: 0 to 1."""

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
    bumps = np.array(_bumps(face))
    height, red, dark = gaussian_sums(bumps, grid)
    width = face.identity.face_width
    radius = (grid.x[None, :] / (1.22 * width)) ** 2 + (
        (grid.y[:, None] - 0.15) / (1.95 + face.mouth.jaw)
    ) ** 2
    radius = radius.astype(np.float32)
    dome = np.sqrt(np.clip(1.0 - radius, 0.02, 1.0))
    crease = _creases(face, grid)
    depth = 0.95 * (1.0 - np.minimum(radius, 1.25)) + 0.8 * np.maximum(height, 0)
    return Relief(
        depth=np.asarray(cv2.GaussianBlur(depth, (0, 0), 0.09 * grid.scale), np.float32),
        height=1.05 * dome + height - 0.035 * crease,
        red=red,
        dark=dark,
        crease=crease,
    )


def gaussian_sums(bumps: np.ndarray, grid: Grid) -> tuple[Field, Field, Field]:  # type: ignore[type-arg]
    """Sums of separable Gaussians: three fields [n, n] from bumps [m, 7]."""
    # Factors are rounded to multiples of 2^-18, so that products and sums are exact in float64 and the
    # result has the same bits whatever order and however many threads the matrix product uses.
    step = 2.0**18
    along_x = np.exp(-0.5 * ((grid.x[None, :] - bumps[:, 0:1]) / bumps[:, 2:3]) ** 2)
    along_y = np.exp(-0.5 * ((grid.y[None, :] - bumps[:, 1:2]) / bumps[:, 3:4]) ** 2)
    along_x = np.round(along_x * step) / step
    fields = []
    for column in (4, 5, 6):
        used = bumps[:, column] != 0
        weighted = np.round(along_y[used] * bumps[used, column : column + 1] * step) / step
        fields.append((weighted.T @ along_x[used]).astype(np.float32))
    return fields[0], fields[1], fields[2]


def _bumps(face: Face) -> list[Bump]:
    return [*_middle_bumps(face), *_side_bumps(face, 0), *_side_bumps(face, 1)]


def _middle_bumps(face: Face) -> list[Bump]:
    identity, mouth = face.identity, face.mouth
    nose, tip = identity.nose_height, face.nose_y
    up = 0.5 * sum(face.nose_up)
    middle = len(mouth.top) // 2
    top, bottom = mouth.top[middle, 1], mouth.bottom[middle, 1]
    chin = identity.chin + mouth.jaw
    raised = face.both(17)
    return [
        (0, 0.10, 0.11, 0.22, 0.11 * nose, 0, 0),
        (0, 0.38, 0.12, 0.22, 0.19 * nose, 0.05, 0),
        (0, tip - 0.04 - 0.5 * up, 0.125, 0.11, 0.24 * nose, 0.16, 0),
        (0, tip + 0.135 - up, 0.17, 0.045, -0.05, 0, 0.30),
        (0, -0.60, 0.70, 0.32, 0.07, 0, 0),
        (0, 0.5 * (tip + 0.1 + top), 0.035, 0.07, -0.02, 0, 0.05),
        (0, top - 0.03, 0.30, 0.07, 0.035, 0, 0),
        (0, bottom + 0.075, 0.24, 0.05, -0.045 - 0.02 * raised, 0, 0.13 + 0.1 * raised),
        (0, 0.5 * (bottom + chin) + 0.06, 0.24, 0.13, 0.10 + 0.05 * raised, 0.05, 0),
        (0, chin + 0.22, 0.7, 0.13, 0, 0, 0.42),
        (0, -0.18, 0.09, 0.13, -0.03 - 0.02 * face.both(4), 0.03, 0.03 + 0.06 * face.both(4)),
    ]


def _side_bumps(face: Face, side: int) -> list[Bump]:
    identity, au, sign = face.identity, face.sides[side], SIGN[side]
    eye, brow, up = face.eyes[side], face.brows[side], face.nose_up[side]
    wing = identity.nose_width
    smile = max(au[12], 0.8 * au[6])
    corner = face.mouth.top[0 if side == 0 else -1]
    age = identity.age
    brow_y = float(brow[8, 1])
    eye_y = float(eye.pupil[1]) + 0.01
    bag = 0.03 + 0.05 * age + 0.06 * au[6]
    return [
        (sign * 0.50, brow_y + 0.02, 0.30, 0.075, 0.055, 0, 0),
        (sign * 0.36, 0.5 * (brow_y + eye_y) - 0.02, 0.17, 0.09, -0.06, 0.04, 0.16 + 0.10 * au[4]),
        (sign * 0.50, eye_y, 0.25, 0.14, -0.05, 0.05, 0.10 + 0.05 * identity.makeup),
        (sign * 0.50, eye_y, 0.17, 0.10, 0.06, 0, 0),
        (sign * 0.50, 0.205 - 0.02 * au[6], 0.22, 0.045, -0.012 - bag * 0.35, 0.04, 0.05 + bag),
        (sign * (wing - 0.035), face.nose_y + 0.01 - up, 0.075, 0.075, 0.11, 0.10, 0),
        (sign * (wing + 0.075), face.nose_y - 0.02 - up, 0.05, 0.10, -0.05 - 0.02 * au[9], 0.03, 0.10),
        (sign * 0.68, 0.40 - 0.05 * smile, 0.26, 0.20, 0.055 + 0.085 * smile, 0.13 + 0.08 * smile, 0),
        (sign * 0.72, 0.92, 0.20, 0.24, -0.035 * (1 - smile), 0, 0.05 * (1 - smile) + 0.05 * age),
        (sign * 1.02, -0.25, 0.12, 0.40, -0.05, 0, 0.10),
        (sign * 1.08, 0.75, 0.16, 0.50, 0, 0, 0.16),
        (
            float(corner[0]) + sign * 0.05,
            float(corner[1]) + 0.01,
            0.055,
            0.06,
            -0.03 - 0.05 * au[14],
            0,
            0.16 + 0.25 * au[14],
        ),
        (sign * 0.78, float(corner[1]) + 0.0, 0.14, 0.16, 0.05 * au[14] + 0.03 * au[12], 0, 0),
        (sign * 0.20, brow_y + 0.03, 0.09, 0.06, 0.06 * au[4], 0, 0),
    ]


def _creases(face: Face, grid: Grid) -> Field:
    """Wrinkles [n, n] in 0..1: drawn as lines of varying strength, sharp ones and broad ones."""
    broad = np.zeros((grid.side, grid.side), np.uint8)
    fine = np.zeros((grid.side, grid.side), np.uint8)
    for side in (0, 1):
        for points, strength, wide in [
            *_cheek_folds(face, side),
            *_eye_folds(face, side),
            *_brow_folds(face, side),
        ]:
            if strength < 0.03:
                continue
            target = broad if wide else fine
            value = int(round(255 * min(strength, 1.0)))
            cv2.polylines(target, [grid.to_pixels(points)], False, value, 2 if wide else 1, cv2.LINE_AA, 4)
    scale = np.float32(1 / 255)
    wide_field = cv2.GaussianBlur(broad, (0, 0), max(0.028 * grid.scale, 0.5)).astype(np.float32)
    fine_field = cv2.GaussianBlur(fine, (0, 0), max(0.014 * grid.scale, 0.4)).astype(np.float32)
    return np.minimum((wide_field * np.float32(1.5) + fine_field * np.float32(1.3)) * scale, np.float32(1))


Crease = tuple[Points, float, bool]


def _cheek_folds(face: Face, side: int) -> list[Crease]:
    """Nasolabial fold (9, 12, 10), corner lines (15, 14), wrinkled nose (9)."""
    identity, au, sign = face.identity, face.sides[side], SIGN[side]
    corner = face.mouth.top[0 if side == 0 else -1]
    cx, cy = abs(float(corner[0])), float(corner[1])
    up = face.nose_up[side]
    wing = identity.nose_width
    fold = smooth(
        [
            (sign * (wing + 0.03), face.nose_y - 0.08 - up),
            (sign * (wing + 0.16 + 0.06 * au[12]), face.nose_y + 0.10 - up),
            (sign * (cx + 0.11 + 0.04 * au[12]), cy - 0.12),
            (sign * (cx + 0.14), cy + 0.08 + 0.06 * au[15]),
        ],
        3,
    )
    strength = 0.06 + 0.34 * identity.age + 0.55 * au[12] + 0.62 * au[9] + 0.2 * au[20] + 0.15 * au[15]
    out: list[Crease] = [(fold, strength, True)]
    down = [(sign * (cx + 0.02), cy + 0.01), (sign * (cx + 0.06), cy + 0.10), (sign * (cx + 0.05), cy + 0.20)]
    out.append((smooth(down, 3), 0.75 * au[15] + 0.2 * identity.age - 0.3 * au[12], True))
    dimple = [(sign * (cx + 0.05), cy - 0.08), (sign * (cx + 0.085), cy), (sign * (cx + 0.055), cy + 0.08)]
    out.append((smooth(dimple, 3), 0.9 * au[14] + 0.25 * au[12], True))
    bracket = [(sign * (cx + 0.10), cy - 0.12), (sign * (cx + 0.15), cy), (sign * (cx + 0.11), cy + 0.14)]
    out.append((smooth(bracket, 3), 0.8 * au[20], True))
    for k in range(3):
        y = 0.10 + 0.085 * k
        wrinkle = [
            (sign * (0.05 + 0.02 * k), y - 0.045),
            (sign * (0.13 + 0.02 * k), y),
            (sign * 0.19, y + 0.06),
        ]
        out.append((smooth(wrinkle, 3), (0.95 - 0.1 * k) * au[9], False))
    return out


def _eye_folds(face: Face, side: int) -> list[Crease]:
    """Crow's feet (6), pouch below the eye (6, 7), bags of age."""
    identity, au, sign = face.identity, face.sides[side], SIGN[side]
    out: list[Crease] = []
    feet = 0.85 * au[6] + 0.28 * max(identity.age - 0.35, 0) + 0.2 * au[12]
    for k, slope in enumerate((-0.13, -0.02, 0.10)):
        start = (sign * (0.79 + 0.01 * k), -0.035 + 0.05 * k)
        mid = (sign * 0.87, -0.03 + 0.055 * k + 0.5 * slope)
        out.append((smooth([start, mid, (sign * 0.97, -0.03 + 0.06 * k + slope)], 3), feet, False))
    lower = face.eyes[side].lower
    pouch = lower[1:11] + np.stack([np.zeros(10), 0.07 + 0.03 * np.sin(np.linspace(0, np.pi, 10))], 1)
    out.append((pouch, 0.6 * au[6] + 0.45 * au[7] + 0.3 * identity.age, False))
    under = lower[0:9] + np.stack([np.zeros(9), 0.03 + 0.13 * np.linspace(0, 1, 9) ** 0.5], 1)
    out.append((under, 0.5 * max(identity.age - 0.3, 0) + 0.35 * au[6] + 0.4 * au[9], True))
    return out


def _brow_folds(face: Face, side: int) -> list[Crease]:
    """Forehead lines (1, 2), frown (4)."""
    identity, au, sign = face.identity, face.sides[side], SIGN[side]
    brow = face.brows[side]
    out: list[Crease] = []
    inner_y = float(brow[0, 1])
    frown = [(sign * 0.075, inner_y + 0.08), (sign * 0.06, inner_y - 0.05), (sign * 0.085, inner_y - 0.20)]
    out.append((smooth(frown, 3), 0.95 * au[4] + 0.2 * max(identity.age - 0.4, 0), True))
    top = identity.forehead + 0.12
    for k in range(3):
        share = (k + 0.7) / 3.4
        inner = (1 - share) * (inner_y - 0.10) + share * top
        outer = (1 - share) * (float(brow[10, 1]) - 0.12) + share * top
        line = [
            (0.0, inner + 0.015),
            (sign * 0.2, inner),
            (sign * 0.45, outer - 0.01),
            (sign * 0.72, outer + 0.05),
        ]
        curve = smooth(line, 4)
        worn = 0.45 * max(identity.age - 0.3, 0)
        out.append((curve[:6], 0.8 * au[1] * (1 - 0.15 * k) + worn, False))
        out.append((curve[5:], 0.75 * au[2] * (1 - 0.15 * k) + worn * 0.8, False))
    return out


def shade(relief: Relief, grid: Grid, light: Light) -> tuple[Field, Field]:
    """Multipliers [n, n, 3] for the colours and additive highlights [n, n], both around 0..1.5."""
    height = relief.height
    scale = np.float32(grid.scale)
    slope_x = cv2.Sobel(height, cv2.CV_32F, 1, 0, ksize=3, scale=0.125) * scale
    slope_y = cv2.Sobel(height, cv2.CV_32F, 0, 1, ksize=3, scale=0.125) * scale
    inverse = 1.0 / np.sqrt(1.0 + slope_x * slope_x + slope_y * slope_y)
    lx, ly, lz = light.direction
    facing = (lz - lx * slope_x - ly * slope_y) * inverse
    lambert = np.maximum(facing * np.float32(0.85) + np.float32(0.15), 0)
    # hollows see less of the sky: compare the height with its surroundings
    hollow = cv2.GaussianBlur(height, (0, 0), 0.10 * grid.scale) - height
    sky = np.clip(1.0 - 2.6 * np.maximum(hollow, 0) - 0.42 * relief.crease - relief.dark, 0.25, 1.0)
    shadow = _cast_shadow(relief, grid, light)
    direct = lambert * (1 - np.float32(0.55) * shadow) * (0.45 + 0.55 * sky)
    multiplier = np.empty((*height.shape, 3), np.float32)
    for channel in range(3):
        multiplier[..., channel] = sky * light.ambient[channel] + direct * light.colour[channel]
    half = np.array([lx, ly, lz + 1.0])
    hx, hy, hz = (half / np.linalg.norm(half)).tolist()
    shine = np.maximum((hz - hx * slope_x - hy * slope_y) * inverse, 0)
    shine = shine * shine
    shine = shine * shine
    shine = shine * shine
    shine = shine * shine * (1 - shadow) * sky
    return multiplier, (shine * np.float32(light.gloss)).astype(np.float32)


def _cast_shadow(relief: Relief, grid: Grid, light: Light) -> Field:
    """Soft shadow [n, n] in 0..1 of what stands out (nose, brow ridge): higher ground towards the light."""
    lx, ly, lz = light.direction
    reach = 0.16
    shift = reach * grid.scale
    moved = np.array([[1, 0, -lx * shift], [0, 1, -ly * shift]])
    towards = cv2.warpAffine(
        relief.height,
        moved,
        relief.height.shape[::-1],
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    rise = towards - relief.height - np.float32(reach * max(lz, 0.25) * 0.9)
    return np.clip(rise * np.float32(6.0), 0, 1)
