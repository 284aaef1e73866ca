"""Detects faces in an image and crops them as in the training data."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import numpy.typing as npt

from edgefel.data.framing import Framing
from edgefel.data.preprocessing import Image, Preprocessing
from edgefel.errors import EdgefelError
from edgefel.files.read import native_path
from edgefel.runtime.alignment import HAAR_BOX, FaceBox, align
from edgefel.runtime.external_data import refuse_external_data
from edgefel.runtime.eyes import EyeFinder, load_cascade, plausible
from edgefel.text import one_line

DETECTORS = ("haar", "yunet")
LONGEST_SIDE = 960
# Training crops have the eyes at about 40 % of the height, 36-40 % of the width apart, and the chin near the
# bottom. This brings the cascade's boxes to that layout: shift down as a share of the side. YuNet's have it.
HAAR_SHIFT = -0.02
YUNET_MAX_ROLL = 60.0  # landmarks that a network found hold at larger angles than a pair of cascade windows
# Near a known face: the patch that is searched, and the sizes of face in it, as shares of the face's side.
NEAR_PATCH = 1.6
NEAR_SIZES = (0.7, 1.4)
# The cascade's window is 20 pixels. At this side, and with this ratio of one size to the next, boxes scatter as they
# do in a search of the whole image; at 40 pixels, or with a ratio of 1.1, their size scatters half as much again.
NEAR_SIDE = 48
NEAR_STEP = 1.15
YUNET_NEAR_SIDE = 320  # of a patch: a face of 200 pixels, the larger part of what YuNet was trained on


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

    def __init__(
        self, min_share: float = 0.05, neighbours: int = 5, *, step: float = 1.1, eyes: bool = True
    ) -> None:
        _check_share(min_share)
        if not (math.isfinite(step) and step > 1):
            raise EdgefelError(f"Haar detector: step is {step:g}; give a ratio above 1, such as 1.1")
        self._cascade = load_cascade("haarcascade_frontalface_alt2.xml")
        self._find_eyes = EyeFinder() if eyes else None
        self._min_share = min_share
        self._neighbours = neighbours
        self._step = step

    def __call__(self, image: Image) -> list[FaceBox]:
        small, factor = _shrink(image)
        grey = _grey(small)
        least = max(24, round(self._min_share * min(grey.shape)))
        boxes = self._search(grey, factor, least, 0, self._step)
        return [self._with_eyes(box, grey, factor) for box in _largest_first(boxes)]

    def near(self, image: Image, boxes: Sequence[FaceBox]) -> list[FaceBox]:
        """As `detect_near`: 2 to 4 ms of one core per face, whatever its size, and its eyes."""

        def search(patch: Image, known: FaceBox) -> FaceBox | None:
            grey, factor = _grey(patch), min(1.0, NEAR_SIDE / known.side)
            least, most = (round(share * known.side * factor) for share in NEAR_SIZES)
            again = self._search(_scaled(grey, factor), factor, max(20, least), most, NEAR_STEP)
            best = _nearest(again, known)
            return best and self._with_eyes(best, grey, 1.0)

        return _search_patches(search, image, boxes)

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
            replace(_square(np.asarray(box) / factor, HAAR_SHIFT, float(weight)), layout=HAAR_BOX)
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


class YuNetDetector:
    """YuNet (Wu et al., 2023) from an ONNX file that the user supplies: any pose, small faces, and eyes.

    score: least confidence of a face, 0..1. min_share: smaller faces, as shares of the image's shorter side, are
    left out. A detector is used by one thread.
    Raises EdgefelError if the file is missing, or is not one that OpenCV can run as YuNet.
    """

    def __init__(self, model: str | os.PathLike[str], score: float = 0.7, min_share: float = 0.0) -> None:
        if min_share:
            _check_share(min_share)
        self._min_share = min_share
        self._path = Path(model)
        if not self._path.is_file():
            raise EdgefelError(f"{self._path}: no such file; give YuNet's ONNX file with --detector-model")
        refuse_external_data(self._path)
        try:
            self._detector = cv2.FaceDetectorYN.create(native_path(self._path), "", (320, 320), score)
        except cv2.error as error:
            raise self._unusable(error) from error

    def __call__(self, image: Image) -> list[FaceBox]:
        least = self._min_share * min(image.shape[:2])
        return [box for box in self._search(image) if box.side >= least]

    def near(self, image: Image, boxes: Sequence[FaceBox]) -> list[FaceBox]:
        """As `detect_near`."""

        def search(patch: Image, known: FaceBox) -> FaceBox | None:
            return _nearest(self._search(patch, YUNET_NEAR_SIDE), known)

        return _search_patches(search, image, boxes)

    def _search(self, image: Image, longest: int = LONGEST_SIDE) -> list[FaceBox]:
        small, factor = _shrink(image, longest)
        try:
            self._detector.setInputSize((small.shape[1], small.shape[0]))
            found: Any  # None when there is no face, whatever OpenCV's stubs say
            _, found = self._detector.detect(cv2.cvtColor(small, cv2.COLOR_RGB2BGR))
        except cv2.error as error:
            raise self._unusable(error) from error
        if found is None:
            return []
        # of an image that is a few pixels wide the network makes boxes that are infinite, or far away
        rows = found[np.isfinite(found).all(axis=1)]
        centre = rows[:, :2] + rows[:, 2:4] / 2
        near = ((centre >= 0) & (centre < (small.shape[1], small.shape[0]))).all(axis=1)
        return _largest_first([_yunet_box(row / factor, float(row[14])) for row in rows[near]])

    def _unusable(self, error: cv2.error) -> EdgefelError:
        return EdgefelError(
            f"{self._path}: OpenCV cannot run it as YuNet ({one_line(error)}); give another file"
        )


class WholeImage:
    """For images that are face crops already: one box, the centred square of the shorter side.

    `label_faces` gives the model the image as it is, which for a crop that is not square is more than the box.
    """

    def __call__(self, image: Image) -> list[FaceBox]:
        height, width = image.shape[:2]
        side = min(height, width)
        return [FaceBox((width - side) // 2, (height - side) // 2, side, layout=None)]

    def near(self, image: Image, boxes: Sequence[FaceBox]) -> list[FaceBox]:
        """The same box: there is nothing to look for."""
        return self(image)


def make_detector(
    name: str, model: str | os.PathLike[str] | None = None, *, min_share: float | None = None
) -> FaceDetector:
    """A detector by name: "haar", "yunet" (needs `model`) or "none" for the whole image.

    min_share: smallest face, as a share of the image's shorter side; the detector's own default without one.
    Raises EdgefelError for an unknown name, a missing or needless `model`, and an impossible share.
    """
    if name == "none":
        return WholeImage()
    if name == "haar":
        if model is not None:
            raise EdgefelError("--detector-model is for --detector yunet; the Haar cascade comes with OpenCV")
        return HaarDetector() if min_share is None else HaarDetector(min_share)
    if name == "yunet":
        if model is None:
            raise EdgefelError("YuNet needs its ONNX file: give it with --detector-model FILE")
        return YuNetDetector(model, min_share=min_share or 0.0)
    raise EdgefelError(f"detector {name!r} is not known; choose one of: {', '.join(DETECTORS)}, none")


def crop_detector(model: str | os.PathLike[str] | None = None) -> FaceDetector:
    """A detector for images that are one face each, to find its eyes: YuNet from the file `model`, else Haar."""
    return HaarDetector(0.4, 3, step=1.2) if model is None else YuNetDetector(model)


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
    return _search_patches(lambda patch, known: _nearest(detector(patch), known), image, boxes)


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


def _search_patches(
    search: Callable[[Image, FaceBox], FaceBox | None], image: Image, boxes: Sequence[FaceBox]
) -> list[FaceBox]:
    """What `search` finds of each known face in the surroundings of its box; both boxes in pixels of the patch."""
    found = []
    for known in boxes:
        half = NEAR_PATCH * known.side / 2
        x, y = (max(0, round(centre - half)) for centre in known.centre)
        right, bottom = (max(0, round(centre + half)) for centre in known.centre)
        patch = image[y:bottom, x:right]
        if patch.size and (best := search(patch, known.moved(-x, -y))) is not None:
            found.append(best.moved(x, y))
    return _largest_first(found)


def _nearest(found: Sequence[FaceBox], known: FaceBox) -> FaceBox | None:
    """The box that can be the known face a moment later, the nearest of several."""
    least, most = (share * known.side for share in NEAR_SIZES)
    distances = {box: math.dist(box.centre, known.centre) for box in found if least <= box.side <= most}
    best = min(distances, key=distances.__getitem__, default=None)
    return best if best is not None and distances[best] <= known.side / 2 else None


def _check_share(min_share: float) -> None:
    if not 0 < min_share <= 1:
        raise EdgefelError(
            f"smallest face {min_share:g}: give a share of the image's shorter side, above 0 and up to 1"
        )


def _grey(image: Image) -> Image:
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), dtype=np.uint8)


def _shrink(image: Image, longest: int = LONGEST_SIDE) -> tuple[Image, float]:
    """The image with its longer side at most `longest`, and its size as a share of the original's.

    More pixels only cost time: a face that is small after this is small in the image.
    """
    factor = longest / max(image.shape[:2])
    if factor >= 1:
        return image, 1.0
    return _scaled(image, factor), factor


def _scaled(image: Image, factor: float) -> Image:
    """Shrunk by `factor`; a side that would become nothing is one pixel."""
    height, width = (round(factor * side) for side in image.shape[:2])
    # with a size, OpenCV takes its ratio, which is rounded, for the factor
    size = None if height and width else (max(1, width), max(1, height))
    small = cv2.resize(image, size, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    return np.asarray(small, dtype=np.uint8)


def _yunet_box(row: npt.NDArray[Any], score: float) -> FaceBox:
    """A row of YuNet's: box (4), then five landmarks (10), the person's right eye first."""
    box = _square(row[:4], 0.0, score)
    one, other, nose, corner, other_corner = row[4:14].reshape(5, 2).astype(float).tolist()
    eyes, mouth = (sorted(map(tuple, pair)) for pair in ((one, other), (corner, other_corner)))
    found = replace(box, landmarks=(*eyes, tuple(nose), *mouth))
    return (
        replace(found, eyes=tuple(eyes)) if plausible(eyes, box.x, box.y, box.side, YUNET_MAX_ROLL) else found
    )


def _square(box: npt.NDArray[Any], shift: float, score: float) -> FaceBox:
    """A detector's box (x, y, width, height) -> a square of its larger side, moved down by `shift` of it."""
    x, y, width, height = (float(value) for value in box)
    larger = max(width, height)
    side = max(1, round(larger))
    centre_x, centre_y = x + width / 2, y + height / 2 + shift * larger
    return FaceBox(round(centre_x - side / 2), round(centre_y - side / 2), side, score)


def _largest_first(boxes: list[FaceBox]) -> list[FaceBox]:
    """Sorted by size, without boxes whose centre lies in a larger one: the same face found twice."""
    kept: list[FaceBox] = []
    for box in sorted(boxes, key=lambda box: (-box.side, box.x, box.y)):
        x, y = box.centre
        if not any(0 <= x - other.x < other.side and 0 <= y - other.y < other.side for other in kept):
            kept.append(box)
    return kept
