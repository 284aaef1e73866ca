"""Contact sheets: one row of images per class."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from edgefel.data.dataset import ImageDataset
from edgefel.data.images import UnreadableImageError
from edgefel.data.inspection.duplicates import ordinal
from edgefel.errors import EdgefelError

Image = NDArray[np.uint8]
_GUTTER, _GAP, _LINE, _PAPER, _INK = 104, 4, 20, 250, (40, 40, 40)


def contact_sheet(
    rows: Sequence[tuple[str, Sequence[Image]]], columns: int, side: int = 112, gutter: int = _GUTTER
) -> Image:
    """An RGB image with one row per (label, RGB images of any size); labels at the left, `gutter` pixels wide."""
    pitch = side + _GAP
    sheet = np.full((len(rows) * pitch + _GAP, gutter + columns * pitch + _GAP, 3), _PAPER, np.uint8)
    for row, (label, images) in enumerate(rows):
        top = row * pitch + _GAP
        lines = label.split("\n")
        first = top + side // 2 + 4 - _LINE * (len(lines) - 1) // 2
        for number, line in enumerate(lines):
            at = (8, first + _LINE * number)
            cv2.putText(sheet, line, at, cv2.FONT_HERSHEY_SIMPLEX, 0.46, _INK, 1, cv2.LINE_AA)
        for column, image in enumerate(images[:columns]):
            left = gutter + column * pitch
            sheet[top : top + side, left : left + side] = _fit(image, side)
    return sheet


def dataset_sheet(dataset: ImageDataset, columns: int = 10, side: int = 112) -> Image:
    """The first `columns` readable images of each class, of different groups if possible.

    Raises EdgefelError if no image can be read.
    """
    rows = []
    targets, groups = dataset.targets(), dataset.groups()
    for label, name in enumerate(dataset.labels):
        indices = np.flatnonzero(targets == label)
        turns = indices[np.argsort(ordinal(groups[indices]), kind="stable")]
        rows.append((name, _images(dataset, turns.tolist(), columns)))
    if not any(images for _, images in rows):
        raise EdgefelError(f"{dataset.root}: no image can be read; check the paths in the data set")
    return contact_sheet(rows, columns, side)


def _images(dataset: ImageDataset, indices: list[int], wanted: int) -> list[Image]:
    images: list[Image] = []
    for index in indices:
        if len(images) == wanted:
            break
        try:
            images.append(dataset.load(index))
        except UnreadableImageError:
            continue
    return images


def _fit(image: Image, side: int) -> Image:
    """The middle square, resized."""
    height, width = image.shape[:2]
    edge = min(height, width)
    top, left = (height - edge) // 2, (width - edge) // 2
    square = image[top : top + edge, left : left + edge]
    how = cv2.INTER_AREA if edge > side else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(square, (side, side), interpolation=how), np.uint8)
