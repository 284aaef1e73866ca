"""Eyes, brows, nose and mouth, painted on the skin."""

from __future__ import annotations

import cv2
import numpy as np

from edgefel.data.synthetic.canvas import Canvas, blend
from edgefel.data.synthetic.curves import Points, smooth
from edgefel.data.synthetic.geometry import SIGN, Eye, Face
from edgefel.data.synthetic.identity import Colour

_CIRCLE = np.stack(
    [np.cos(np.linspace(0, 2 * np.pi, 25)[:-1]), np.sin(np.linspace(0, 2 * np.pi, 25)[:-1])], 1
)
_DARK_MOUTH: Colour = (58, 20, 22)


def scaled(colour: Colour, factor: float) -> Colour:
    """A lighter or darker colour."""
    red, green, blue = (min(255.0, channel * factor) for channel in colour)
    return red, green, blue


def mixed(first: Colour, second: Colour, share: float) -> Colour:
    """`share` of the second colour in the first."""
    red, green, blue = (a + (b - a) * share for a, b in zip(first, second, strict=True))
    return red, green, blue


def ellipse(x: float, y: float, rx: float, ry: float) -> Points:
    """An outline [24, 2]."""
    return _CIRCLE * (rx, ry) + (x, y)


def paint_eye(canvas: Canvas, face: Face, side: int) -> None:
    """Eyeball clipped to the lids, then lids, lashes and the fold above."""
    identity, eye = face.identity, face.eyes[side]
    opening = np.concatenate([eye.upper, eye.lower[::-1]])
    sign = SIGN[side]
    if identity.makeup > 0.1:
        shadow = np.concatenate([eye.upper - (0, 0.005), eye.fold[::-1]])
        canvas.soft_fill([shadow], scaled(identity.skin, 0.55), 0.5 * identity.makeup, 0.02)
    lid = np.concatenate([eye.upper, (eye.fold + (0, 0.012))[::-1]])
    canvas.soft_fill([lid], scaled(identity.skin, 0.9), 0.4, 0.008)
    _paint_eyeball(canvas, face, eye, opening)
    skin = identity.skin
    inner = eye.upper[0]
    canvas.fill(
        ellipse(float(inner[0]) + sign * 0.016, float(inner[1]) + 0.004, 0.018, 0.013),
        mixed(skin, (190, 90, 90), 0.6),
    )
    lash = scaled(identity.brow, 0.45)
    canvas.soft_lines([eye.upper], lash, 0.021 + 0.012 * identity.makeup, 0.92, 0.004)
    outer = eye.upper[-1]
    flick = np.array([eye.upper[-4], outer, outer + (sign * 0.035, -0.02)])
    canvas.soft_lines([flick], lash, 0.018, 0.25 + 0.6 * identity.makeup, 0.004)
    canvas.soft_lines([eye.lower], mixed(scaled(skin, 0.5), (120, 60, 60), 0.3), 0.013, 0.6, 0.005)
    if identity.eye_fold > 0.02:
        canvas.soft_lines([eye.fold[1:-1]], scaled(skin, 0.5), 0.014, 0.65, 0.006)


def _paint_eyeball(canvas: Canvas, face: Face, eye: Eye, opening: Points) -> None:
    grid = canvas.grid
    low = np.floor((opening.min(0) - (-1.75, -1.45)) * grid.scale).astype(int) - 2
    high = np.ceil((opening.max(0) - (-1.75, -1.45)) * grid.scale).astype(int) + 3
    x0, y0, x1, y1 = max(low[0], 0), max(low[1], 0), min(high[0], grid.side), min(high[1], grid.side)
    if x1 <= x0 or y1 <= y0:
        return
    offset = np.array([x0, y0]) << 4

    def pixels(points: Points) -> np.ndarray:  # type: ignore[type-arg]
        return (grid.to_pixels(points) - offset).astype(np.int32)

    white = mixed((236, 230, 226), face.identity.skin, 0.10)
    ball = np.empty((y1 - y0, x1 - x0, 3), np.uint8)
    ball[:] = np.round(white)
    x, y = eye.pupil
    iris = face.identity.iris
    for radius, colour in ((0.099, scaled(iris, 0.45)), (0.086, iris), (0.043, (14.0, 11.0, 11.0))):
        cv2.fillPoly(ball, [pixels(ellipse(x, y, radius, radius))], colour, cv2.LINE_AA, 4)
    cv2.fillPoly(ball, [pixels(ellipse(x, y + 0.05, 0.05, 0.022))], scaled(iris, 1.35), cv2.LINE_AA, 4)
    cv2.fillPoly(ball, [pixels(ellipse(x, y, 0.043, 0.043))], (14, 11, 11), cv2.LINE_AA, 4)
    # the upper lid shades the eyeball
    lid = np.concatenate([eye.upper - (0, 0.2), (eye.upper + (0, 0.028))[::-1]])
    shade = np.zeros(ball.shape[:2], np.uint8)
    cv2.fillPoly(shade, [pixels(lid)], 255, cv2.LINE_AA, 4)
    blend(ball, cv2.GaussianBlur(shade, (0, 0), 0.015 * grid.scale), scaled(white, 0.22), 0.6)
    mask = np.zeros(ball.shape[:2], np.uint8)
    cv2.fillPoly(mask, [pixels(opening)], 255, cv2.LINE_AA, 4)
    blend(canvas.rgb[y0:y1, x0:x1], mask, ball)


def paint_catchlights(canvas: Canvas, face: Face, light_x: float, light_y: float, strength: float) -> None:
    """The light's reflection on the cornea, where the lids leave room."""
    for eye in face.eyes:
        x, y = eye.pupil[0] + 0.035 * light_x, eye.pupil[1] + 0.035 * light_y
        if eye.opening > 0.09:
            canvas.soft_fill([ellipse(x, y, 0.021, 0.021)], (255, 255, 255), strength, 0.004)


def paint_brow(canvas: Canvas, face: Face, side: int, rng: np.random.Generator) -> None:
    """A tapered stroke with single hairs."""
    identity, line = face.identity, face.brows[side]
    profile = np.interp(np.linspace(0, 1, len(line)), (0, 0.12, 0.45, 0.75, 1), (0.55, 0.95, 1.0, 0.7, 0.12))
    half = 0.5 * identity.brow_thick * profile * (1 + 0.12 * face.sides[side][4])
    offset = np.stack([np.zeros_like(half), half], 1)
    canvas.soft_fill([np.concatenate([line - offset, (line + offset)[::-1]])], identity.brow, 0.78, 0.013)
    at = rng.integers(0, len(line) - 2, 16)
    lean = np.linspace(0.25, 0.95, len(line))[at]
    start = line[at] + np.stack([np.zeros(16), half[at] * rng.uniform(-0.4, 0.9, 16)], 1)
    tip = start + np.stack([SIGN[side] * 0.07 * lean, -0.05 * (1.1 - lean) - 0.01], 1)
    canvas.soft_lines(list(np.stack([start, tip], 1)), scaled(identity.brow, 0.7), 0.011, 0.6)


def paint_nose(canvas: Canvas, face: Face) -> None:
    """Nostrils, wings and the edge below; the ridge comes from the relief."""
    identity, y = face.identity, face.nose_y
    skin, dark = identity.skin, scaled(identity.skin, 0.36)
    nostrils, wings = [], []
    for side in (0, 1):
        sign, up, wing = SIGN[side], face.nose_up[side], identity.nose_width
        nostrils.append(ellipse(sign * 0.52 * wing, y + 0.075 - up, 0.27 * wing, 0.030))
        wings.append(
            smooth(
                [
                    (sign * (wing - 0.04), y - 0.10 - up),
                    (sign * (wing + 0.005), y - 0.01 - up),
                    (sign * (wing - 0.025), y + 0.06 - up),
                    (sign * 0.75 * wing, y + 0.085 - up),
                ],
                3,
            )
        )
    up = 0.5 * sum(face.nose_up)
    base = smooth(
        [
            (-0.6 * identity.nose_width, y + 0.10 - up),
            (0, y + 0.115 - 0.6 * up),
            (0.6 * identity.nose_width, y + 0.10 - up),
        ],
        4,
    )
    canvas.soft_lines([base], scaled(skin, 0.55), 0.022, 0.55, 0.014)
    canvas.soft_lines(wings, scaled(skin, 0.52), 0.020, 0.62, 0.012)
    canvas.soft_fill(nostrils, mixed(dark, (70, 24, 20), 0.3), 0.85, 0.013)


def paint_mouth(canvas: Canvas, face: Face) -> None:
    """Lips, the line between them or the inside of an open mouth."""
    identity, mouth = face.identity, face.mouth
    lips = identity.lips
    upper = np.concatenate([mouth.top, mouth.inner_top[::-1]])
    lower = np.concatenate([mouth.inner_bottom, mouth.bottom[::-1]])
    soft = 0.014 - 0.008 * identity.makeup
    canvas.soft_fill([lower], mixed(lips, (255, 190, 180), 0.06), 0.93, soft)
    canvas.soft_fill([upper], scaled(lips, 0.84), 0.93, soft)
    if mouth.gap > 0.012:
        _paint_inside(canvas, face)
        edge, strength = scaled(lips, 0.45), 0.5
    else:
        edge, strength = mixed(scaled(lips, 0.34), (60, 16, 18), 0.4), 0.92
    canvas.soft_lines([mouth.inner_top], edge, 0.024, strength, 0.006)
    corners = [ellipse(float(p[0]), float(p[1]), 0.028, 0.020) for p in (mouth.top[0], mouth.top[-1])]
    canvas.soft_fill(corners, scaled(lips, 0.42), 0.65, 0.016)
    below = mouth.bottom[5:16] + (0, 0.018)
    canvas.soft_lines([below], scaled(identity.skin, 0.6), 0.03, 0.35, 0.02)


def _paint_inside(canvas: Canvas, face: Face) -> None:
    mouth = face.mouth
    top, bottom = mouth.inner_top, mouth.inner_bottom
    canvas.soft_fill([np.concatenate([top, bottom[::-1]])], _DARK_MOUTH, 1.0, 0.004)
    room = bottom - top
    inside = slice(2, -2)
    if mouth.gap > 0.12:
        tongue_top = bottom - room * (0, 0.34) * np.stack(
            [np.ones(21), np.clip(1 - np.linspace(-1.3, 1.3, 21) ** 2, 0, 1)], 1
        )
        canvas.soft_fill([np.concatenate([tongue_top, bottom[::-1]])], (132, 58, 60), 0.9, 0.02)
    smile = face.both(12)
    # a dropped jaw leaves the upper lip over the teeth, a smile or a sneer bares them
    show = 0.045 + 0.075 * smile + 0.06 * face.both(9) + 0.055 * face.both(20) + 0.03 * face.both(25)
    teeth = top + np.minimum(room * (0, 0.92), np.array((0.0, show)))
    enamel: Colour = (232, 226, 212)
    row = np.concatenate([top[inside], teeth[inside][::-1]])
    canvas.soft_fill([row], enamel, 0.96, 0.006)
    half = float(mouth.top[-1, 0])
    gaps = []
    for x in np.array([-0.26, -0.17, -0.085, 0.0, 0.085, 0.17, 0.26]):
        if abs(x) < half - 0.08:
            k = int(np.argmin(np.abs(top[:, 0] - x)))
            gaps.append(np.array([top[k] + (0, 0.006), teeth[k] - (0, 0.004)]))
    canvas.soft_lines(gaps, (150, 130, 116), 0.009, 0.55)
    lower_show = 0.055 * face.both(16) + 0.03 * face.both(20) + 0.02 * face.both(25)
    if mouth.gap > 0.06 and lower_show > 0.015:
        teeth = bottom - np.minimum(room * (0, 0.3), np.array((0.0, lower_show)))
        inner = slice(4, -4)
        canvas.soft_fill(
            [np.concatenate([teeth[inner], bottom[inner][::-1]])], scaled(enamel, 0.9), 0.92, 0.008
        )
    # the upper lip shades the teeth
    canvas.soft_lines([top[1:-1]], _DARK_MOUTH, 0.03, 0.45, 0.014)
