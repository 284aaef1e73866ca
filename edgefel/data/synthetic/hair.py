"""Hair, beards and head wear."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from edgefel.data.synthetic.canvas import Canvas
from edgefel.data.synthetic.geometry import Face
from edgefel.data.synthetic.identity import Identity
from edgefel.data.synthetic.shapes import (
    MIRROR,
    SIGN,
    Points,
    ellipse,
    mirrored,
    mixed,
    ring,
    scaled,
    smooth,
    smooth_each,
)

_PARTED = ("parted", "long", "bob")
_LIP_T = np.linspace(-1, 1, 21)
_CURLS = 1 + 0.05 * np.sin(np.arange(24) * 2.4)
# Right halves of what lies behind the head, from the crown down: x, x in widths of the face, y.
_BACK = {
    "long": ((0.7, 0, 0, 0, 0), (0, 1.2, 1.27, 1.24, 1.34), (-1.75, -1.1, -0.2, 0.8, 2.1)),
    "bob": ((0.7, 0, 0, 0, 0, 0.7), (0, 1.2, 1.28, 1.30, 1.18, 0), (-1.75, -1.1, -0.2, 0.6, 1.12, 1.2)),
    "scarf": ((0.7, 0, 0, 0, 1.05, 1.3), (0, 1.15, 1.22, 1.17, 0, 0), (-1.75, -1.0, 0.0, 0.9, 1.7, 2.1)),
}
# Right halves of hairlines, from the temple up to the middle: x of the first three points in widths of the face,
# x of the other four, y; and how many of the last points are relative to the top of the forehead.
_HAIRLINES = {
    "receding": ((1.04, 0.98, 0.86), (0.66, 0.40, 0.16, 0), (0, -0.45, -0.80, -1.15, -1.18, -0.08, -0.1), 2),
    "fringe": ((1.06, 1.0, 0.95), (0.72, 0.4, 0.15, 0), (0.55, 0, -0.40, -0.52, -0.50, -0.53, -0.50), 0),
    "short": ((1.05, 0.98, 0.93), (0.80, 0.5, 0.2, 0), (0.12, -0.20, -0.52, -0.80, -0.02, 0, 0.02), 3),
    "parted": ((1.08, 1.02, 0.97), (0.84, 0.55, 0.22, 0), (0.9, 0.2, -0.25, -0.60, 0.04, -0.05, -0.08), 3),
}
_HAIRLINES |= {"curly": _HAIRLINES["short"], "long": _HAIRLINES["parted"], "bob": _HAIRLINES["parted"]}
# Right half of the opening of a scarf, without its lowest point.
_SCARF = ((0, 0.5, 0, 0, 0, 0.62), (0, 0, 0.84, 0.95, 0.90, 0), (-0.78, -0.74, -0.45, 0.1, 0.8, 1.35))
_SCARF_FOLDS = [
    smooth([(s * x, -1.3), (s * (x + 0.25), -0.3), (s * (x + 0.2), 0.9), (s * 0.4, 1.9)])
    for s in SIGN
    for x in (0.75, 0.9)
]


def _points(table: Sequence[Sequence[float]], width: float) -> Points:
    """Points [n, 2] of x, x in widths of the face, and y."""
    x, wide, y = map(np.array, table)
    return np.column_stack([x + width * wide, y])


def back_outlines(identity: Identity) -> list[Points]:
    """Outlines of what is behind the head: long hair, curls, a scarf."""
    width, style = identity.face_width, identity.hair_style
    if style == "curly":
        cloud = ellipse(0, -0.35, 1.22 * width, 1.02)
        return [smooth((cloud - (0, -0.35)) * _CURLS[:, None] + (0, -0.35), 2, closed=True)]
    return [mirrored(smooth(_points(_BACK[style], width)))] if style in _BACK else []


def _back_strands(identity: Identity, rng: np.random.Generator) -> Points:
    """Strands [16, n, 2] of long hair."""
    x = rng.uniform(1.0, 1.26, 16) * identity.face_width * np.repeat(SIGN, 8)
    bend = rng.uniform(0.95, 1.05, 16)
    y = np.repeat([(-0.9, 0.0, 0.9, 2.0 if identity.hair_style == "long" else 1.1)], 16, 0).T
    return smooth_each(np.stack([[0.85 * x, x, 1.01 * x, bend * x], y], 2))


def _hairline(identity: Identity) -> Points:
    """The edge of the hair over the forehead, from the left temple to the right."""
    wide, x, y, relative = _HAIRLINES[identity.hair_style]
    right = np.column_stack([(*(share * identity.face_width for share in wide), *x), y])
    right[len(y) - relative :, 1] += identity.forehead
    line = np.concatenate([right * MIRROR, right[-2::-1]])
    if identity.hair_style in _PARTED:
        # hair lies lower on the wide side of the parting
        across, high = line[:, 0] - identity.part, line[:, 1] < -0.4
        line[:, 1] += 0.20 * np.clip(np.abs(across), 0, 0.6) * (across * identity.part < 0) * high
        line[:, 1] -= 0.10 * np.clip(1 - np.abs(across) / 0.25, 0, 1) * high
    return smooth(line)


@lru_cache(maxsize=1024)
def front_outlines(identity: Identity) -> list[Points]:
    """Outlines of the hair in front, a cap or a scarf; a second one is an opening."""
    w, style = identity.face_width, identity.hair_style
    if style in _HAIRLINES:
        line = _hairline(identity)
        side = w * (1.20 if style in ("long", "bob", "curly") else 1.11)
        roof = [(side, float(line[0, 1])), (1.05 * side, -0.5), (side, -1.3), (0.5, -1.9), (0.0, -2.0)]
        return [np.concatenate([line, mirrored(smooth(roof))])]
    if style == "cap":
        edge = smooth([(-1.14 * w, -0.42), (-0.6, -0.68), (0, -0.74), (0.6, -0.68), (1.14 * w, -0.42)], 5)
        top = smooth([(1.18 * w, -1.0), (0.7, -1.9), (-0.7, -1.9), (-1.18 * w, -1.0)])
        return [np.concatenate([edge, top])]
    if style == "scarf":
        right = np.concatenate([_points(_SCARF, w), [(0.0, identity.chin + 0.03 + 0.03)]])
        opening = smooth(np.concatenate([right, right[-2:0:-1] * MIRROR]), closed=True)
        outer = np.array([(1.2, 2.2), (1.24, 0.5), (1.2, -0.9), (0.6, -1.9)]) * (w, 1)
        # filled even-odd, the opening stays free
        return [mirrored(outer), opening]
    return []


def _front_strands(identity: Identity, edge: Points, rng: np.random.Generator) -> Points:
    """Strands [count, n, 2] that comb the hair in front and stand out over its edge."""
    if identity.hair_style == "curly":
        at = edge[rng.integers(0, 49, 70)] * rng.uniform(0.93, 1.3, (70, 1)) + rng.normal(0, 0.02, (70, 2))
        turn = rng.uniform(0, 2 * np.pi, 70)[:, None] + np.arange(5) * 0.8
        return at[:, None] + np.stack([np.cos(turn), np.sin(turn)], 2) * 0.06
    count = 40
    ends = edge[rng.integers(0, 49, count)] + rng.normal(0, 0.018, (count, 2)) + (0, 0.012)
    root_x = identity.part if identity.hair_style in _PARTED else 0.0
    across = ends[:, 0] - root_x
    roots = np.stack([root_x + across * 0.55, np.full(count, -1.65)], 1)
    middle = 0.5 * (roots + ends) + np.stack([0.22 * across, np.full(count, -0.1)], 1)
    # half of the strands end inside the hair, so that its whole surface is combed
    ends[::2] += (middle[::2] - ends[::2]) * rng.uniform(0.1, 0.8, (count // 2, 1))
    return smooth_each(np.stack([roots, middle, ends]))


@lru_cache(maxsize=1024)
def _strands(identity: Identity) -> tuple[Points, Points]:
    """Strands behind the head and in front of it, which may be none."""
    rng = np.random.default_rng(identity.stream)
    back = front = np.zeros((0, 2, 2))
    if identity.hair_style in ("long", "bob"):
        back = _back_strands(identity, rng)
    if identity.hair_style in _HAIRLINES:
        front = _front_strands(identity, front_outlines(identity)[0][:49], rng)
    return back, front


def paint_back_hair(canvas: Canvas, identity: Identity) -> None:
    """Hair or a scarf behind the head."""
    colour = identity.cloth if identity.hair_style == "scarf" else identity.hair
    canvas.fill(back_outlines(identity), scaled(colour, 0.7))
    strands, _ = _strands(identity)
    canvas.lines(strands[::2], scaled(identity.hair, 0.95))
    canvas.lines(strands[1::2], scaled(identity.hair, 0.55))


def ink_hair(ink: Canvas, identity: Identity) -> None:
    """The shadow of hair or head wear on the skin."""
    ink.fill(
        [np.add(shape, (0, 0 if n else 0.045)) for n, shape in enumerate(front_outlines(identity))], 0.55
    )


def paint_front_hair(canvas: Canvas, identity: Identity) -> None:
    """Hair over the forehead and temples, or what is worn instead."""
    front, style = front_outlines(identity), identity.hair_style
    if style == "scarf":
        canvas.fill(front, identity.cloth)
        canvas.soft(_SCARF_FOLDS, scaled(identity.cloth, 0.7), 0.5, 0.02, width=0.05)
    elif style == "cap":
        sides = [ellipse(s * 1.03 * identity.face_width, -0.15, 0.08, 0.35) for s in SIGN]
        canvas.fill(sides, identity.hair)
        canvas.fill(front, identity.cloth)
        edge = front[0][:21]
        canvas.fill([ring(edge, edge - (0, 0.17))], scaled(identity.cloth, 0.75))
    else:
        canvas.fill(front, identity.hair)
        for x, y in front[0][4:45:3].tolist() if style == "curly" else ():
            # one by one: where curls overlap, even-odd would leave holes
            canvas.fill([ellipse(x, y, 0.07, 0.065)], identity.hair)
        _, strands = _strands(identity)
        canvas.lines(strands[::2], scaled(identity.hair, 1.3))
        canvas.lines(strands[1::2], scaled(identity.hair, 0.66))


def paint_beard(canvas: Canvas, face: Face) -> None:
    """Stubble, moustache, goatee or full beard; they move with the mouth and the jaw."""
    identity, mouth = face.identity, face.mouth
    kind = identity.beard
    if kind == "none":
        return
    hair = mixed(identity.hair, (70, 60, 56), 0.15)
    chin = identity.chin + mouth.jaw
    half, low = float(mouth.top[-1, 0]) + 0.10, float(mouth.bottom[10, 1])
    x, y = mouth.top.T
    upper = np.column_stack([x * 1.16, y - 0.15 * (1 - np.abs(_LIP_T) ** 2.5)])
    lower = np.column_stack([x * 1.12, y + 0.02 + 0.05 * np.abs(_LIP_T) ** 3])
    tache = ring(upper, lower)
    if kind in ("stubble", "full"):
        alpha = 0.30 if kind == "stubble" else 0.86
        canvas.soft([_beard_region(face, half, low, chin)], hair, alpha, 0.05)
        canvas.soft([tache], hair, alpha * 0.9, 0.03)
    elif kind == "moustache":
        canvas.soft([tache], hair, 0.88, 0.018)
    else:
        left, right = -half + 0.08, half - 0.08
        patch = np.column_stack(
            [(left, 0, right, 0.34, 0, -0.34), (low + 0.03, low + 0.06, low + 0.03, chin, chin + 0.1, chin)]
        )
        canvas.soft([tache, smooth(patch, 3, closed=True)], hair, 0.8, 0.025)
    if kind != "stubble":
        _bristles(canvas, face, tache, low, chin)


def _beard_region(face: Face, half: float, low: float, chin: float) -> Points:
    w, jaw, corner = face.identity.face_width, face.identity.jaw_width, float(face.mouth.top[-1, 1])
    inner_x = (1.02 * w, 0.96 * w, 0.80 * w, half + 0.02, half - 0.08, half - 0.16, 0.14, 0)
    inner_y = (0.25, 0.55, 0.82, 0.92, corner + 0.05, low + 0.02, low + 0.05, low + 0.04)
    outer_x = (0, 0.25, jaw * 0.72, jaw + 0.02, 0.97 * w)
    outer_y = (chin + 0.12, chin + 0.10, chin - 0.16, 1.08, 0.62)
    inner, outer = np.column_stack([inner_x, inner_y]), np.column_stack([outer_x, outer_y])
    top = smooth(np.concatenate([inner, inner[-2::-1] * MIRROR]), 3)
    bottom = smooth(np.concatenate([outer[:0:-1] * MIRROR, outer]), 3)
    return np.concatenate([top, bottom])


def _bristles(canvas: Canvas, face: Face, tache: Points, low: float, chin: float) -> None:
    identity = face.identity
    rng = np.random.default_rng(identity.stream)
    start = tache[rng.integers(0, len(tache), 18)]
    lines = np.stack([start, start + np.stack([0.03 * np.sign(start[:, 0]), np.full(18, 0.05)], 1)], 1)
    if identity.beard in ("full", "goatee"):
        reach = 0.75 * identity.jaw_width if identity.beard == "full" else 0.3
        start = np.stack([rng.uniform(-reach, reach, 40), low + 0.1 + (chin - low - 0.1) * rng.random(40)], 1)
        lines = np.concatenate([lines, np.stack([start, start * (1.04, 1) + (0, 0.08)], 1)])
    canvas.soft(lines[::2], scaled(identity.hair, 1.5), 0.5, width=0.012)
    canvas.soft(lines[1::2], scaled(identity.hair, 0.55), 0.5, width=0.012)
