"""Which face of an image is the sample's, and its crop in the layout that a model is trained on.

This package may not import the runtime, which finds and cuts faces on the device; it is handed in as `FaceTools`, so
that training crops are made by the code that makes them there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from edgefel.data.dataset import Box

Image = NDArray[np.uint8]

# How a face was found, by the letter that the journal keeps.
DETECTED, BOX, CENTER, WHOLE = "d", "b", "c", "w"
FOUND = {DETECTED: "detected", BOX: "box", CENTER: "center", WHOLE: "whole"}

# A boxed face is looked for in its box and its surroundings, as far as the runtime looks around a face that it knows:
# this times the box's larger side.
SEARCHED = 1.6
# Sizes of what is found there, as shares of the box's larger side: sets draw boxes from the eyebrows to the chin, or
# around the whole head. Beyond them it is something else.
_SIZES = (0.4, 1.6)
# Detections of at least this share of the largest one's side may all be the one that is meant: the most central is.
_AS_LARGE = 0.75


class Square(Protocol):
    """A square around a face in pixels of the image (the runtime's `FaceBox`)."""

    @property
    def x(self) -> int: ...
    @property
    def y(self) -> int: ...
    @property
    def side(self) -> int: ...
    @property
    def centre(self) -> tuple[float, float]: ...


Face = TypeVar("Face", bound=Square)


class FaceTools(Protocol[Face]):
    """What the runtime does with faces. Used by one thread at a time."""

    def detect(self, image: Image, corner: tuple[int, int]) -> Sequence[Face] | None:
        """uint8 RGB [H, W, 3] -> its faces, the largest first, moved by `corner` (x, y), the image's place in a
        larger one; None where nothing is looked for, since images are faces already."""
        ...

    def square(self, x: int, y: int, side: int) -> Face:
        """A face at a known place, whose eyes are not known."""
        ...

    def cut(self, image: Image, face: Face) -> Image:
        """The face with its eyes level, where they are known, in the wanted size: uint8 RGB [size, size, 3]."""
        ...


@dataclass(frozen=True)
class Crop:
    """A face uint8 RGB [size, size, 3], and how it was found: a key of FOUND."""

    image: Image
    found: str


def crop_face(
    image: Image, box: Box | None, tools: FaceTools[Face], *, center: bool = False, margin: float = 0.0
) -> Crop | None:
    """The sample's face; None where none is found.

    image: uint8 RGB [H, W, 3]. box: the face by the data set itself, in pixels, overlapping the image; the
    detection that fits it best is taken, which has the framing of the device and level eyes, else the box. Without a
    box it is the largest detection, or of several about as large the most central. center: an image without a face
    gives its centred square. margin: added on each side of a box that no detection fits, as a share of its larger
    side.
    """
    if box is not None:
        return _boxed(image, box, tools, margin)
    found = tools.detect(image, (0, 0))
    height, width = image.shape[:2]
    if found:
        face = _meant(found, (width / 2, height / 2))
        return Crop(tools.cut(image, face), DETECTED)
    if found is not None and not center:
        return None
    side = min(height, width)
    whole = tools.square((width - side) // 2, (height - side) // 2, side)
    return Crop(tools.cut(image, whole), WHOLE if found is None else CENTER)


def _boxed(image: Image, box: Box, tools: FaceTools[Face], margin: float) -> Crop:
    x, y, width, height = box
    larger = max(width, height)
    middle = (x + width / 2, y + height / 2)
    half = SEARCHED * larger / 2
    left, top = (max(0, math.floor(centre - half)) for centre in middle)
    right, bottom = (max(0, math.ceil(centre + half)) for centre in middle)
    # side by side in memory, as a detector wants it; a view of the image would be copied by every call in it
    patch = np.ascontiguousarray(image[top:bottom, left:right])
    fitting = [face for face in tools.detect(patch, (left, top)) or () if _fits(face, middle, larger)]
    if fitting:
        nearest = min(fitting, key=lambda face: math.dist(face.centre, middle))
        return Crop(tools.cut(image, nearest), DETECTED)
    side = max(1, round(larger * (1 + 2 * margin)))
    square = tools.square(round(middle[0] - side / 2), round(middle[1] - side / 2), side)
    return Crop(tools.cut(image, square), BOX)


def _fits(face: Square, middle: tuple[float, float], larger: int) -> bool:
    """Whether a detection can be the face in the box: of a similar size, and in its middle half."""
    least, most = (share * larger for share in _SIZES)
    return least <= face.side <= most and max(
        abs(a - b) for a, b in zip(face.centre, middle, strict=True)
    ) <= (larger / 4)


def _meant(found: Sequence[Face], middle: tuple[float, float]) -> Face:
    """Of faces, the largest first: the most central of those that are about as large as it."""
    large = [face for face in found if face.side >= _AS_LARGE * found[0].side]
    return min(large, key=lambda face: math.dist(face.centre, middle))
