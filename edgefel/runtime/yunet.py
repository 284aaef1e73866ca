"""YuNet (Wu et al., 2023), a face detector of 76,000 parameters, by edgefel's own backends. Torch-free.

Its ONNX file comes from OpenCV's model zoo (https://github.com/opencv/opencv_zoo, models/face_detection_yunet).
Input: [1, 3, H, W], BGR, 0..255; H and W multiples of 32, padded with zeros. Outputs for each stride S of 8, 16 and 32,
a row for each of the A = H/S * W/S cells: cls_S and obj_S [1, A, 1] with sqrt(cls * obj) as the score; bbox_S
[1, A, 4], the box's centre from the cell's corner and the logarithms of its sides; kps_S [1, A, 10], five landmarks
from the cell's corner; all in strides. Reference: OpenCV's modules/objdetect/src/face_detect.cpp.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from edgefel.data.preprocessing import Image
from edgefel.errors import EdgefelError
from edgefel.files.read import native_path
from edgefel.runtime.alignment import FaceBox
from edgefel.runtime.external_data import refuse_external_data
from edgefel.runtime.eyes import plausible
from edgefel.runtime.searching import (
    LONGEST_SIDE,
    NEAR_PATCH,
    check_share,
    largest_first,
    nearest,
    scaled,
    search_patches,
    square,
)
from edgefel.runtime.yunet_backend import AUTO, STRIDES, WIDTHS, open_yunet, unusable
from edgefel.text import one_line
from edgefel.workers import usable_cores

Rows = npt.NDArray[np.float32]
OVERLAP = 0.3  # of two boxes, intersection over union, above which the one with the lower score is dropped
_MOST = 5000  # rows before suppression
YUNET_MAX_ROLL = 60.0  # landmarks that a network found hold at larger angles than a pair of cascade windows
YUNET_NEAR_SIDE = 320  # of a patch: a face of 200 pixels, the larger part of what YuNet was trained on
# Side in pixels to which the smallest face that is asked for may be shrunk: from here on, scores no longer rise
SMALLEST_SIDE = 32


class YuNetDetector:
    """YuNet from an ONNX file: any pose, small faces, and landmarks.

    score: least confidence of a face, 0..1. min_share: smaller faces, as shares of the image's shorter side, are
    left out; the larger it is, the smaller the image that is searched. backend: a name of BACKENDS, or "auto".
    threads: of one search; all cores by default. A detector is used by one thread.
    Raises EdgefelError if the file is missing or is not YuNet, or the backend cannot run it here.
    """

    def __init__(
        self,
        model: str | os.PathLike[str],
        score: float = 0.7,
        min_share: float = 0.0,
        *,
        backend: str = AUTO,
        threads: int | None = None,
    ) -> None:
        if min_share:
            check_share(min_share)
        self._min_share, self._score = min_share, score
        self._path = Path(model)
        if not self._path.is_file():
            raise EdgefelError(f"{self._path}: no such file; give YuNet's ONNX file with --detector-model")
        native_path(self._path)
        refuse_external_data(self._path)
        opened = open_yunet(self._path, backend, threads or usable_cores())
        self.backend, self._runner, self._sides = opened.backend, opened.runner, opened.sides
        reasons = f" (not {'; '.join(opened.passed_over)})" if opened.passed_over else ""
        self.description = f"faces by {self._path.name} in {self.backend}{reasons}"
        self._batch: Rows = np.zeros((1, 3, 0, 0), np.float32)
        self._filled = (0, 0)

    def __call__(self, image: Image) -> list[FaceBox]:
        least = self._min_share * min(image.shape[:2])
        return [box for box in self._search(image, self._longest(image)) if box.side >= least]

    def near(self, image: Image, boxes: Sequence[FaceBox]) -> list[FaceBox]:
        """As `detect_near`; in the whole image where that is less work than the patches."""
        height, width = image.shape[:2]
        patches = sum(min(NEAR_PATCH * box.side, YUNET_NEAR_SIDE) ** 2 for box in boxes)
        whole = min(1.0, self._longest(image) / max(height, width)) ** 2 * height * width
        if patches > whole or (self._sides is not None and len(boxes) > 1):
            found = self(image)
            return largest_first([best for known in boxes if (best := nearest(found, known)) is not None])

        def search(patch: Image, known: FaceBox) -> FaceBox | None:
            return nearest(self._search(patch, YUNET_NEAR_SIDE), known)

        return search_patches(search, image, boxes)

    def rows(self, image: Image) -> Rows:
        """Rows of `decode` for uint8 RGB [H, W, 3] as it is, those with the highest score first.

        The same as `cv2.FaceDetectorYN.detect` gives. Raises EdgefelError if the network cannot be run on it.
        """
        batch = self._padded(image)
        try:
            outputs = self._runner.run(batch)
            return suppress(decode(outputs, batch.shape[2:], self._score))
        except (EdgefelError, ValueError) as error:  # outputs of other shapes than YuNet's
            raise unusable(self._path, one_line(error)) from error

    def _longest(self, image: Image) -> float:
        """The longer side to which the image is shrunk."""
        height, width = image.shape[:2]
        least = self._min_share * min(height, width)
        return min(LONGEST_SIDE, SMALLEST_SIDE / least * max(height, width)) if least else LONGEST_SIDE

    def _search(self, image: Image, longest: float) -> list[FaceBox]:
        height, width = image.shape[:2]
        factor = min(1.0, longest / max(height, width))
        if self._sides is not None:
            factor = min(factor, self._sides[0] / height, self._sides[1] / width)
        small = image if factor == 1 else scaled(image, factor)
        rows = self.rows(small)
        # of an image that is a few pixels wide the network makes boxes that are far away
        centre = rows[:, :2] + rows[:, 2:4] / 2
        inside = ((centre >= 0) & (centre < (small.shape[1], small.shape[0]))).all(axis=1)
        return largest_first([face_box(row / factor, float(row[14])) for row in rows[inside]])

    def _padded(self, image: Image) -> Rows:
        """uint8 RGB [H, W, 3] -> float32 BGR [1, 3, H', W'], zeros below and on the right. Overwritten by the next."""
        height, width = image.shape[:2]
        sides = self._sides or (-(-height // 32) * 32, -(-width // 32) * 32)
        if self._batch.shape[2:] != sides:
            self._batch = np.zeros((1, 3, *sides), np.float32)
        elif self._filled != (height, width):
            self._batch[:, :, height:], self._batch[:, :, :, width:] = 0, 0
        self._filled = height, width
        for plane, values in zip(self._batch[0, ::-1], cv2.split(image), strict=True):
            plane[:height, :width] = values
        return self._batch


def decode(outputs: Mapping[str, npt.NDArray[Any]], shape: Sequence[int], score: float) -> Rows:
    """The network's outputs for an input of [H, W] -> a row for each cell with at least that score, float32 [N, 15].

    A row: x, y, width, height; x, y of the person's right eye, left eye, tip of the nose, right and left corner of the
    mouth; score. In pixels of the input. Rows that are not finite are left out.
    Raises ValueError if the outputs have other shapes.
    """
    parts = [np.zeros((0, 15), np.float32)]
    for stride in STRIDES:
        height, width = shape[0] // stride, shape[1] // stride
        cls, obj, bbox, kps = (
            outputs[f"{name}_{stride}"].reshape(height * width, last) for name, last in WIDTHS.items()
        )
        # of most images almost nothing is left after this, which no cell with the score fails
        (cells,) = np.nonzero((cls * obj)[:, 0] >= 0.99 * score * score)
        scores = np.sqrt(np.clip(cls[cells], 0, 1) * np.clip(obj[cells], 0, 1))
        good = scores[:, 0] >= score
        cells, scores = cells[good], scores[good]
        if not cells.size:
            continue
        corner = np.stack((cells % width, cells // width), axis=1).astype(np.float32)
        with np.errstate(over="ignore", invalid="ignore"):
            sides = np.exp(bbox[cells, 2:]) * stride
            left_top = (corner + bbox[cells, :2]) * stride - sides / 2
            points = (kps[cells].reshape(-1, 5, 2) + corner[:, None]) * stride
        parts.append(np.hstack((left_top, sides, points.reshape(-1, 10), scores)))
    rows = np.concatenate(parts).astype(np.float32)
    return rows[np.isfinite(rows).all(axis=1)]


def suppress(rows: Rows, overlap: float = OVERLAP) -> Rows:
    """Rows of `decode` by falling score, without those that overlap a better one by more than `overlap`.

    The overlap is the intersection over the union of the boxes in whole pixels, cut off towards zero, as in OpenCV.
    """
    rows = rows[np.argsort(-rows[:, 14], kind="stable")[:_MOST]]
    left, top, width, height = np.trunc(rows[:, :4]).astype(np.float64).T
    right, bottom, area = left + width, top + height, width * height
    kept, rest = [], np.arange(len(rows))
    while rest.size:
        best, rest = rest[0], rest[1:]
        kept.append(best)
        across = np.minimum(right[best], right[rest]) - np.maximum(left[best], left[rest])
        down = np.minimum(bottom[best], bottom[rest]) - np.maximum(top[best], top[rest])
        common = np.clip(across, 0, None) * np.clip(down, 0, None)
        union = area[best] + area[rest] - common
        # two boxes of no area are the same, as in OpenCV
        rest = rest[np.where(union > 0, common, 1) <= overlap * np.where(union > 0, union, 1)]
    return rows[kept]


def face_box(row: Rows, score: float) -> FaceBox:
    """A row of `decode` in pixels of the image, with the landmarks on the image's left first."""
    box = square(row[:4], 0.0, score)
    one, other, nose, corner, other_corner = ((float(x), float(y)) for x, y in row[4:14].reshape(5, 2))
    eyes = (one, other) if one <= other else (other, one)
    box = replace(box, landmarks=(*eyes, nose, *sorted((corner, other_corner))))
    return replace(box, eyes=eyes) if plausible(eyes, box.x, box.y, box.side, YUNET_MAX_ROLL) else box
