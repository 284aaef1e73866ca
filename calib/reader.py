"""Calibration images as model inputs, through the same preprocessing as on the device."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgefel.calib.sampling import LabelledImages
from edgefel.data.images import UnreadableImageError
from edgefel.data.preprocessing import Image, Preprocessing
from edgefel.errors import EdgefelError
from edgefel.text import counted


def readable(
    dataset: LabelledImages, indices: Iterable[int], skipped: list[Path]
) -> Iterator[tuple[int, Image]]:
    """The images that can be read, with their indices; paths of the others are appended to `skipped`."""
    for index in indices:
        try:
            image = dataset.load(index)
        except UnreadableImageError as error:
            skipped.append(error.path)
        else:
            yield index, image


@dataclass
class CalibrationReader:
    """Iterates over batches [n, 3, H, W], float32, of the chosen images; may be iterated again.

    Unreadable images are skipped and named in `skipped`. Raises EdgefelError if all of them are.
    """

    dataset: LabelledImages
    indices: Sequence[int]
    preprocessing: Preprocessing
    batch_size: int = 4
    skipped: list[Path] = field(default_factory=list)

    def __len__(self) -> int:
        """Images, readable or not."""
        return len(self.indices)

    def require(self, classes: int) -> int:
        """Readable images of the last pass; raises EdgefelError if they are fewer than `classes`."""
        used = len(self.indices) - len(self.skipped)
        if used < classes:
            raise EdgefelError(
                f"calibration: {counted(used, 'readable image')} for {counted(classes, 'class', 'classes')}; "
                f"{len(self.skipped)} cannot be "
                f"read, e.g. {self.skipped[0]}; give more images"
            )
        return used

    def __iter__(self) -> Iterator[npt.NDArray[np.float32]]:
        self.skipped.clear()
        images = (image for _, image in readable(self.dataset, self.indices, self.skipped))
        while batch := list(islice(images, self.batch_size)):
            yield self.preprocessing.batch(batch)
        if self.indices and len(self.skipped) == len(self.indices):
            raise EdgefelError(
                f"none of {counted(len(self.indices), 'image')} can be read, e.g. {self.skipped[0]}"
            )
