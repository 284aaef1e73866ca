"""Finds faces in a picture and cuts them out the way the model was trained to see them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import numpy.typing as npt

from edgefel.errors import EdgefelError
from edgefel.runtime.preprocessing import Image

DETECTORS = ("haar", "yunet")
LONGEST_SIDE = 960
# Training crops have the eyes at about 40 % of the height, 36-40 % of the width apart, and the chin near the
# bottom. These bring a detector's boxes to that layout: factor on the larger side, shift down as a share of it.
HAAR_SCALE, HAAR_SHIFT = 1.0, -0.02
YUNET_SCALE, YUNET_SHIFT = 1.0, 0.0


@dataclass(frozen=True)
class FaceBox:
    """A square around a face, in pixels of the picture; may reach beyond its border.

    x, y: left and top. side: width and height. score: the detector's own, None if it has none.
    """

    x: int
    y: int
    side: int
    score: float | None = None

    def crop(self, picture: Image) -> Image:
        """Cuts the square out of uint8 [H, W, 3]; what lies beyond the border repeats the border."""
        height, width = picture.shape[:2]
        rows = np.arange(self.y, self.y + self.side).clip(0, height - 1)
        columns = np.arange(self.x, self.x + self.side).clip(0, width - 1)
        return np.asarray(picture[rows[:, None], columns])


class FaceDetector(Protocol):
    """Finds faces."""

    def __call__(self, picture: Image) -> list[FaceBox]:
        """uint8 RGB [H, W, 3] -> boxes, the largest first."""
        ...


class HaarDetector:
    """OpenCV's bundled frontal-face cascade (Viola and Jones, 2001): needs no file, finds frontal faces.

    The boxes of this cascade vary less in size and place from face to face than those of the "default" one.
    min_share: smallest face, as a share of the picture's shorter side.
    """

    def __init__(self, min_share: float = 0.05, neighbours: int = 5) -> None:
        path = Path(cv2.__file__).parent / "data" / "haarcascade_frontalface_alt2.xml"
        self._cascade = cv2.CascadeClassifier(str(path))
        if self._cascade.empty():
            raise EdgefelError(
                f"{path}: OpenCV's face cascade is missing; reinstall opencv-python-headless 4.x"
            )
        self._min_share = min_share
        self._neighbours = neighbours

    def __call__(self, picture: Image) -> list[FaceBox]:
        # No histogram equalisation: the cascade normalises the contrast of each window itself, and a large
        # plain background would flatten the faces
        small, factor = _shrink(picture)
        grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
        least = max(24, round(self._min_share * min(grey.shape)))
        found, _, weights = self._cascade.detectMultiScale3(
            grey,
            scaleFactor=1.1,
            minNeighbors=self._neighbours,
            minSize=(least, least),
            outputRejectLevels=True,
        )
        boxes = [
            _square(np.asarray(box) / factor, HAAR_SCALE, HAAR_SHIFT, float(weight))
            for box, weight in zip(found, np.ravel(weights), strict=True)
        ]
        return _largest_first(boxes)


class YuNetDetector:
    """YuNet (Wu et al., 2023) from an ONNX file that the user supplies: any pose, small faces.

    score: least confidence of a face, 0..1.
    Raises EdgefelError if the file is missing, or is not one that OpenCV can run as YuNet.
    """

    def __init__(self, model: str | os.PathLike[str], score: float = 0.7) -> None:
        self._path = Path(model)
        if not self._path.is_file():
            raise EdgefelError(f"{self._path}: no such file; give YuNet's ONNX file with --detector-model")
        try:
            self._detector = cv2.FaceDetectorYN.create(str(self._path), "", (320, 320), score)
        except cv2.error as error:
            raise self._unusable(error) from error

    def __call__(self, picture: Image) -> list[FaceBox]:
        small, factor = _shrink(picture)
        try:
            self._detector.setInputSize((small.shape[1], small.shape[0]))
            found: Any  # None when there is no face, whatever OpenCV's stubs say
            _, found = self._detector.detect(cv2.cvtColor(small, cv2.COLOR_RGB2BGR))
        except cv2.error as error:
            raise self._unusable(error) from error
        if found is None:
            return []
        # a row: box (4), five landmarks (10), score
        return _largest_first(
            [_square(row[:4] / factor, YUNET_SCALE, YUNET_SHIFT, float(row[14])) for row in found]
        )

    def _unusable(self, error: cv2.error) -> EdgefelError:
        reason = " ".join(str(error).split())
        return EdgefelError(f"{self._path}: OpenCV cannot run it as YuNet ({reason}); give another file")


class WholePicture:
    """For pictures that are face crops already: one box, the centred square of the shorter side."""

    def __call__(self, picture: Image) -> list[FaceBox]:
        height, width = picture.shape[:2]
        side = min(height, width)
        return [FaceBox((width - side) // 2, (height - side) // 2, side)]


def make_detector(name: str, model: str | os.PathLike[str] | None = None) -> FaceDetector:
    """A detector by name: "haar", "yunet" (needs `model`) or "none" for the whole picture."""
    if name == "none":
        return WholePicture()
    if name == "haar":
        if model is not None:
            raise EdgefelError("--detector-model is for --detector yunet; the Haar cascade comes with OpenCV")
        return HaarDetector()
    if name == "yunet":
        if model is None:
            raise EdgefelError("YuNet needs its ONNX file: give it with --detector-model FILE")
        return YuNetDetector(model)
    raise EdgefelError(f"detector {name!r} is not known; choose one of: {', '.join(DETECTORS)}, none")


def crops(picture: Image, boxes: Sequence[FaceBox]) -> list[Image]:
    """The face crops of a picture, uint8 RGB [side, side, 3] each."""
    return [box.crop(picture) for box in boxes]


def _shrink(picture: Image) -> tuple[Image, float]:
    """The picture with its longer side at most LONGEST_SIDE, and its size as a share of the original's.

    More pixels only cost time: a face that is small after this is small in the picture.
    """
    factor = LONGEST_SIDE / max(picture.shape[:2])
    if factor >= 1:
        return picture, 1.0
    small = cv2.resize(picture, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    return np.asarray(small, dtype=np.uint8), factor


def _square(box: npt.NDArray[Any], scale: float, shift: float, score: float) -> FaceBox:
    """A detector's box (x, y, width, height) -> a square `scale` times its larger side, moved down by
    `shift` of it."""
    x, y, width, height = (float(value) for value in box)
    larger = max(width, height)
    side = max(1, round(scale * larger))
    centre_x, centre_y = x + width / 2, y + height / 2 + shift * larger
    return FaceBox(round(centre_x - side / 2), round(centre_y - side / 2), side, score)


def _largest_first(boxes: list[FaceBox]) -> list[FaceBox]:
    """Sorted by size, without boxes whose centre lies in a larger one: the same face found twice."""
    kept: list[FaceBox] = []
    for box in sorted(boxes, key=lambda box: (-box.side, box.x, box.y)):
        x, y = box.x + box.side / 2, box.y + box.side / 2
        if not any(0 <= x - other.x < other.side and 0 <= y - other.y < other.side for other in kept):
            kept.append(box)
    return kept
