"""Chooses the face of a sample and crops it in the layout for training.

This package may not import the runtime, which detects and crops faces on the device; it is passed as `FaceTools`, so
that the same code makes crops for training and on the device.
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

# How a face was found, by the letter in the journal.
DETECTED, BOX, CENTER, WHOLE = "d", "b", "c", "w"
FOUND = {DETECTED: "detected", BOX: "box", CENTER: "center", WHOLE: "whole"}

# Side of the region that is searched for a boxed face, as a multiple of the box's larger side; the runtime searches as
# far around a known face.
SEARCHED = 1.6
# Accepted sizes of detections there, as shares of the box's larger side: some sets draw boxes from the eyebrows to the
# chin, others around the whole head.
_SIZES = (0.4, 1.6)
# Of detections with at least this share of the largest one's side, the most central is taken.
_AS_LARGE = 0.75


class CropSquare(Protocol):
    """A square around a face in pixels of the image (the runtime's `FaceBox`)."""

    @property
    def x(self) -> int: ...
    @property
    def y(self) -> int: ...
    @property
    def side(self) -> int: ...
    @property
    def centre(self) -> tuple[float, float]: ...


Face = TypeVar("Face", bound=CropSquare)


class FaceTools(Protocol[Face]):
    """The runtime's functions for faces. Used by one thread at a time."""

    def detect(self, image: Image, corner: tuple[int, int]) -> Sequence[Face] | None:
        """uint8 RGB [H, W, 3] -> its faces, the largest first, shifted by `corner` (x, y), the image's position in a
        larger one; None without detection, if images are faces already."""
        ...

    def square(self, x: int, y: int, side: int) -> Face:
        """A face at a known place with unknown eyes."""
        ...

    def cut(self, image: Image, face: Face) -> Image:
        """The face, levelled if its eyes are known: uint8 RGB [size, size, 3]."""
        ...


@dataclass(frozen=True)
class Crop:
    """A face uint8 RGB [size, size, 3], and how it was found: a key of FOUND."""

    image: Image
    found: str


def crop_face(
    image: Image, box: Box | None, tools: FaceTools[Face], *, center: bool = False, margin: float = 0.0
) -> Crop | None:
    """The sample's face; None if none is found.

    image: uint8 RGB [H, W, 3]. box: the data set's own box in pixels, overlapping the image; the detection that fits it
    best is taken, which has the framing of the device and level eyes, else the box. Without a box: the largest
    detection, or the most central of several about as large. center: take the centred square of an image without a
    face. margin: added on each side of a box that no detection fits, as a share of its larger side.
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
    # contiguous, as detectors need it; a view of the image would be copied by every call
    patch = np.ascontiguousarray(image[top:bottom, left:right])
    fitting = [face for face in tools.detect(patch, (left, top)) or () if _fits(face, middle, larger)]
    if fitting:
        nearest = min(fitting, key=lambda face: math.dist(face.centre, middle))
        return Crop(tools.cut(image, nearest), DETECTED)
    side = max(1, round(larger * (1 + 2 * margin)))
    square = tools.square(round(middle[0] - side / 2), round(middle[1] - side / 2), side)
    return Crop(tools.cut(image, square), BOX)


def _fits(face: CropSquare, middle: tuple[float, float], larger: int) -> bool:
    """Whether a detection can be the face in the box: of a similar size, centred in its middle half."""
    least, most = (share * larger for share in _SIZES)
    return least <= face.side <= most and max(
        abs(a - b) for a, b in zip(face.centre, middle, strict=True)
    ) <= (larger / 4)


def _meant(found: Sequence[Face], middle: tuple[float, float]) -> Face:
    """The most central of the faces that are about as large as the first and largest."""
    large = [face for face in found if face.side >= _AS_LARGE * found[0].side]
    return min(large, key=lambda face: math.dist(face.centre, middle))
