"""Paints one face on a surface, from the back to the front, and lights it."""

from __future__ import annotations

import cv2
import numpy as np

from edgefel.data.synthetic.canvas import Canvas, Field, Grid, grid
from edgefel.data.synthetic.curves import smooth
from edgefel.data.synthetic.features import (
    ellipse,
    mixed,
    paint_brow,
    paint_catchlights,
    paint_eye,
    paint_mouth,
    paint_nose,
    scaled,
)
from edgefel.data.synthetic.geometry import SIGN, Face
from edgefel.data.synthetic.hair import head_silhouette, paint_back_hair, paint_beard, paint_front_hair
from edgefel.data.synthetic.relief import Light, Relief, build_relief, shade

# Multipliers travel as bytes: 255 stands for this factor.
_RANGE = 1.6


def paint_portrait(
    canvas: Canvas, face: Face, light: Light, hair_rng: np.random.Generator, rng: np.random.Generator
) -> Field:
    """Paints and lights the face on `canvas`, whose content is the background.

    `hair_rng` belongs to the subject, `rng` to the picture. Returns the depth field [n, n] at half the
    canvas' resolution.
    """
    coarse = grid(canvas.grid.side // 2)
    relief = build_relief(face, coarse)
    paint_back_hair(canvas, face, hair_rng)
    _paint_body(canvas, face)
    _paint_skin(canvas, face, relief, hair_rng)
    paint_beard(canvas, face, hair_rng)
    paint_nose(canvas, face)
    paint_mouth(canvas, face)
    for side in (0, 1):
        paint_eye(canvas, face, side)
        paint_brow(canvas, face, side, hair_rng)
    paint_front_hair(canvas, face, hair_rng)
    _light(canvas, face, relief, coarse, light)
    lx, ly, _ = light.direction
    paint_catchlights(canvas, face, lx, ly, 0.85)
    paint_glasses(canvas, face, light)
    return relief.depth


def _paint_body(canvas: Canvas, face: Face) -> None:
    identity = face.identity
    width = 0.74 * identity.jaw_width + 0.06
    neck = np.array(
        [
            (-width, 0.9),
            (width, 0.9),
            (width + 0.02, 1.7),
            (width + 0.5, 2.1),
            (-width - 0.5, 2.1),
            (-width - 0.02, 1.7),
        ]
    )
    shirt = np.array([(-1.8, 2.1), (-1.8, 1.88), (-width, 1.72), (-0.2, 2.1)])
    canvas.fill(neck, scaled(identity.skin, 0.74))
    canvas.fill(shirt, identity.cloth)
    canvas.fill(shirt * (-1, 1), identity.cloth)
    for sign in SIGN:
        x = sign * (identity.face_width + 0.005)
        canvas.fill(ellipse(x, 0.12, 0.13, 0.30), scaled(identity.skin, 0.88))
        canvas.soft_lines(
            [ellipse(x + sign * 0.02, 0.10, 0.07, 0.2)[4:20]], scaled(identity.skin, 0.6), 0.03, 0.6, 0.01
        )


def _paint_skin(canvas: Canvas, face: Face, relief: Relief, rng: np.random.Generator) -> None:
    identity = face.identity
    canvas.fill(face.outline, identity.skin)
    rim = np.concatenate([face.outline, face.outline[:1]])
    canvas.soft_lines([rim[18:60]], scaled(identity.skin, 0.55), 0.03, 0.45, 0.02)
    if identity.freckles > 0.15:
        count = int(60 * identity.freckles)
        x = rng.normal(0, 0.45, count)
        y = 0.38 + rng.normal(0, 0.16, count)
        size = rng.uniform(0.006, 0.016, count)
        spots = [
            ellipse(float(a), float(b), float(s), float(s))[::4] for a, b, s in zip(x, y, size, strict=True)
        ]
        canvas.soft_fill(spots, mixed(scaled(identity.skin, 0.66), (150, 84, 50), 0.3), 0.55, 0.006)
    for _ in range(int(rng.integers(0, 3))):
        x, y = rng.uniform(-0.8, 0.8), rng.uniform(-0.6, 1.3)
        canvas.soft_fill([ellipse(float(x), float(y), 0.018, 0.018)], scaled(identity.skin, 0.42), 0.7, 0.005)


def _light(canvas: Canvas, face: Face, relief: Relief, coarse: Grid, light: Light) -> None:
    multiplier, shine = shade(relief, coarse, light)
    # blood shows as less green and blue, more where the skin is light
    flush = relief.red * np.float32(1.0 - 0.5 * face.identity.tone)
    multiplier[..., 1] *= 1 - np.float32(0.85) * flush
    multiplier[..., 2] *= 1 - np.float32(0.75) * flush
    silhouette = np.zeros(shine.shape, np.uint8)
    cv2.fillPoly(silhouette, [coarse.to_pixels(head_silhouette(face))], 255, cv2.LINE_AA, 4)
    inside = cv2.GaussianBlur(silhouette, (0, 0), 0.05 * coarse.scale).astype(np.float32)
    inside *= np.float32(1 / 255)
    around = np.array(light.ambient, np.float32) + np.float32(0.6) * np.array(light.colour, np.float32)
    multiplier = around + (multiplier - around) * inside[..., None]
    coded = np.clip(multiplier * np.float32(255 / _RANGE), 0, 255).astype(np.uint8)
    size = (canvas.grid.side, canvas.grid.side)
    factor = cv2.resize(coded, size, interpolation=cv2.INTER_LINEAR)
    cv2.multiply(canvas.rgb, factor, dst=canvas.rgb, scale=_RANGE / 255)
    gloss = np.clip(shine * inside * 255, 0, 255).astype(np.uint8)
    gloss = cv2.cvtColor(cv2.resize(gloss, size, interpolation=cv2.INTER_LINEAR), cv2.COLOR_GRAY2RGB)
    cv2.add(canvas.rgb, gloss, dst=canvas.rgb)


def paint_glasses(canvas: Canvas, face: Face, light: Light) -> None:
    """Frames, bridge, temples and a faint glint."""
    identity = face.identity
    kind = identity.glasses
    if kind == "none":
        return
    squareness = {"round": 2.0, "square": 4.0, "rimless": 2.8}[kind]
    angle = np.linspace(0, 2 * np.pi, 29)
    cos, sin = np.cos(angle), np.sin(angle)
    shape = np.stack(
        [np.sign(cos) * np.abs(cos) ** (2 / squareness), np.sign(sin) * np.abs(sin) ** (2 / squareness)], 1
    )
    rx, ry = (0.33, 0.29) if kind == "round" else (0.36, 0.24)
    rims = [shape * (rx, ry) + (sign * 0.51, 0.03) for sign in SIGN]
    inner = 0.51 - rx
    bridge = smooth([(-inner, 0.0), (0, -0.05), (inner, 0.0)], 4)
    arms = [np.array([(sign * (0.51 + rx), -0.03), (sign * 1.12, -0.08)]) for sign in SIGN]
    width = 0.022 if kind == "rimless" else 0.05
    colour = identity.glasses_colour
    canvas.soft_lines([r + (0.0, 0.045) for r in rims], scaled(identity.skin, 0.4), width, 0.28, 0.02)
    canvas.soft_fill(rims, (255, 255, 255), 0.05, 0.0)
    canvas.soft_lines([*rims, bridge, *arms], colour, width, 0.35 if kind == "rimless" else 0.95)
    lx = light.direction[0]
    for sign in SIGN:
        x = sign * 0.51 + 0.12 * (1 if lx > 0 else -1)
        glint = np.array([(x - 0.02, -0.14), (x + 0.06, -0.14), (x - 0.04, 0.14), (x - 0.12, 0.14)])
        canvas.soft_fill([glint], (255, 255, 255), 0.13, 0.02)
