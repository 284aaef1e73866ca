"""Hair, beards and head wear."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from edgefel.data.synthetic.canvas import Canvas, Mask
from edgefel.data.synthetic.curves import Points, bundle, smooth
from edgefel.data.synthetic.features import ellipse, mixed, ring, scaled
from edgefel.data.synthetic.geometry import SIGN, Face
from edgefel.data.synthetic.identity import Identity

_MIRROR = np.array((-1.0, 1.0))
_PARTED = ("parted", "long", "bob")
_LIP_T = np.linspace(-1, 1, 21)


def _back_outline(identity: Identity) -> list[Points]:
    """Outlines of what is behind the head: long hair, curls, a scarf."""
    width, style = identity.face_width, identity.hair_style
    if style == "curly":
        cloud = ellipse(0, -0.35, 1.22 * width, 1.02)
        bulges = 1 + 0.05 * np.sin(np.arange(24) * 2.4)
        return [smooth((cloud - (0, -0.35)) * bulges[:, None] + (0, -0.35), 2, closed=True)]
    if style == "long":
        right = [
            (0.7, -1.75),
            (1.2 * width, -1.1),
            (1.27 * width, -0.2),
            (1.24 * width, 0.8),
            (1.34 * width, 2.1),
        ]
    elif style == "bob":
        right = [
            (0.7, -1.75),
            (1.2 * width, -1.1),
            (1.28 * width, -0.2),
            (1.30 * width, 0.6),
            (1.18 * width, 1.12),
            (0.7, 1.2),
        ]
    elif style == "scarf":
        right = [
            (0.7, -1.75),
            (1.15 * width, -1.0),
            (1.22 * width, 0.0),
            (1.17 * width, 0.9),
            (1.05, 1.7),
            (1.3, 2.1),
        ]
    else:
        return []
    outline = smooth(right, 4)
    return [ring(outline, outline * _MIRROR)]


def _back_strands(identity: Identity, rng: np.random.Generator) -> Points:
    """Strands [16, n, 2] of long hair."""
    end = 2.0 if identity.hair_style == "long" else 1.1
    x = rng.uniform(1.0, 1.26, 16) * identity.face_width * np.repeat(SIGN, 8)
    bend = rng.uniform(0.95, 1.05, 16)
    controls = [(0.85 * x, -0.9), (x, 0.0), (1.01 * x, 0.9), (bend * x, end)]
    return bundle(np.array([np.stack([a, np.full(16, y)], 1) for a, y in controls]))


def _hairline(identity: Identity) -> Points | None:
    """The edge of the hair over the forehead, from the left temple to the right."""
    w, y, part = identity.face_width, identity.forehead, identity.part
    style = identity.hair_style
    if style in ("bald", "scarf", "cap"):
        return None
    if style == "receding":
        sides = [
            (1.04 * w, 0.0),
            (0.98 * w, -0.45),
            (0.86 * w, -0.80),
            (0.66, -1.15),
            (0.40, -1.18),
            (0.16, y - 0.08),
        ]
        sides.append((0.0, y - 0.1))
    elif style == "fringe":
        sides = [
            (1.06 * w, 0.55),
            (1.0 * w, 0.0),
            (0.95 * w, -0.40),
            (0.72, -0.52),
            (0.4, -0.50),
            (0.15, -0.53),
        ]
        sides.append((0.0, -0.50))
    elif style in ("short", "curly"):
        sides = [
            (1.05 * w, 0.12),
            (0.98 * w, -0.20),
            (0.93 * w, -0.52),
            (0.80, -0.80),
            (0.5, y - 0.02),
            (0.2, y),
        ]
        sides.append((0.0, y + 0.02))
    else:
        sides = [
            (1.08 * w, 0.9),
            (1.02 * w, 0.2),
            (0.97 * w, -0.25),
            (0.84, -0.60),
            (0.55, y + 0.04),
            (0.22, y - 0.05),
        ]
        sides.append((0.0, y - 0.08))
    right = np.array(sides)
    line = np.concatenate([right * _MIRROR, right[-2::-1]])
    if style in _PARTED:
        # hair lies lower on the wide side of the parting
        across, high = line[:, 0] - part, line[:, 1] < -0.4
        line[:, 1] += 0.20 * np.clip(np.abs(across), 0, 0.6) * (across * part < 0) * high
        line[:, 1] -= 0.10 * np.clip(1 - np.abs(across) / 0.25, 0, 1) * high
    return smooth(line, 4)


def _roof(identity: Identity, bottom: float) -> Points:
    """The outer edge of the hair, from the right temple over the top to the left."""
    side = identity.face_width * (1.20 if identity.hair_style in ("long", "bob", "curly") else 1.11)
    right = smooth([(side, bottom), (1.05 * side, -0.5), (side, -1.3), (0.5, -1.9), (0.0, -2.0)], 4)
    return ring(right, right * _MIRROR)


def _front_outline(identity: Identity) -> list[Points]:
    """Outlines of the hair in front, a cap or a scarf: what covers the head from above."""
    line = _hairline(identity)
    if line is not None:
        return [np.concatenate([line, _roof(identity, float(line[0, 1]))])]
    w = identity.face_width
    if identity.hair_style == "cap":
        edge = smooth([(-1.14 * w, -0.42), (-0.6, -0.68), (0, -0.74), (0.6, -0.68), (1.14 * w, -0.42)], 5)
        top = smooth([(1.18 * w, -1.0), (0.7, -1.9), (-0.7, -1.9), (-1.18 * w, -1.0)], 4)
        return [np.concatenate([edge, top])]
    if identity.hair_style == "scarf":
        chin = identity.chin + 0.03
        right = np.array(
            [
                (0.0, -0.78),
                (0.5, -0.74),
                (0.84 * w, -0.45),
                (0.95 * w, 0.1),
                (0.90 * w, 0.8),
                (0.62, 1.35),
                (0.0, chin + 0.03),
            ]
        )
        opening = smooth(np.concatenate([right, right[-2:0:-1] * _MIRROR]), 4, closed=True)
        outer = np.array([(1.2, 2.2), (1.24, 0.5), (1.2, -0.9), (0.6, -1.9)]) * (w, 1)
        # filled even-odd, the opening stays free
        return [ring(outer, outer * _MIRROR), opening]
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
    return bundle(np.stack([roots, middle, ends]))


@dataclass(frozen=True)
class Hair:
    """A subject's hair or head wear: outlines and strands behind the head and in front of it. `front` may
    have a second outline, which is an opening."""

    back: list[Points]
    back_strands: Points
    front: list[Points]
    front_strands: Points
    tufts: list[Points]


@lru_cache(maxsize=1024)
def hair_of(identity: Identity) -> Hair:
    """The hair of a subject: it does not change with the expression, so it is laid once."""
    rng = np.random.default_rng(identity.stream)
    style = identity.hair_style
    none = np.zeros((0, 2, 2))
    back, front = _back_outline(identity), _front_outline(identity)
    grown = style not in ("scarf", "cap", "bald")
    tufts: list[Points] = []
    if style == "curly":
        tufts = [ellipse(x, y, 0.07, 0.065) for x, y in front[0][4:45:3].tolist()]
    elif style == "cap":
        tufts = [ellipse(s * 1.03 * identity.face_width, -0.15, 0.08, 0.35) for s in SIGN]
    return Hair(
        back=back,
        back_strands=_back_strands(identity, rng) if style in ("long", "bob") else none,
        front=front,
        front_strands=_front_strands(identity, front[0][:49], rng) if grown else none,
        tufts=tufts,
    )


def paint_back_hair(canvas: Canvas, identity: Identity) -> None:
    """What is behind the head."""
    hair = hair_of(identity)
    if not hair.back:
        return
    canvas.fill(hair.back, scaled(identity.cloth if identity.hair_style == "scarf" else identity.hair, 0.7))
    if len(hair.back_strands):
        canvas.lines(hair.back_strands[::2], scaled(identity.hair, 0.95), 0.0)
        canvas.lines(hair.back_strands[1::2], scaled(identity.hair, 0.55), 0.0)


def ink_hair(ink: Mask, identity: Identity) -> None:
    """The shadow of hair or head wear on the skin."""
    front = hair_of(identity).front
    if front:
        ink.fill([front[0] + np.array((0, 0.045)), *front[1:]], 0.55)


def paint_front_hair(canvas: Canvas, identity: Identity) -> None:
    """Hair over the forehead and temples, or what is worn instead."""
    hair, style = hair_of(identity), identity.hair_style
    if not hair.front:
        return
    if style == "scarf":
        canvas.fill(hair.front, identity.cloth)
        canvas.soft_lines(_SCARF_FOLDS, scaled(identity.cloth, 0.7), 0.05, 0.5, 0.02)
    elif style == "cap":
        canvas.fill(hair.tufts, identity.hair)
        canvas.fill(hair.front, identity.cloth)
        edge = hair.front[0][:21]
        canvas.fill([ring(edge, edge - (0, 0.17))], scaled(identity.cloth, 0.75))
    else:
        canvas.fill(hair.front, identity.hair)
        for tuft in hair.tufts:
            canvas.fill([tuft], identity.hair)
        canvas.lines(hair.front_strands[::2], scaled(identity.hair, 1.3), 0.0)
        canvas.lines(hair.front_strands[1::2], scaled(identity.hair, 0.66), 0.0)


_SCARF_FOLDS = [
    smooth([(s * x, -1.3), (s * (x + 0.25), -0.3), (s * (x + 0.2), 0.9), (s * 0.4, 1.9)], 4)
    for s in SIGN
    for x in (0.75, 0.9)
]


def paint_beard(canvas: Canvas, face: Face) -> None:
    """Stubble, moustache, goatee or full beard; they move with the mouth and the jaw."""
    identity, mouth = face.identity, face.mouth
    kind = identity.beard
    if kind == "none":
        return
    hair = mixed(identity.hair, (70, 60, 56), 0.15)
    chin = identity.chin + mouth.jaw
    half, low = float(mouth.top[-1, 0]) + 0.10, float(mouth.bottom[10, 1])
    upper = np.stack([mouth.top[:, 0] * 1.16, mouth.top[:, 1] - 0.15 * (1 - np.abs(_LIP_T) ** 2.5)], 1)
    lower = np.stack([mouth.top[:, 0] * 1.12, mouth.top[:, 1] + 0.02 + 0.05 * np.abs(_LIP_T) ** 3], 1)
    tache = ring(upper, lower)
    if kind in ("stubble", "full"):
        alpha = 0.30 if kind == "stubble" else 0.86
        canvas.soft_fill([_beard_region(face, half, low, chin)], hair, alpha, 0.05)
        canvas.soft_fill([tache], hair, alpha * 0.9, 0.03)
    elif kind == "moustache":
        canvas.soft_fill([tache], hair, 0.88, 0.018)
    else:
        patch = [
            (-half + 0.08, low + 0.03),
            (0, low + 0.06),
            (half - 0.08, low + 0.03),
            (0.34, chin),
            (0, chin + 0.1),
        ]
        canvas.soft_fill([tache, smooth([*patch, (-0.34, chin)], 3, closed=True)], hair, 0.8, 0.025)
    if kind != "stubble":
        _bristles(canvas, face, tache)


def _beard_region(face: Face, half: float, low: float, chin: float) -> Points:
    w, jaw, corner = face.identity.face_width, face.identity.jaw_width, float(face.mouth.top[-1, 1])
    inner = np.array(
        [
            (1.02 * w, 0.25),
            (0.96 * w, 0.55),
            (0.80 * w, 0.82),
            (half + 0.02, 0.92),
            (half - 0.08, corner + 0.05),
            (half - 0.16, low + 0.02),
            (0.14, low + 0.05),
            (0.0, low + 0.04),
        ]
    )
    outer = np.array(
        [
            (0.0, chin + 0.12),
            (0.25, chin + 0.10),
            (jaw * 0.72, chin - 0.16),
            (jaw + 0.02, 1.08),
            (0.97 * w, 0.62),
        ]
    )
    top = smooth(np.concatenate([inner, inner[-2::-1] * _MIRROR]), 3)
    bottom = smooth(np.concatenate([outer[:0:-1] * _MIRROR, outer]), 3)
    return np.concatenate([top, bottom])


def _bristles(canvas: Canvas, face: Face, tache: Points) -> None:
    identity, chin = face.identity, face.identity.chin + face.mouth.jaw
    low = float(face.mouth.bottom[10, 1])
    rng = np.random.default_rng(identity.stream)
    start = tache[rng.integers(0, len(tache), 18)]
    lines = np.stack([start, start + np.stack([0.03 * np.sign(start[:, 0]), np.full(18, 0.05)], 1)], 1)
    if identity.beard in ("full", "goatee"):
        reach = 0.75 * identity.jaw_width if identity.beard == "full" else 0.3
        start = np.stack([rng.uniform(-reach, reach, 40), low + 0.1 + (chin - low - 0.1) * rng.random(40)], 1)
        lines = np.concatenate([lines, np.stack([start, start * (1.04, 1) + (0, 0.08)], 1)])
    canvas.soft_lines(lines[::2], scaled(identity.hair, 1.5), 0.012, 0.5)
    canvas.soft_lines(lines[1::2], scaled(identity.hair, 0.55), 0.012, 0.5)
