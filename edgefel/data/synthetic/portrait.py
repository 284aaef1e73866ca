"""Paints one face on a surface, from the back to the front, and lights it."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

from edgefel.data.synthetic.canvas import Canvas, Field, Image, Layers, grid
from edgefel.data.synthetic.features import (
    ink_ears,
    ink_lines,
    paint_brows,
    paint_catchlights,
    paint_eyes,
    paint_mouth,
    paint_nostrils,
)
from edgefel.data.synthetic.geometry import Face, head_outline
from edgefel.data.synthetic.hair import (
    back_outlines,
    front_outlines,
    ink_hair,
    paint_back_hair,
    paint_beard,
    paint_front_hair,
)
from edgefel.data.synthetic.identity import Identity
from edgefel.data.synthetic.relief import Light, Relief, build_relief, shade
from edgefel.data.synthetic.shapes import MIRROR, SIGN, Points, ellipse, mirrored, mixed, scaled, smooth

# Light and soft shadow are smooth: they are computed at this share of the canvas' resolution.
COARSE = 0.41
# Multipliers are stored as bytes: 255 stands for this factor.
_RANGE = 1.9
# Share of red, green and blue that a full stroke of ink absorbs: shadow on skin is warm.
_INK = np.array([0.62, 0.78, 0.80], np.float32)[:, None, None]
_TURN = np.linspace(0, 2 * np.pi, 29)
_SQUARENESS = {"round": 2.0, "square": 4.0, "rimless": 2.8}
_LAYERS = Layers()


def paint_portrait(canvas: Canvas, face: Face, light: Light) -> Field:
    """Paints and lights the face on `canvas`, whose content is the background.

    Returns the depth field [n, n], coarser than the canvas.
    """
    identity = face.identity
    relief = build_relief(face, grid(round(canvas.grid.side * COARSE)))
    _LAYERS.lay(canvas, _paint_back, identity)
    if face.mouth.jaw > 0:
        _paint_skin(canvas, identity, face.outline)
    paint_beard(canvas, face)
    paint_nostrils(canvas, face)
    paint_mouth(canvas, face)
    paint_eyes(canvas, face)
    paint_brows(canvas, face)
    _LAYERS.lay(canvas, paint_front_hair, identity)
    _light(canvas, face, relief, light)
    paint_catchlights(canvas, face, light.direction[0], light.direction[1])
    if identity.glasses != "none":
        _LAYERS.lay(canvas, _paint_glasses, identity, 1 if light.direction[0] > 0 else -1)
    return relief.depth


def _neck_width(identity: Identity) -> float:
    return 0.74 * identity.jaw_width + 0.06


def _neck(identity: Identity) -> Points:
    width = _neck_width(identity)
    return mirrored(np.array([(width, 0.9), (width + 0.02, 1.7), (width + 0.5, 2.1)]))


def _ears(identity: Identity) -> list[Points]:
    return [ellipse(s * (identity.face_width + 0.005), 0.12, 0.13, 0.30) for s in SIGN]


def _paint_back(canvas: Canvas, identity: Identity) -> None:
    """What lies behind the features: hair, body, ears, and the skin with the jaw closed."""
    paint_back_hair(canvas, identity)
    canvas.fill([_neck(identity)], scaled(identity.skin, 0.74))
    shirt = np.array([(-1.8, 2.1), (-1.8, 1.88), (-_neck_width(identity), 1.72), (-0.2, 2.1)])
    canvas.fill([shirt, shirt * MIRROR], identity.cloth)
    canvas.fill(_ears(identity), scaled(identity.skin, 0.9))
    _paint_skin(canvas, identity, head_outline(identity, 0.0))


def _paint_skin(canvas: Canvas, identity: Identity, outline: Points) -> None:
    skin = identity.skin
    canvas.fill([outline], skin)
    freckles, moles = _spots(identity)
    canvas.fill(freckles, mixed(skin, (150, 84, 50), 0.35))
    canvas.fill(moles, scaled(skin, 0.5))


@lru_cache(maxsize=1024)
def _spots(identity: Identity) -> tuple[Points, Points]:
    """Freckles [m, 8, 2] and moles [k, 8, 2] of a subject."""
    rng = np.random.default_rng(identity.stream)
    count = max(int(70 * identity.freckles) - 10, 0)
    disc = ellipse(0, 0, 1, 1)[::3]
    at = rng.normal(0, 1, (count, 1, 2)) * (0.45, 0.16) + (0, 0.36)
    freckles = at + disc * rng.uniform(0.005, 0.013, (count, 1, 1))
    count = int(rng.integers(0, 3))
    moles = rng.uniform((-0.8, -0.6), (0.8, 1.3), (count, 1, 2)) + disc * 0.015
    return freckles, moles


@lru_cache(maxsize=1024)
def _still(identity: Identity, side: int) -> tuple[Image, Image]:
    """Masks that no expression changes: the shadow of the hair, and the silhouette without the face itself."""
    ink, silhouette = Canvas(side, 1), Canvas(side, 1)
    ink_hair(ink, identity)
    ink_ears(ink, identity)
    for shape in (*back_outlines(identity), *front_outlines(identity)[:1], _neck(identity), *_ears(identity)):
        silhouette.fill([shape], 1.0)
    return ink.pixels, silhouette.pixels


def _light(canvas: Canvas, face: Face, relief: Relief, light: Light) -> None:
    """Multiplies the painting by the light that falls on it; around the head the light is even."""
    multipliers, shine = shade(relief, light)
    ink, silhouette = Canvas(relief.grid.side, 1), Canvas(relief.grid.side, 1)
    ink.pixels[:], silhouette.pixels[:] = _still(face.identity, relief.grid.side)
    silhouette.fill([face.outline], 1.0)
    ink_lines(ink, face)
    inside = silhouette.blurred(0.0)
    multipliers *= 1 - ink.blurred(0.022) * inside * _INK
    # a highlight adds the same light to any skin: as a factor it is larger on dark skin
    skin = np.array(face.identity.skin, np.float32)[:, None, None]
    multipliers += shine * (np.float32(255) / np.maximum(skin, np.float32(50)))
    even = np.array(light.ambient, np.float32) + np.float32(0.6) * np.array(light.colour, np.float32)
    even = even[:, None, None]
    multipliers = (multipliers - even) * inside + even
    planes = cv2.convertScaleAbs(multipliers.reshape(3, -1), alpha=255 / _RANGE).reshape(multipliers.shape)
    size = canvas.pixels.shape[1::-1]
    factor = cv2.resize(cv2.merge(list(planes)), size, interpolation=cv2.INTER_LINEAR)
    cv2.multiply(canvas.pixels, factor, dst=canvas.pixels, scale=_RANGE / 255)


def _paint_glasses(canvas: Canvas, identity: Identity, side: int) -> None:
    """Frames, bridge, temples and a faint glint on the `side` (-1 or 1) that the light comes from."""
    kind = identity.glasses
    power = 2 / _SQUARENESS[kind]
    cos, sin = np.cos(_TURN), np.sin(_TURN)
    shape = np.stack([np.sign(cos) * np.abs(cos) ** power, np.sign(sin) * np.abs(sin) ** power], 1)
    rx, ry = (0.33, 0.29) if kind == "round" else (0.36, 0.24)
    width = 0.02 if kind == "rimless" else 0.05
    outer, inner = shape * (rx, ry), shape * (rx - width, ry - width)
    rims = [np.add(edge, (sign * 0.51, 0.03)) for sign in SIGN for edge in (outer, inner)]
    gap = 0.52 - rx
    bridge = smooth([(-gap, 0.0), (0, -0.05), (gap, 0.0)], 3)
    arms = [np.array([(sign * (0.50 + rx), -0.03), (sign * 1.10, -0.08)]) for sign in SIGN]
    # even-odd: each inner edge is a hole
    canvas.fill(rims, identity.glasses_colour)
    canvas.lines([bridge, *arms], identity.glasses_colour, width)
    glint = np.array([(-0.02, -0.14), (0.06, -0.14), (-0.04, 0.14), (-0.12, 0.14)])
    canvas.soft([np.add(glint, (sign * 0.51 + 0.12 * side, 0)) for sign in SIGN], (255, 255, 255), 0.13)
