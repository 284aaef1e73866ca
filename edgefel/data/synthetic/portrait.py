"""Paints one face on a surface, from the back to the front, and lights it."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from edgefel.data.synthetic.canvas import Canvas, Field, Image, Layers, blend, corner, draw, grid
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
from edgefel.data.synthetic.shapes import (
    CIRCLE,
    MIRROR,
    SIGN,
    Colour,
    Points,
    Shapes,
    ellipse,
    mirrored,
    mixed,
    ring,
    scaled,
    smooth,
    smooth_each,
)

# Light and soft shadow are smooth: they are computed at this share of the canvas' resolution.
COARSE = 0.41
# Multipliers are stored as bytes: 255 stands for this factor.
_RANGE = 1.9
# Share of red, green and blue that a full stroke of ink absorbs: shadow on skin is warm.
_INK = np.array([0.62, 0.78, 0.80], np.float32)[:, None, None]
_TURN = np.linspace(0, 2 * np.pi, 29)
_SQUARENESS = {"round": 2.0, "square": 4.0, "rimless": 2.8}
_TONGUE = np.stack([np.zeros(21), 0.34 * np.clip(1 - np.linspace(-1.3, 1.3, 21) ** 2, 0, 1)], 1)
_TOOTH_GAPS = np.array([-0.26, -0.17, -0.085, 0.0, 0.085, 0.17, 0.26])
_BROW_PROFILE = np.interp(np.linspace(0, 1, 17), (0, 0.12, 0.45, 0.75, 1), (0.55, 0.95, 1.0, 0.7, 0.12))
# single hairs stand up at the inner end of a brow and lie down at the outer one: [2, 17, 2]
_LEAN = np.linspace(0.25, 0.95, 17)
_HAIR_LEAN = np.stack([np.stack([sign * 0.07 * _LEAN, -0.05 * (1.1 - _LEAN) - 0.01], 1) for sign in SIGN])
_LASHES = np.stack([np.zeros(13), np.linspace(0.35, 1.0, 13)], 1)
_LASH_FLICK = np.array([[sign, -0.02] for sign in SIGN])
_LASH_FOOT = np.array((0.0, 0.004))
_DARK_MOUTH: Colour = (52, 18, 20)
_LIP_SEAM = np.stack([np.zeros(21), 0.012 * np.clip(1 - np.linspace(-1, 1, 21) ** 4, 0, 1)], 1)
_LIP_RISE = np.array((0.0, 0.009))
_LIP_INSET = np.array((0.0, 0.01))
_ENAMEL: Colour = (234, 228, 216)
_LID_SHADOW, _LIP_SHADOW, _TEETH_SHADOW = np.array([[0, 0.022], [0, 0.02], [0, 0.015]])
_DUCTS = np.stack([CIRCLE * (0.018, 0.013) + (s * 0.016, 0.004) for s in SIGN])
_CATCHLIGHT = 0.019 * CIRCLE
_MOUTH_CORNER = CIRCLE * (0.03, 0.022)
# the iris from the outside in, and the pupil: size and drop of each, outlines [4, 1, 24, 2]
_EYE_DISCS = ((0.099, 0.0), (0.086, 0.0), ((0.05, 0.022), 0.05), (0.043, 0.0))
_DISCS = np.stack([CIRCLE * size + (0, drop) for size, drop in _EYE_DISCS])[:, None]
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
    _paint_nostrils(canvas, face)
    _paint_mouth(canvas, face)
    _paint_eyes(canvas, face)
    _paint_brows(canvas, face)
    _LAYERS.lay(canvas, paint_front_hair, identity)
    _light(canvas, face, relief, light)
    _paint_catchlights(canvas, face, light.direction[0], light.direction[1])
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
    _ink_ears(ink, identity)
    for shape in (*back_outlines(identity), *front_outlines(identity)[:1], _neck(identity), *_ears(identity)):
        silhouette.fill([shape], 1.0)
    return ink.pixels, silhouette.pixels


def _light(canvas: Canvas, face: Face, relief: Relief, light: Light) -> None:
    """Multiplies the painting by the light that falls on it; around the head the light is even."""
    multipliers, shine = shade(relief, light)
    ink, silhouette = Canvas(relief.grid.side, 1), Canvas(relief.grid.side, 1)
    ink.pixels[:], silhouette.pixels[:] = _still(face.identity, relief.grid.side)
    silhouette.fill([face.outline], 1.0)
    _ink_lines(ink, face)
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


def _paint_eyes(canvas: Canvas, face: Face) -> None:
    """Eyeballs clipped to the lids, then lashes and lid edges; both eyes at once."""
    identity, eyes = face.identity, face.eyes
    skin, makeup = identity.skin, identity.makeup
    if makeup > 0.15:
        canvas.soft([ring(eye.fold, eye.upper) for eye in eyes], scaled(skin, 0.5), 0.45 * makeup, 0.012)
    _paint_eyeballs(canvas, face)
    ducts = np.array([eye.upper[0] for eye in eyes])[:, None] + _DUCTS
    canvas.fill(ducts, mixed(skin, (190, 90, 90), 0.6))
    edge = mixed(scaled(skin, 0.5), (120, 60, 60), 0.3)
    canvas.lines([eye.lower for eye in eyes], mixed(skin, edge, 0.55))
    # lashes: a band above the lid that thickens towards the outer corner, where it runs out in a flick
    thick = _LASHES * (0.026 + 0.02 * makeup)
    flicks = _LASH_FLICK * (0.02 + 0.03 * makeup, 1)
    lashes = [
        np.concatenate([eye.upper + _LASH_FOOT, eye.upper[-1:] + flick, (eye.upper - thick)[::-1]])
        for flick, eye in zip(flicks, eyes, strict=True)
    ]
    canvas.fill(lashes, scaled(identity.brow, 0.45))


def _paint_eyeballs(canvas: Canvas, face: Face) -> None:
    openings = canvas.grid.to_pixels(np.stack([ring(eye.upper, eye.lower) for eye in face.eyes]))
    around = canvas.around(openings.reshape(-1, 2), 2)
    if around is None:
        return
    region = canvas.pixels[around]
    white = mixed((240, 234, 230), face.identity.skin, 0.08)
    iris = face.identity.iris
    ball = np.zeros(region.shape, np.uint8)
    cv2.rectangle(ball, (0, 0), ball.shape[1::-1], white, cv2.FILLED)
    pupils = np.array([eye.pupil for eye in face.eyes])[:, None]
    discs = canvas.grid.to_pixels(pupils + _DISCS) - corner(around)
    colours = (scaled(iris, 0.45), iris, scaled(iris, 1.35), (14.0, 11.0, 11.0))
    for pair, colour in zip(discs, colours, strict=True):
        draw(ball, list(pair), colour)
    mask = np.zeros(ball.shape[:2], np.uint8)
    draw(mask, list(openings - corner(around)), 255)
    blend(region, mask, ball)


def _paint_catchlights(canvas: Canvas, face: Face, light_x: float, light_y: float) -> None:
    """The light's reflection on the cornea, where the lids leave room."""
    glints = [
        np.add(_CATCHLIGHT, (eye.pupil[0] + 0.035 * light_x, eye.pupil[1] + 0.035 * light_y))
        for eye in face.eyes
        if eye.opening > 0.09
    ]
    canvas.fill(glints, (250, 250, 250))


def _paint_brows(canvas: Canvas, face: Face) -> None:
    """Tapered strokes with single hairs."""
    identity = face.identity
    at, height = _brow_hairs(identity.stream)
    lines = np.stack(face.brows)  # [2, 17, 2]
    frown = np.array([[1 + 0.12 * side[4]] for side in face.sides])
    half = np.zeros((2, 17, 2))
    half[..., 1] = frown * (0.5 * identity.brow_thick * _BROW_PROFILE)
    bodies = np.concatenate([lines - half, (lines + half)[:, ::-1]], 1)
    canvas.fill(bodies, mixed(identity.skin, identity.brow, 0.78))
    start = lines[:, at] + half[:, at] * height[:, None]
    hairs = np.stack([start, start + _HAIR_LEAN[:, at]], 2)
    canvas.lines(hairs.reshape(-1, 2, 2), scaled(identity.brow, 0.82))


@lru_cache(maxsize=1024)
def _brow_hairs(stream: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    rng = np.random.default_rng(stream)
    return rng.integers(0, 15, 9), rng.uniform(-0.4, 0.9, 9)


def _paint_nostrils(canvas: Canvas, face: Face) -> None:
    """The nostrils; the rest of the nose comes from the relief and from `ink_lines`."""
    wing, sides = face.identity.nose_width, zip(SIGN, face.nose_up, strict=True)
    nostrils = [ellipse(s * 0.52 * wing, face.nose_y + 0.075 - up, 0.25 * wing, 0.028) for s, up in sides]
    canvas.fill(nostrils, mixed(scaled(face.identity.skin, 0.42), (70, 24, 20), 0.3))


def _ink_lines(ink: Canvas, face: Face) -> None:
    """Soft dark lines that are shadow more than colour: nose wings, below and beside the mouth, ears."""
    identity, mouth, y = face.identity, face.mouth, face.nose_y
    wing = identity.nose_width
    sign, up = np.array(SIGN), np.array(face.nose_up)
    wing_x = (sign * (wing - 0.04), sign * (wing + 0.005), sign * (wing - 0.025), sign * 0.75 * wing)
    wing_y = (y - 0.10 - up, y - 0.01 - up, y + 0.06 - up, y + 0.085 - up)
    mean = 0.5 * sum(face.nose_up)
    base = [(-0.6 * wing, y + 0.10 - mean), (0.0, y + 0.115 - 0.6 * mean), (0.6 * wing, y + 0.10 - mean)]
    groups: list[tuple[Shapes, float]] = [
        (smooth_each(np.stack([wing_x, wing_y], 2)), 0.62),
        ([eye.fold[1:-1] for eye in face.eyes], 0.75 if identity.eye_fold > 0.02 else 0.3),
        # the upper lids shade the eyeballs
        ([eye.upper[1:-1] + _LID_SHADOW for eye in face.eyes], 0.7),
        ([smooth(base)], 0.5),
        ([mouth.bottom[5:16] + _LIP_SHADOW], 0.42),
        ([face.outline[18:58]], 0.5),
    ]
    if mouth.gap > 0.012:
        # the upper lip shades the teeth
        groups.append(([mouth.inner_top[1:-1] + _TEETH_SHADOW], 0.45))
    for lines, strength in groups:
        ink.lines(lines, strength)
    ink.fill(np.stack([mouth.top[:1], mouth.top[-1:]]) + _MOUTH_CORNER, 0.48)


def _ink_ears(ink: Canvas, identity: Identity) -> None:
    """The rims of the ears."""
    x = identity.face_width + 0.025
    ink.lines([ellipse(s * x, 0.10, 0.07, 0.2)[4:20] for s in SIGN], 0.6)


def _paint_mouth(canvas: Canvas, face: Face) -> None:
    """Lips, the line between them or the inside of an open mouth."""
    identity, mouth = face.identity, face.mouth
    lips = identity.lips
    canvas.fill([ring(mouth.top, mouth.bottom)], mixed(lips, identity.skin, 0.1))
    canvas.fill([ring(mouth.top[1:-1] + _LIP_INSET, mouth.inner_top[1:-1])], scaled(lips, 0.86))
    edge = mixed(scaled(lips, 0.38), (60, 16, 18), 0.4)
    if mouth.gap > 0.012:
        _paint_inside(canvas, face)
        edge = scaled(lips, 0.62)
    canvas.fill([ring(mouth.inner_top - _LIP_RISE, mouth.inner_top + _LIP_SEAM)], edge)


def _paint_inside(canvas: Canvas, face: Face) -> None:
    mouth = face.mouth
    top, bottom = mouth.inner_top, mouth.inner_bottom
    canvas.fill([ring(top, bottom)], _DARK_MOUTH)
    room = bottom - top
    if mouth.gap > 0.12:
        canvas.fill([ring(bottom - room * _TONGUE, bottom)], (122, 52, 54))
    # a dropped jaw leaves the upper lip over the teeth, a smile or a sneer bares them
    show = 0.04 + 0.08 * face.both(12) + 0.06 * face.both(9) + 0.055 * face.both(20) + 0.03 * face.both(25)
    teeth = top + np.minimum(room * (0, 0.92), np.array((0.0, show)))
    canvas.fill([ring(top[2:-2], teeth[2:-2])], _ENAMEL)
    half = float(mouth.top[-1, 0]) - 0.08
    near = [int(np.argmin(np.abs(top[:, 0] - x))) for x in _TOOTH_GAPS if abs(x) < half]
    canvas.lines([np.array([top[k], teeth[k]]) for k in near], (196, 184, 172))
    lower_show = 0.055 * face.both(16) + 0.03 * face.both(20) + 0.02 * face.both(25)
    if mouth.gap > 0.06 and lower_show > 0.015:
        teeth = bottom - np.minimum(room * (0, 0.3), np.array((0.0, lower_show)))
        canvas.fill([ring(teeth[4:-4], bottom[4:-4])], scaled(_ENAMEL, 0.86))
