"""Everything around the face: pose, light, background, camera and what gets in the way."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from edgefel.data.synthetic.canvas import EXTENT, SHIFT, TOP, Canvas, Field, Image, blend, gaussian
from edgefel.data.synthetic.curves import smooth
from edgefel.data.synthetic.features import ellipse
from edgefel.data.synthetic.geometry import Rest
from edgefel.data.synthetic.options import FaceOptions
from edgefel.data.synthetic.relief import Light

# The layout of an aligned crop: where the point between the pupils lies and how far apart they are, as
# shares of the image's side.
EYES_X, EYES_Y, EYES_APART = 0.5, 0.395, 0.365
# How many backdrops a set of faces has; an image shows a part of one.
BACKDROPS = 512
# Things in the background: brightness, colour [3], place [2], half size [2], kind
_THING_LEAST = np.array([20, -45, -45, -45, -1.7, -1.4, 0.1, 0.2, 0])
_THING_MOST = np.array([235, 45, 45, 45, 1.7, 1.6, 0.6, 2.0, 1])
_DISC = ellipse(0, 0, 1, 0.5)
_BOX = np.array([(-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0)])


@dataclass(frozen=True)
class Pose:
    """yaw, pitch, roll in radians; scale relative to the layout; shift in shares of the side."""

    yaw: float
    pitch: float
    roll: float
    scale: float
    shift: tuple[float, float]


@dataclass(frozen=True)
class Scene:
    """All that varies between two images of the same person with the same expression."""

    pose: Pose
    rest: Rest
    light: Light


def _normal(rng: np.random.Generator) -> float:
    """A standard normal deviate, not further out than 2."""
    return min(max(float(rng.standard_normal()), -2.0), 2.0)


def draw_scene(options: FaceOptions, rng: np.random.Generator) -> Scene:
    """Pose, gaze and light of one image."""
    turn = options.pose

    def normal(spread: float) -> float:
        return spread * _normal(rng)

    pose = Pose(
        yaw=math.radians(normal(9.0)) * turn,
        pitch=math.radians(normal(5.5)) * turn,
        roll=math.radians(normal(3.5)) * turn,
        scale=1 + normal(0.03) * turn,
        shift=(normal(0.015) * turn, normal(0.015) * turn),
    )
    rest = Rest(gaze=(normal(0.5), normal(0.4)), lids=float(1 - 0.12 * options.nuisance * rng.random() ** 2))
    return Scene(pose, rest, _light(options.nuisance, rng))


def _light(nuisance: float, rng: np.random.Generator) -> Light:
    across = math.radians(32 * _normal(rng) * nuisance)
    above = math.radians(28 + 16 * _normal(rng) * nuisance)
    direction = (
        math.sin(across) * math.cos(above),
        -math.sin(above),
        max(math.cos(across) * math.cos(above), 0.2),
    )
    contrast = min(max(0.55 + 0.18 * _normal(rng) * nuisance, 0.2), 0.82)
    warm = 0.07 * _normal(rng) * nuisance
    bright = 1.02 * math.exp(0.10 * _normal(rng) * nuisance)
    key = contrast * bright
    # skin lets red through, so its shade is warm
    fill = (1.02 - 0.78 * contrast) * bright
    length = math.sqrt(sum(part * part for part in direction))
    return Light(
        direction=(direction[0] / length, direction[1] / length, direction[2] / length),
        colour=((1 + warm) * key, key, (1 - warm) * key),
        ambient=((1.03 - 0.5 * warm) * fill, 0.97 * fill, (0.95 + 0.5 * warm) * fill),
        gloss=float(rng.uniform(0.03, 0.2)),
    )


def draw_background(canvas: Canvas, options: FaceOptions, rng: np.random.Generator) -> None:
    """Lays a part of one of the BACKDROPS behind the face."""
    number, size, left, top = rng.random(4).tolist()
    backdrop = _backdrop(options.seed, options.nuisance, canvas.grid.side // 4, int(number * BACKDROPS))
    whole = len(backdrop)
    part = max(int(whole * (0.7 + 0.3 * size)), 1)
    x, y = int(left * (whole - part + 1)), int(top * (whole - part + 1))
    cv2.resize(
        backdrop[y : y + part, x : x + part],
        canvas.rgb.shape[1::-1],
        dst=canvas.rgb,
        interpolation=cv2.INTER_LINEAR,
    )


@lru_cache(maxsize=2 * BACKDROPS)
def _backdrop(seed: int, nuisance: float, side: int, number: int) -> Image:
    """Blurred colours [n, n, 3], sometimes with shapes; small, since it is out of focus."""
    # drawn once and kept: drawing one for each image would take as long as painting its eyes
    rng = np.random.default_rng(np.random.SeedSequence([seed, number], spawn_key=(6,)))
    canvas = Canvas(max(side, 16))
    base = rng.uniform(25, 225) + rng.uniform(-28, 28, 3)
    cells = int(rng.integers(2, 7))
    coarse = base + rng.normal(0, 18 * nuisance, (cells, cells, 3))
    coarse = np.minimum(np.maximum(coarse, 0), 255).astype(np.uint8)
    canvas.rgb[:] = cv2.resize(coarse, canvas.rgb.shape[1::-1], interpolation=cv2.INTER_CUBIC)
    count = int(rng.integers(0, 5) * min(nuisance, 1.0))
    if count:
        things = rng.uniform(_THING_LEAST, _THING_MOST, (count, len(_THING_LEAST)))
        colours = np.minimum(np.maximum(things[:, :1] + things[:, 1:4], 0), 255).tolist()
        for colour, thing in zip(colours, things, strict=True):
            # an ellipse or an upright rectangle
            shape = _DISC if thing[8] < 0.5 else _BOX
            canvas.fill([shape * thing[6:8] + thing[4:6]], tuple(colour))
    return np.asarray(gaussian(canvas.rgb, float(rng.uniform(0.01, 0.12)) * canvas.grid.scale), np.uint8)


def take_image(canvas: Canvas, depth: Field, pose: Pose, size: int) -> Image:
    """The image [size, size, 3]: turns the surface by its depth, then scales, rolls and shifts it.

    Turning is a displacement in proportion to depth (weak perspective); its inverse is found by two
    fixed-point steps, enough for the slopes of a face at up to about 20 degrees.
    """
    half = max(size // 4, 16)
    # all lengths are in pixels of the depth field from here on
    pixel = depth.shape[0] / EXTENT
    unit = EYES_APART * pose.scale
    cos, sin = math.cos(pose.roll), math.sin(pose.roll)
    axis = (np.arange(half, dtype=np.float32) + np.float32(0.5)) * np.float32(pixel / (half * unit))
    across = axis - np.float32((EYES_X + pose.shift[0]) / unit * pixel)
    # roll about the middle of the face, not about the eyes
    down = axis - np.float32(((EYES_Y + pose.shift[1]) / unit + 0.5) * pixel)
    down = down[:, None]
    # turn about an axis inside the head
    axis_x, axis_y = 0.45 * math.sin(pose.yaw), 0.45 * math.sin(pose.pitch)
    stretch_x, stretch_y = 1 / math.cos(pose.yaw), 1 / math.cos(pose.pitch)
    x_flat = np.float32(cos * stretch_x) * across + np.float32(sin * stretch_x) * down
    x_flat += np.float32((axis_x * stretch_x + EXTENT / 2) * pixel - 0.5)
    y_flat = np.float32(cos * stretch_y) * down - np.float32(sin * stretch_y) * across
    y_flat += np.float32(((0.5 + axis_y) * stretch_y - TOP) * pixel - 0.5)
    turn_x = np.float32(-math.sin(pose.yaw) * stretch_x * pixel)
    turn_y = np.float32(-math.sin(pose.pitch) * stretch_y * pixel)
    x, y = x_flat, y_flat
    for _ in range(2):
        z = cv2.remap(depth, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        x = turn_x * z
        x += x_flat
        z *= turn_y
        z += y_flat
        y = z
    full = (size, size)
    scale = canvas.grid.scale / pixel
    for field in (x, y):
        field += np.float32(0.5)
        field *= np.float32(scale)
        field -= np.float32(0.5)
    map_x = cv2.resize(x, full, interpolation=cv2.INTER_LINEAR)
    map_y = cv2.resize(y, full, interpolation=cv2.INTER_LINEAR)
    image = cv2.remap(canvas.rgb, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(image, np.uint8)


def spoil(image: Image, options: FaceOptions, rng: np.random.Generator) -> Image:
    """Occluders, blur, tone and noise of a real camera, in proportion to `options.nuisance`."""
    amount = options.nuisance
    if rng.random() < 0.10 * amount:
        _occlude(image, rng)
    size = image.shape[0]
    kind = rng.random()
    if kind < 0.30 * amount:
        image = np.asarray(gaussian(image, float(rng.uniform(0.3, 1.3)) * size / 224), np.uint8)
    elif kind < 0.42 * amount:
        small = max(16, int(size * rng.uniform(0.35, 0.7)))
        coarse = cv2.resize(image, (small, small), interpolation=cv2.INTER_AREA)
        image = np.asarray(cv2.resize(coarse, (size, size), interpolation=cv2.INTER_LINEAR), np.uint8)
    if rng.random() < 0.08 * amount:
        image = np.asarray(
            cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB), np.uint8
        )
    return _develop(image, amount, rng)


def _develop(image: Image, amount: float, rng: np.random.Generator) -> Image:
    """Contrast, brightness and noise in one pass."""
    contrast = 1 + 0.12 * amount * _normal(rng)
    bright = 120 * (1 - contrast) + 7 * amount * _normal(rng)
    noise = 0.14 * amount * float(rng.random()) ** 1.5
    grain = _grain(image.size)
    start = int(rng.integers(len(grain) - image.size))
    grain = grain[start : start + image.size].reshape(image.shape)
    return np.asarray(cv2.addWeighted(image, contrast, grain, noise, bright - 127.5 * noise), np.uint8)


@lru_cache(maxsize=4)
def _grain(size: int) -> Image:
    """Noise bytes around 127.5, more than one image needs: images take different stretches of it."""
    # drawing it anew for each image would cost more than rendering the eyes
    rng = np.random.default_rng(np.random.SeedSequence([size]))
    deviates = rng.normal(127.5, 50.0, size + (1 << 18))
    return np.clip(np.rint(deviates), 0, 255).astype(np.uint8)


def _occlude(image: Image, rng: np.random.Generator) -> None:
    """A soft-edged thing before the face, from one side: a hand, a cup, a shoulder."""
    size = image.shape[0]
    angle = rng.uniform(0, 2 * math.pi)
    centre = np.array([0.5 + 0.55 * math.cos(angle), 0.5 + 0.55 * math.sin(angle)])
    radius = rng.uniform(0.12, 0.24)
    turns = np.linspace(0, 2 * np.pi, 9)[:-1]
    spokes = np.stack([np.cos(turns), np.sin(turns)], 1) * (radius * rng.uniform(0.7, 1.3, 8))[:, None]
    outline = smooth(centre + spokes, 5, closed=True) * size
    soft = float(rng.uniform(0.3, 2.5)) * size / 224
    margin = int(3 * soft) + 2
    x0, y0 = np.clip(np.floor(outline.min(0)).astype(int) - margin, 0, size).tolist()
    x1, y1 = np.clip(np.ceil(outline.max(0)).astype(int) + margin, 0, size).tolist()
    colour = rng.uniform(20, 235, 3)
    if x1 <= x0 or y1 <= y0:
        return
    mask = np.zeros((y1 - y0, x1 - x0), np.uint8)
    cv2.fillPoly(mask, [np.rint((outline - (x0, y0)) * 16).astype(np.int32)], 255, cv2.LINE_AA, SHIFT)
    ramp = np.linspace(0.75, 1.15, y1 - y0)[:, None, None]
    surface = np.clip(colour * ramp, 0, 255).astype(np.uint8)
    whole = np.ascontiguousarray(np.broadcast_to(surface, (*mask.shape, 3)))
    blend(image[y0:y1, x0:x1], np.asarray(gaussian(mask, soft), np.uint8), whole)
