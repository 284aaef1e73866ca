"""Detects faces in an image and crops them as in the training data."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from edgefel.data.framing import Framing
from edgefel.data.preprocessing import Image, Preprocessing
from edgefel.errors import EdgefelError
from edgefel.runtime.alignment import HAAR_BOX, FaceBox, align
from edgefel.runtime.detector_file import installed_detector
from edgefel.runtime.eyes import EyeFinder, load_cascade
from edgefel.runtime.searching import (
    NEAR_SIZES,
    check_share,
    largest_first,
    nearest,
    scaled,
    search_patches,
    shrink,
    square,
)
from edgefel.runtime.yunet import YuNetDetector

DETECTORS = ("haar", "yunet")
# Training crops have the eyes at about 40 % of the height, 36-40 % of the width apart, and the chin near the
# bottom. This brings the cascade's boxes to that layout: shift down as a share of the side. YuNet's have it.
HAAR_SHIFT = -0.02
# The cascade's window is 20 pixels. At this side, and with this ratio of one size to the next, boxes scatter as they
# do in a search of the whole image; at 40 pixels, or with a ratio of 1.1, their size scatters half as much again.
NEAR_SIDE = 48
NEAR_STEP = 1.15


class FaceDetector(Protocol):
    """Finds faces. It may have a method `near`: a cheaper `detect_near`."""

    def __call__(self, image: Image) -> list[FaceBox]:
        """uint8 RGB [H, W, 3] -> boxes, the largest first."""
        ...


class HaarDetector:
    """OpenCV's bundled frontal-face cascade (Viola and Jones, 2001): needs no file, finds frontal faces.

    The boxes of this cascade vary less in size and place from face to face than those of the "default" one.
    min_share: smallest face, as a share of the image's shorter side; the search takes half the time at 0.1, a
    quarter at 0.2. neighbours: windows that must agree. step: ratio of one size of window to the next; 1.2 with 3
    neighbours takes two thirds of the time and misses one face in a hundred more. eyes: look for them too.
    A detector is used by one thread.
    Raises EdgefelError for a share outside (0, 1] or a step of not more than 1.
    """

    description = "faces by OpenCV's Haar cascade; 'edgefel detector get' brings YuNet"

    def __init__(
        self, min_share: float = 0.05, neighbours: int = 5, *, step: float = 1.1, eyes: bool = True
    ) -> None:
        check_share(min_share)
        if not (math.isfinite(step) and step > 1):
            raise EdgefelError(f"Haar detector: step is {step:g}; give a ratio above 1, such as 1.1")
        self._cascade = load_cascade("haarcascade_frontalface_alt2.xml")
        self._find_eyes = EyeFinder() if eyes else None
        self._min_share = min_share
        self._neighbours = neighbours
        self._step = step

    def __call__(self, image: Image) -> list[FaceBox]:
        small, factor = shrink(image)
        grey = _grey(small)
        least = max(24, round(self._min_share * min(grey.shape)))
        boxes = self._search(grey, factor, least, 0, self._step)
        return [self._with_eyes(box, grey, factor) for box in largest_first(boxes)]

    def near(self, image: Image, boxes: Sequence[FaceBox]) -> list[FaceBox]:
        """As `detect_near`: 2 to 4 ms of one core per face, whatever its size, and its eyes."""

        def search(patch: Image, known: FaceBox) -> FaceBox | None:
            grey, factor = _grey(patch), min(1.0, NEAR_SIDE / known.side)
            least, most = (round(share * known.side * factor) for share in NEAR_SIZES)
            again = self._search(scaled(grey, factor), factor, max(20, least), most, NEAR_STEP)
            best = nearest(again, known)
            return best and self._with_eyes(best, grey, 1.0)

        return search_patches(search, image, boxes)

    def _search(self, grey: Image, factor: float, least: int, most: int, step: float) -> list[FaceBox]:
        """Boxes, in pixels of the image that `grey` is `factor` of; window sides from `least` to `most`
        (0: no limit)."""
        # No histogram equalisation: the cascade normalises the contrast of each window itself, and a large
        # plain background would flatten the faces
        found, _, weights = self._cascade.detectMultiScale3(
            grey,
            scaleFactor=step,
            minNeighbors=self._neighbours,
            minSize=(least, least),
            maxSize=(most, most),
            outputRejectLevels=True,
        )
        return [
            replace(square(np.asarray(box) / factor, HAAR_SHIFT, float(weight)), layout=HAAR_BOX)
            for box, weight in zip(found, np.ravel(weights), strict=True)
        ]

    def _with_eyes(self, box: FaceBox, grey: Image, factor: float) -> FaceBox:
        if self._find_eyes is None:
            return box
        eyes = self._find_eyes(grey, box.x * factor, box.y * factor, box.side * factor)
        if eyes is None:
            return box
        (x0, y0), (x1, y1) = eyes
        # from pixel centres of the small image to those of the image
        x0, y0, x1, y1 = (value / factor + (0.5 / factor - 0.5) for value in (x0, y0, x1, y1))
        return replace(box, eyes=((x0, y0), (x1, y1)))


class WholeImage:
    """For images that are face crops already: one box, the centred square of the shorter side.

    `label_faces` gives the model the image as it is, which for a crop that is not square is more than the box.
    """

    description = "no detection: each image is a face"

    def __call__(self, image: Image) -> list[FaceBox]:
        height, width = image.shape[:2]
        side = min(height, width)
        return [FaceBox((width - side) // 2, (height - side) // 2, side, layout=None)]

    def near(self, image: Image, boxes: Sequence[FaceBox]) -> list[FaceBox]:
        """The same box: there is nothing to look for."""
        return self(image)


def choose_detector(
    name: str | None = None, model: str | os.PathLike[str] | None = None
) -> tuple[str, Path | None]:
    """The detector to use, and YuNet's file: "yunet" with `model` or where `edgefel detector get` has put its file,
    else "haar", unless a name is given.

    Raises EdgefelError for a missing, damaged or needless file.
    """
    if name in ("haar", "none") and model is not None:
        raise EdgefelError("--detector-model is for --detector yunet; the Haar cascade comes with OpenCV")
    if name not in (None, "yunet"):
        return name, None
    file = installed_detector() if model is None else Path(model)
    if file is None and name is not None:
        raise EdgefelError(
            "YuNet needs its ONNX file: run 'edgefel detector get', or give one with --detector-model FILE"
        )
    return ("haar" if file is None else "yunet"), file


def make_detector(
    name: str | None = None,
    model: str | os.PathLike[str] | None = None,
    *,
    min_share: float | None = None,
    threads: int | None = None,
) -> HaarDetector | YuNetDetector | WholeImage:
    """A detector by name: "haar", "yunet" or "none" for the whole image; see `choose_detector`.

    min_share: smallest face, as a share of the image's shorter side; the detector's own default without one. threads:
    of a search by YuNet; all cores by default.
    Raises EdgefelError for an unknown name, a missing or needless `model`, and an impossible share.
    """
    chosen, file = choose_detector(name, model)
    if chosen == "none":
        return WholeImage()
    if chosen == "haar":
        return HaarDetector() if min_share is None else HaarDetector(min_share)
    if chosen == "yunet" and file is not None:
        return YuNetDetector(file, min_share=min_share or 0.0, threads=threads)
    raise EdgefelError(f"detector {name!r} is not known; choose one of: {', '.join(DETECTORS)}, none")


def crop_detector(model: str | os.PathLike[str] | None = None) -> FaceDetector:
    """A detector for images that are one face each, to find its eyes: YuNet from `model` or the installed file, else
    Haar."""
    file = installed_detector() if model is None else model
    return HaarDetector(0.4, 3, step=1.2) if file is None else YuNetDetector(file)


def crops(
    image: Image, boxes: Sequence[FaceBox], size: int | None = None, framing: Framing | None = None
) -> list[Image]:
    """The face crops of an image, uint8 RGB [side, side, 3] each, with the eyes level where they are known.

    size: what the model's preprocessing resizes to (`Preprocessing.resize`). framing: of the model's training data. See
    `align`.
    """
    return [align(image, box, size, framing) for box in boxes]


def detect_near(detector: FaceDetector, image: Image, boxes: Sequence[FaceBox]) -> list[FaceBox]:
    """Looks again for known faces, each in a patch around its box (NEAR_PATCH times its side) alone.

    image: uint8 RGB [H, W, 3], a later frame. Of each known face at most one box is given: the one of a similar
    size (NEAR_SIZES) whose centre is nearest, and within half a side. A face that two patches show is given
    once. The largest is first. Faces that are not known are not looked for: search the whole image at times.
    """
    if (near := getattr(detector, "near", None)) is not None:
        found: list[FaceBox] = near(image, boxes)
        return found
    return search_patches(lambda patch, known: nearest(detector(patch), known), image, boxes)


class RuntimeFaces:
    """Faces found and cut out as on a device, for training data: see `edgefel.data.preparing.faces.FaceTools`.

    detector: None where images are faces already. size: side of a crop in pixels.
    """

    def __init__(self, detector: FaceDetector | None, size: int) -> None:
        self._detector = detector
        self._preprocessing = Preprocessing(resize=size, crop=size)

    def detect(self, image: Image, corner: tuple[int, int]) -> Sequence[FaceBox] | None:
        """The faces of uint8 RGB [H, W, 3], the largest first, moved by `corner`; None without a detector."""
        return None if self._detector is None else [box.moved(*corner) for box in self._detector(image)]

    def square(self, x: int, y: int, side: int) -> FaceBox:
        """A face at a known place."""
        return FaceBox(x, y, side)

    def cut(self, image: Image, face: FaceBox) -> Image:
        """As the device cuts and resizes it: uint8 RGB [size, size, 3]."""
        return self._preprocessing.resize_image(align(image, face, self._preprocessing.resize))


def runtime_faces(
    detector: str | None, model: str | os.PathLike[str] | None, min_share: float | None, size: int
) -> RuntimeFaces:
    """The tools of one thread: a detector by name, None where images are faces already; see `make_detector`."""
    if detector is None:
        return RuntimeFaces(None, size)
    return RuntimeFaces(make_detector(detector, model, min_share=min_share, threads=1), size)


def _grey(image: Image) -> Image:
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), dtype=np.uint8)
