"""Paints one face on a surface, from the back to the front, and lights it."""

from __future__ import annotations

import cv2
import numpy as np

from edgefel.data.synthetic.canvas import Canvas, Field, Grid, Mask, grid
from edgefel.data.synthetic.curves import Points, smooth
from edgefel.data.synthetic.features import (
    ellipse,
    ink_lines,
    mixed,
    paint_brow,
    paint_catchlights,
    paint_eye,
    paint_mouth,
    paint_nostrils,
    scaled,
)
from edgefel.data.synthetic.geometry import SIGN, Face
from edgefel.data.synthetic.hair import (
    back_outline,
    hair_outline,
    ink_hair,
    paint_back_hair,
    paint_beard,
    paint_front_hair,
)
from edgefel.data.synthetic.relief import Light, Relief, build_relief, shade

# Multipliers travel as bytes: 255 stands for this factor.
_RANGE = 1.6
# What of red, green and blue a full stroke of ink takes: shadow on skin is warm.
_INK = (0.62, 0.78, 0.80)
_TURN = np.linspace(0, 2 * np.pi, 29)
_SQUARENESS = {"round": 2.0, "square": 4.0, "rimless": 2.8}


def paint_portrait(canvas: Canvas, face: Face, light: Light, rng: np.random.Generator) -> Field:
    """Paints and lights the face on `canvas`, whose content is the background.

    `rng` belongs to the subject: it places hairs and freckles. Returns the depth field [n, n] at half the
    canvas' resolution.
    """
    coarse = grid(canvas.grid.side // 2)
    relief = build_relief(face, coarse)
    paint_back_hair(canvas, face, rng)
    _paint_body(canvas, face)
    _paint_skin(canvas, face, rng)
    paint_beard(canvas, face, rng)
    paint_nostrils(canvas, face)
    paint_mouth(canvas, face)
    for side in (0, 1):
        paint_eye(canvas, face, side)
        paint_brow(canvas, face, side, rng)
    paint_front_hair(canvas, face, rng)
    _light(canvas, face, relief, coarse, light)
    paint_catchlights(canvas, face, light.direction[0], light.direction[1])
    _paint_glasses(canvas, face, light)
    return relief.depth


def _neck(face: Face) -> Points:
    width = 0.74 * face.identity.jaw_width + 0.06
    right = np.array([(width, 0.9), (width + 0.02, 1.7), (width + 0.5, 2.1)])
    return np.concatenate([right, right[::-1] * (-1, 1)])


def _ears(face: Face) -> list[Points]:
    return [ellipse(s * (face.identity.face_width + 0.005), 0.12, 0.13, 0.30) for s in SIGN]


def _paint_body(canvas: Canvas, face: Face) -> None:
    identity = face.identity
    canvas.fill([_neck(face)], scaled(identity.skin, 0.74))
    width = 0.74 * identity.jaw_width + 0.06
    shirt = np.array([(-1.8, 2.1), (-1.8, 1.88), (-width, 1.72), (-0.2, 2.1)])
    canvas.fill([shirt, shirt * (-1, 1)], identity.cloth)
    canvas.fill(_ears(face), scaled(identity.skin, 0.9))


def _paint_skin(canvas: Canvas, face: Face, rng: np.random.Generator) -> None:
    skin = face.identity.skin
    canvas.fill([face.outline], skin)
    count = int(70 * face.identity.freckles)
    if count > 10:
        at = rng.normal(0, 1, (count, 2)) * (0.45, 0.16) + (0, 0.36)
        size = rng.uniform(0.005, 0.013, count)
        spots = [ellipse(x, y, r, r)[::4] for (x, y), r in zip(at.tolist(), size.tolist(), strict=True)]
        canvas.fill(spots, mixed(skin, (150, 84, 50), 0.35))
    for _ in range(int(rng.integers(0, 3))):
        at_x, at_y = float(rng.uniform(-0.8, 0.8)), float(rng.uniform(-0.6, 1.3))
        canvas.soft_fill([ellipse(at_x, at_y, 0.016, 0.016)], scaled(skin, 0.42), 0.7)


def _light(canvas: Canvas, face: Face, relief: Relief, coarse: Grid, light: Light) -> None:
    """Multiplies the painting by the light that falls on it; around the head the light is even."""
    multipliers, shine = shade(relief, coarse, light)
    ink, silhouette = Mask(coarse), Mask(coarse)
    ink_hair(ink, face)
    ink_lines(ink, face)
    for shape in (*back_outline(face), *hair_outline(face)[:1], face.outline, _neck(face), *_ears(face)):
        silhouette.fill([shape], 1.0)
    inside = silhouette.blurred(0.02)
    drawn = ink.blurred(0.022) * inside
    coded = []
    for channel, lit in enumerate(multipliers):
        even = np.float32(light.ambient[channel] + 0.6 * light.colour[channel])
        lit *= 1 - np.float32(_INK[channel]) * drawn
        lit -= even
        lit *= inside
        lit += even
        coded.append(cv2.convertScaleAbs(lit, alpha=255 / _RANGE))
    size = (canvas.grid.side, canvas.grid.side)
    factor = cv2.resize(cv2.merge(coded), size, interpolation=cv2.INTER_LINEAR)
    cv2.multiply(canvas.rgb, factor, dst=canvas.rgb, scale=_RANGE / 255)
    shine *= inside
    gloss = cv2.resize(cv2.convertScaleAbs(shine, alpha=255), size, interpolation=cv2.INTER_LINEAR)
    cv2.add(canvas.rgb, cv2.merge((gloss, gloss, gloss)), dst=canvas.rgb)


def _paint_glasses(canvas: Canvas, face: Face, light: Light) -> None:
    """Frames, bridge, temples and a faint glint."""
    identity = face.identity
    kind = identity.glasses
    if kind == "none":
        return
    power = 2 / _SQUARENESS[kind]
    cos, sin = np.cos(_TURN), np.sin(_TURN)
    shape = np.stack([np.sign(cos) * np.abs(cos) ** power, np.sign(sin) * np.abs(sin) ** power], 1)
    rx, ry = (0.33, 0.29) if kind == "round" else (0.36, 0.24)
    rims = [shape * (rx, ry) + (sign * 0.51, 0.03) for sign in SIGN]
    inner = 0.51 - rx
    bridge = smooth([(-inner, 0.0), (0, -0.05), (inner, 0.0)], 4)
    arms = [np.array([(sign * (0.51 + rx), -0.03), (sign * 1.10, -0.08)]) for sign in SIGN]
    width = 0.022 if kind == "rimless" else 0.05
    shadow = [np.add(rim, (0.0, 0.05)) for rim in rims]
    canvas.soft_lines(shadow, scaled(identity.skin, 0.4), width, 0.25, 0.015)
    canvas.lines([*rims, bridge, *arms], identity.glasses_colour, width)
    side = 1 if light.direction[0] > 0 else -1
    for sign in SIGN:
        x = sign * 0.51 + 0.12 * side
        glint = np.array([(x - 0.02, -0.14), (x + 0.06, -0.14), (x - 0.04, 0.14), (x - 0.12, 0.14)])
        canvas.soft_fill([glint], (255, 255, 255), 0.13)
