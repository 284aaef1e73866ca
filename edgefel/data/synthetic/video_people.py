"""The people of a synthetic video: who they are, how they move, and their portraits with a matte."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edgefel.data.synthetic.canvas import EXTENT, TOP, Canvas, Field, Image, canvas_side
from edgefel.data.synthetic.expressions import UNITS, Expression, draw_units
from edgefel.data.synthetic.geometry import Face, build_face
from edgefel.data.synthetic.identity import Identity, draw_identity
from edgefel.data.synthetic.options import FaceOptions
from edgefel.data.synthetic.portrait import paint_portrait
from edgefel.data.synthetic.scene import EYES_APART, EYES_X, EYES_Y, Pose, draw_scene, take_image

Point = tuple[float, float]

# The surface that portraits are painted on ends below the crown and above the shoulders. A rounded, soft-edged
# frame hides where: full inside of the crop that a detector cuts out, nothing near the surface's edge, beyond which
# `take_image` repeats it in a mirror.
_FRAME_POWER, _FRAME_END, _FRAME_SOFT = 6.0, 0.95, 0.09
# What a tile shows is the surface, as a share of the side of the face; both have the same middle.
TILE_SHARE = EXTENT * EYES_APART
# Hair and head wear that hang over the brows, glasses and beards that cover the mouth hide what tells expressions
# apart from the cascade and from a small model alike: a clip is a test of what follows faces.
_OPEN_HAIR = ("bald", "short", "parted", "curly", "receding", "long", "bob")
_OPEN_BEARDS = ("none", "stubble")


@dataclass(frozen=True)
class Wave:
    """A sum of two sines of time, between -1 and 1. periods in seconds, phases in radians."""

    periods: tuple[float, float]
    phases: tuple[float, float]

    def at(self, time: float) -> float:
        """Its value at `time` seconds."""
        first, second = (
            math.sin(2 * math.pi * time / period + phase)
            for period, phase in zip(self.periods, self.phases, strict=True)
        )
        return 0.65 * first + 0.35 * second


@dataclass(frozen=True)
class Motion:
    """Where a face is and how it is turned, at any time.

    centre, reach: (x, y) in pixels, the middle of its way and how far it goes to each side. sides: smallest and
    largest side of the face in pixels. turn: most yaw, pitch and roll in radians. waves: of x, y, side, yaw, pitch
    and roll.
    """

    centre: Point
    reach: Point
    sides: tuple[float, float]
    turn: tuple[float, float, float]
    waves: tuple[Wave, Wave, Wave, Wave, Wave, Wave]

    def at(self, time: float) -> Placed:
        """The face at `time` seconds."""
        x, y, size, *angles = (wave.at(time) for wave in self.waves)
        middle, half = sum(self.sides) / 2, (self.sides[1] - self.sides[0]) / 2
        yaw, pitch, roll = (most * value for most, value in zip(self.turn, angles, strict=True))
        return Placed(
            centre=(self.centre[0] + self.reach[0] * x, self.centre[1] + self.reach[1] * y),
            side=middle + half * size,
            yaw=yaw,
            pitch=pitch,
            roll=roll,
        )


@dataclass(frozen=True)
class Placed:
    """A face in a frame: centre (x, y) and side in pixels of its square, angles in radians.

    The square is the layout of training crops: without a turn, the middle between the eyes is at half of its width
    and EYES_Y of its height.
    """

    centre: Point
    side: float
    yaw: float
    pitch: float
    roll: float

    def pose(self) -> tuple[Pose, int, int, int]:
        """The pose that draws it in a square tile, the tile's side, and its corner (x, y) in the frame."""
        tile = round(TILE_SHARE * self.side)
        x, y = (round(value - tile / 2) for value in self.centre)
        eyes_x = (self.centre[0] - x) / tile
        eyes_y = (self.centre[1] - (0.5 - EYES_Y) * self.side - y) / tile
        shift = (eyes_x - EYES_X, eyes_y - EYES_Y)
        return Pose(self.yaw, self.pitch, self.roll, self.side / tile, shift), tile, x, y

    def project(self, point: Point, depth: float) -> Point:
        """Where a point of the face (face units, see `geometry`) at that depth is seen: pixel of the frame.

        The inverse of the displacement in `scene.take_image`.
        """
        u = point[0] * math.cos(self.yaw) + (depth - 0.45) * math.sin(self.yaw)
        v = point[1] * math.cos(self.pitch) + (depth - 0.45) * math.sin(self.pitch) - 0.5
        cos, sin = math.cos(self.roll), math.sin(self.roll)
        unit = EYES_APART * self.side
        middle_y = self.centre[1] - (0.5 - EYES_Y) * self.side + 0.5 * unit
        # pixel centres are at whole numbers, edges half a pixel off
        return (
            self.centre[0] + unit * (cos * u - sin * v) - 0.5,
            middle_y + unit * (sin * u + cos * v) - 0.5,
        )


@dataclass(frozen=True)
class Portrait:
    """A painted face: `rgba` [n, n, 4] with colours times their matte, depth [m, m], and its geometry."""

    rgba: Image
    depth: Field
    face: Face

    def pupils(self) -> tuple[tuple[Point, float], tuple[Point, float]]:
        """(place in face units, depth) of both, the one on the image's left first."""
        scale = self.depth.shape[0] / EXTENT
        places = []
        for eye in self.face.eyes:
            column = round((eye.pupil[0] + EXTENT / 2) * scale - 0.5)
            row = round((eye.pupil[1] - TOP) * scale - 0.5)
            places.append((eye.pupil, float(self.depth[row, column])))
        return places[0], places[1]


class Sitter:
    """One person: the same face, hair and light for the whole clip, any expression."""

    def __init__(self, seed: int, subject: int, options: FaceOptions, side: int) -> None:
        self.subject = subject
        self.identity = draw_identity(seed, subject)
        self._options = options
        self._side = canvas_side(side)
        self._seeds = (seed, subject)
        scene = draw_scene(options, self._generator(11))
        self._light, self._rest = scene.light, scene.rest
        self._steady: dict[str, Portrait] = {}

    def portrait(self, first: str, second: str, weight: float) -> Portrait:
        """The face `weight` (0..1) of the way from one expression to another."""
        if weight in (0.0, 1.0):
            label = second if weight else first
            if label not in self._steady:
                self._steady[label] = self._paint(self._units(label))
            return self._steady[label]
        return self._paint((1 - weight) * self._units(first) + weight * self._units(second))

    def _units(self, label: str) -> NDArray[np.float64]:
        # the same smile each time: the generator depends on the person and the label alone
        return draw_units(label, self._options, self._generator(12, self._options.labels.index(label)))

    def _paint(self, units: NDArray[np.float64]) -> Portrait:
        face = build_face(self.identity, Expression(units, np.zeros(len(UNITS))), self._rest)
        black, white = Canvas(self._side), Canvas(self._side)
        white.rgb[:] = 255
        depth = paint_portrait(black, face, self._light)
        paint_portrait(white, face, self._light)
        # what is black on black and white on white is background; its light, in a corner, stands for all of it
        free = (white.rgb.astype(np.float32) - black.rgb) / np.maximum(
            white.rgb[0, 0].astype(np.float32), 1.0
        )
        matte = 1 - np.clip(free.mean(axis=2), 0.0, 1.0)
        frame = _frame(self._side)
        rgba = np.dstack([black.rgb * frame[..., None], 255 * matte * frame])
        return Portrait(np.rint(rgba).astype(np.uint8), depth, face)

    def _generator(self, *key: int) -> np.random.Generator:
        return np.random.default_rng(np.random.SeedSequence(self._seeds, spawn_key=key))


def lay_on(frame: Image, portrait: Portrait, placed: Placed) -> None:
    """Draws a portrait into a frame [H, W, 3] in place; parts beyond the border are cut off."""
    pose, tile, x, y = placed.pose()
    surface = Canvas(portrait.rgba.shape[0])
    surface.rgb = portrait.rgba
    image = take_image(surface, portrait.depth, pose, tile)
    top, left = max(0, -y), max(0, -x)
    bottom, right = min(tile, frame.shape[0] - y), min(tile, frame.shape[1] - x)
    if top >= bottom or left >= right:
        return
    image = image[top:bottom, left:right]
    region = frame[y + top : y + bottom, x + left : x + right]
    free = cv2.bitwise_not(np.ascontiguousarray(image[..., 3]))
    below = cv2.multiply(region, cv2.merge((free, free, free)), scale=1 / 255)
    region[:] = cv2.add(below, np.ascontiguousarray(image[..., :3]))


def choose_people(seed: int, count: int) -> tuple[int, ...]:
    """The first subjects of a seed whose brows and mouth nothing hides."""
    people: list[int] = []
    subject = 0
    while len(people) < count:
        if _is_open(draw_identity(seed, subject)):
            people.append(subject)
        subject += 1
    return tuple(people)


def draw_motions(
    size: tuple[int, int], sides: tuple[float, float], count: int, pose: float, rng: np.random.Generator
) -> tuple[Motion, ...]:
    """Ways that keep apart: each face has a cell of the frame (width, height) to itself."""
    columns, rows = cells(size, count)
    width, height = size[0] / columns, size[1] / rows
    free = (max(0.0, width - TILE_SHARE * sides[1]) / 2, max(0.0, height - TILE_SHARE * sides[1]) / 2)
    turn = (math.radians(8.0) * pose, math.radians(4.0) * pose, math.radians(4.0) * pose)

    def wave(least: float, most: float) -> Wave:
        one, other = rng.uniform(least, most, 2).tolist()
        phase, second = rng.uniform(0, 2 * math.pi, 2).tolist()
        return Wave((one, 0.6 * other), (phase, second))

    motions = []
    for index in range(count):
        centre = ((index % columns + 0.5) * width, (index // columns + 0.5) * height)
        waves = (wave(6, 11), wave(5, 9), wave(7, 13), wave(4, 9), wave(5, 11), wave(4, 9))
        motions.append(Motion(centre, free, sides, turn, waves))
    return tuple(motions)


def cells(size: tuple[int, int], count: int) -> tuple[int, int]:
    """(columns, rows) of the grid with the largest cells that holds `count` faces."""
    grids = [(columns, -(-count // columns)) for columns in range(1, count + 1)]
    return max(grids, key=lambda grid: (min(size[0] / grid[0], size[1] / grid[1]), -grid[0]))


def _is_open(identity: Identity) -> bool:
    return identity.glasses == "none" and identity.hair_style in _OPEN_HAIR and identity.beard in _OPEN_BEARDS


def _frame(side: int) -> Field:
    """[side, side], 0..1: a rounded square with soft edges, in the middle of the surface."""
    axis = np.abs((np.arange(side) + 0.5) * (2 / side) - 1)
    radius = (axis[:, None] ** _FRAME_POWER + axis[None, :] ** _FRAME_POWER) ** (1 / _FRAME_POWER)
    share = np.clip((_FRAME_END - radius) / _FRAME_SOFT, 0.0, 1.0)
    return np.asarray(share * share * (3 - 2 * share), np.float32)
