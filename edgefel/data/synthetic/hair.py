"""Hair, beards and head wear."""

from __future__ import annotations

import numpy as np

from edgefel.data.synthetic.canvas import Canvas
from edgefel.data.synthetic.curves import Points, smooth
from edgefel.data.synthetic.features import ellipse, mixed, scaled
from edgefel.data.synthetic.geometry import Face

_FULL = ("long", "bob", "curly")


def head_silhouette(face: Face) -> Points:
    """Outline of everything that the light falls on: head, hair, neck."""
    width = face.identity.face_width
    wide = {"long": 1.42, "bob": 1.40, "curly": 1.52, "scarf": 1.32}.get(face.identity.hair_style, 1.14)
    drop = 2.1 if face.identity.hair_style in ("long", "scarf") else 1.35
    right = [
        (0.9, -1.6),
        (wide * width, -0.9),
        (wide * width, 0.2),
        (max(wide - 0.1, 1.05) * width, 0.9),
        (0.8, drop),
        (0.75, 2.2),
    ]
    return np.array([*right, *[(-x, y) for x, y in reversed(right)]])


def paint_back_hair(canvas: Canvas, face: Face, rng: np.random.Generator) -> None:
    """What is behind the head: long hair, curls, a scarf."""
    identity = face.identity
    width, style = identity.face_width, identity.hair_style
    dark = scaled(identity.hair, 0.72)
    if style == "long":
        right = [
            (0.7, -1.75),
            (1.25 * width, -1.1),
            (1.34 * width, -0.2),
            (1.30 * width, 0.8),
            (1.36 * width, 2.1),
        ]
    elif style == "bob":
        right = [
            (0.7, -1.75),
            (1.25 * width, -1.1),
            (1.36 * width, -0.2),
            (1.36 * width, 0.6),
            (1.2 * width, 1.12),
            (0.7, 1.2),
        ]
    elif style == "scarf":
        right = [
            (0.7, -1.75),
            (1.2 * width, -1.0),
            (1.26 * width, 0.0),
            (1.2 * width, 0.9),
            (1.05, 1.7),
            (1.3, 2.1),
        ]
        dark = scaled(identity.cloth, 0.8)
    elif style == "curly":
        centres = (
            rng.uniform(-0.05, 0.05, (26, 2))
            + ellipse(0, -0.35, 1.22 * width, 1.0)[np.linspace(0, 23, 26).astype(int)]
        )
        canvas.fill(ellipse(0, -0.35, 1.28 * width, 1.12), dark)
        for x, y in centres:
            if y < 0.75:
                canvas.fill(ellipse(float(x), float(y), 0.26, 0.24), dark)
        return
    else:
        return
    outline = smooth(right, 4)
    canvas.fill(np.concatenate([outline, outline[::-1] * (-1, 1)]), dark)
    if style != "scarf":
        x = np.concatenate([rng.uniform(1.0, 1.32, 10), -rng.uniform(1.0, 1.32, 10)]) * width
        strands = [
            smooth(
                [
                    (0.85 * v, -0.9),
                    (v, 0.0),
                    (v * 1.01, 0.9),
                    (v * rng.uniform(0.95, 1.05), 2.0 if style == "long" else 1.1),
                ],
                3,
            )
            for v in x
        ]
        canvas.soft_lines(strands, scaled(identity.hair, 1.15), 0.02, 0.5, 0.008)


def _hairline(face: Face) -> Points | None:
    """The edge of the hair over the forehead, from the left temple to the right."""
    identity = face.identity
    w, y, part = identity.face_width, identity.forehead, identity.part
    style = identity.hair_style
    if style in ("bald", "scarf", "cap"):
        return None
    if style == "receding":
        right = [
            (1.04 * w, 0.0),
            (0.98 * w, -0.45),
            (0.86 * w, -0.80),
            (0.66, -1.15),
            (0.40, -1.18),
            (0.16, y - 0.08),
            (0.0, y - 0.1),
        ]
    elif style == "fringe":
        right = [
            (1.06 * w, 0.55),
            (1.0 * w, 0.0),
            (0.95 * w, -0.40),
            (0.72, -0.52),
            (0.4, -0.50),
            (0.15, -0.53),
            (0.0, -0.50),
        ]
    elif style == "short":
        right = [
            (1.05 * w, 0.12),
            (0.98 * w, -0.20),
            (0.93 * w, -0.52),
            (0.80, -0.80),
            (0.5, y - 0.03),
            (0.2, y),
            (0.0, y + 0.02),
        ]
    elif style == "curly":
        right = [
            (1.06 * w, 0.15),
            (0.98 * w, -0.20),
            (0.92 * w, -0.50),
            (0.75, -0.76),
            (0.48, y + 0.05),
            (0.2, y - 0.02),
            (0.0, y + 0.03),
        ]
    else:
        right = [
            (1.08 * w, 0.9),
            (1.02 * w, 0.2),
            (0.97 * w, -0.25),
            (0.84, -0.60),
            (0.55, y + 0.04),
            (0.22, y - 0.05),
            (0.0, y - 0.08),
        ]
    line = np.array([*[(-a, b) for a, b in right], *list(reversed(right))[1:]])
    if style in ("parted", "long", "bob"):
        # the parting: hair lies lower on the wide side
        line[:, 1] += (
            0.20
            * np.clip(np.abs(line[:, 0] - part), 0, 0.6)
            * (np.sign(line[:, 0] - part) == -np.sign(part))
            * (line[:, 1] < -0.4)
        )
        line[:, 1] += 0.10 * np.clip(1 - np.abs(line[:, 0] - part) / 0.25, 0, 1) * -1 * (line[:, 1] < -0.4)
    return smooth(line, 4)


def paint_front_hair(canvas: Canvas, face: Face, rng: np.random.Generator) -> None:
    """Hair over the forehead and temples, or what is worn instead."""
    identity = face.identity
    if identity.hair_style == "scarf":
        _paint_scarf(canvas, face)
        return
    if identity.hair_style == "cap":
        _paint_cap(canvas, face)
        return
    line = _hairline(face)
    if line is None:
        return
    width = identity.face_width
    side = 1.13 if identity.hair_style not in _FULL else 1.24
    bottom = float(line[0, 1])
    roof = smooth(
        [(side * width, bottom), (1.04 * side * width, -0.5), (1.0 * side, -1.3), (0.5, -1.9), (0, -2.0)], 4
    )
    roof = np.concatenate([roof, roof[::-1] * (-1, 1)])
    canvas.soft_fill([np.concatenate([line, roof])], scaled(identity.skin, 0.6), 0.5, 0.045)
    canvas.soft_fill([np.concatenate([line, roof])], identity.hair, 0.97, 0.018)
    _strands(canvas, face, line, rng)


def _strands(canvas: Canvas, face: Face, line: Points, rng: np.random.Generator) -> None:
    identity = face.identity
    count = 34
    at = rng.integers(0, len(line), count)
    ends = line[at] + rng.normal(0, 0.02, (count, 2)) + (0, 0.01)
    if identity.hair_style == "curly":
        bends = ends[:, None] + np.cumsum(rng.normal(0, 0.07, (count, 5, 2)) + (0, -0.05), 1)
        strands = [smooth(bend, 3) for bend in bends]
    else:
        root_x = identity.part if identity.hair_style in ("parted", "long", "bob") else 0.0
        roots = np.stack([root_x + (ends[:, 0] - root_x) * 0.55, np.full(count, -1.65)], 1)
        middle = 0.5 * (roots + ends) + np.stack([0.22 * (ends[:, 0] - root_x), np.full(count, -0.1)], 1)
        strands = [smooth([r, m, e], 5) for r, m, e in zip(roots, middle, ends, strict=True)]
    canvas.soft_lines(strands[::2], scaled(identity.hair, 1.35), 0.018, 0.55, 0.006)
    canvas.soft_lines(strands[1::2], scaled(identity.hair, 0.6), 0.018, 0.55, 0.006)


def _paint_scarf(canvas: Canvas, face: Face) -> None:
    w, cloth = face.identity.face_width, face.identity.cloth
    chin = face.identity.chin + face.mouth.jaw
    right = [
        (0.0, -0.78),
        (0.5, -0.74),
        (0.84 * w, -0.45),
        (0.95 * w, 0.1),
        (0.90 * w, 0.8),
        (0.62, 1.35),
        (0.0, chin + 0.03),
    ]
    opening = np.array([*right, *[(-x, y) for x, y in reversed(right[1:-1])]])
    inner = smooth(opening, 4, closed=True)
    outer = np.array(
        [
            (-1.4, 2.2),
            (-1.35, 0.5),
            (-1.25, -0.9),
            (-0.6, -1.9),
            (0.6, -1.9),
            (1.25, -0.9),
            (1.35, 0.5),
            (1.4, 2.2),
        ]
    )
    # one polygon with a hole: even-odd filling leaves the face free
    canvas.soft_fill([outer * (w, 1), inner], scaled(cloth, 0.55), 0.6, 0.05)
    canvas.soft_fill([outer * (w, 1), inner * (1.03, 1.02)], cloth, 1.0, 0.008)
    folds = [
        smooth([(s * x, -1.3), (s * (x + 0.25), -0.3), (s * (x + 0.2), 0.9), (s * 0.4, 1.9)], 4)
        for s in (-1, 1)
        for x in (0.75, 0.9)
    ]
    canvas.soft_lines(folds, scaled(cloth, 0.7), 0.05, 0.5, 0.02)


def _paint_cap(canvas: Canvas, face: Face) -> None:
    w, cloth = face.identity.face_width, face.identity.cloth
    edge = smooth([(-1.16 * w, -0.42), (-0.6, -0.68), (0, -0.74), (0.6, -0.68), (1.16 * w, -0.42)], 5)
    top = smooth([(1.2 * w, -1.0), (0.7, -1.9), (-0.7, -1.9), (-1.2 * w, -1.0)], 4)
    temples = [ellipse(s * 1.03 * w, -0.15, 0.08, 0.35) for s in (-1, 1)]
    canvas.soft_fill(temples, face.identity.hair, 0.9, 0.02)
    canvas.soft_fill([np.concatenate([edge + (0, 0.06), top])], scaled(face.identity.skin, 0.4), 0.6, 0.04)
    canvas.fill(np.concatenate([edge, top]), cloth)
    band = np.concatenate([edge, edge[::-1] - (0, 0.17)])
    canvas.soft_fill([band], scaled(cloth, 0.72), 0.9, 0.01)


def paint_beard(canvas: Canvas, face: Face, rng: np.random.Generator) -> None:
    """Stubble, moustache, goatee or full beard; they move with the mouth and the jaw."""
    identity, mouth = face.identity, face.mouth
    kind = identity.beard
    if kind == "none":
        return
    hair = mixed(identity.hair, (70, 60, 56), 0.15)
    chin = identity.chin + mouth.jaw
    w, jaw = identity.face_width, identity.jaw_width
    tache_top = np.stack(
        [mouth.top[:, 0] * 1.16, mouth.top[:, 1] - 0.15 * (1 - np.abs(np.linspace(-1, 1, 21)) ** 2.5)], 1
    )
    tache_low = np.stack(
        [mouth.top[:, 0] * 1.12, mouth.top[:, 1] + 0.02 + 0.05 * np.abs(np.linspace(-1, 1, 21)) ** 3], 1
    )
    tache = np.concatenate([tache_top, tache_low[::-1]])
    half = float(mouth.top[-1, 0]) + 0.10
    low = float(mouth.bottom[10, 1])
    if kind in ("stubble", "full"):
        right = [
            (1.02 * w, 0.25),
            (0.96 * w, 0.55),
            (0.80 * w, 0.82),
            (half + 0.02, 0.92),
            (half - 0.08, float(mouth.top[-1, 1]) + 0.05),
        ]
        inner = [(half - 0.16, low + 0.02), (0.14, low + 0.05), (0.0, low + 0.04)]
        outer = [(0.25, chin + 0.10), (jaw * 0.72, chin - 0.16), (jaw + 0.02, 1.08), (0.97 * w, 0.62)]
        path = [*right, *inner]
        region = np.concatenate(
            [
                smooth(np.array([*path, *[(-x, y) for x, y in reversed(path[:-1])]]), 3),
                smooth(np.array([*[(-x, y) for x, y in reversed(outer)], (0.0, chin + 0.12), *outer]), 3),
            ]
        )
        alpha = 0.30 if kind == "stubble" else 0.86
        canvas.soft_fill([region], hair, alpha, 0.055)
        canvas.soft_fill([tache], hair, alpha * 0.9, 0.03)
    elif kind == "moustache":
        canvas.soft_fill([tache], hair, 0.88, 0.018)
    else:
        patch = smooth(
            [
                (-half + 0.08, low + 0.03),
                (0, low + 0.06),
                (half - 0.08, low + 0.03),
                (0.34, chin),
                (0, chin + 0.1),
                (-0.34, chin),
            ],
            3,
            closed=True,
        )
        canvas.soft_fill([tache, patch], hair, 0.8, 0.025)
    if kind != "stubble":
        _bristles(canvas, face, rng, tache, kind)


def _bristles(canvas: Canvas, face: Face, rng: np.random.Generator, tache: Points, kind: str) -> None:
    identity, chin = face.identity, face.identity.chin + face.mouth.jaw
    low = float(face.mouth.bottom[10, 1])
    starts = tache[rng.integers(0, len(tache), 18)]
    lines = [np.array([p, p + (0.03 * np.sign(p[0] + 1e-9), 0.05)]) for p in starts]
    if kind in ("full", "goatee"):
        reach = 0.75 * identity.jaw_width if kind == "full" else 0.3
        x = rng.uniform(-reach, reach, 40)
        y = rng.uniform(low + 0.10, chin, 40)
        lines += [np.array([(a, b), (a * 1.04, b + 0.08)]) for a, b in zip(x, y, strict=True)]
    canvas.soft_lines(lines[::2], scaled(identity.hair, 1.5), 0.012, 0.5)
    canvas.soft_lines(lines[1::2], scaled(identity.hair, 0.55), 0.012, 0.5)
