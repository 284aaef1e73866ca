"""Images for training: resized once, kept in memory if they fit, read by several threads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain, islice
from threading import Lock
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgefel.data.dataset import UNLABELLED, ImageDataset
from edgefel.data.images import UnreadableImageError
from edgefel.data.preprocessing import Preprocessing
from edgefel.errors import EdgefelError
from edgefel.text import counted
from edgefel.workers import in_threads

# A thread reads this many images at a time, and this many pieces ahead of training.
_PIECE = 16
_AHEAD = 8


class Batch(NamedTuple):
    """Images uint8 [B, 3, resize, resize], and their indices int64 [B] in the data set."""

    pixels: Tensor
    indices: Tensor


class _Read(NamedTuple):
    pixels: NDArray[np.uint8]  # [n, 3, resize, resize]
    indices: NDArray[np.int64]
    unreadable: dict[int, str]


class StandIns:
    """The other images of a class, as replacements for one that cannot be read.

    Images are sorted by class once, when the first replacement is needed: with millions of images and many bad ones,
    all labels cannot be searched each time. Several threads may ask at once.
    """

    def __init__(self, dataset: ImageDataset) -> None:
        self._dataset = dataset
        self._lock = Lock()
        self._of_class: dict[int, NDArray[np.int64]] = {}

    def of(self, index: int) -> Iterator[int]:
        """The other images of its class in order, starting after it and wrapping around.

        Without a random draw: the replacement is the same in every process and after every resume.
        """
        with self._lock:
            if not self._of_class:
                targets, classes = self._dataset.targets(), range(UNLABELLED, len(self._dataset.labels))
                self._of_class = {label: np.flatnonzero(targets == label) for label in classes}
        others = self._of_class[self._dataset.samples[index].label]
        place = int(np.searchsorted(others, index))
        yield from map(int, chain(others[place + 1 :], others[:place]))


class ImageSource:
    """The images of a data set as uint8 batches; unreadable ones are skipped, counted and named.

    `skipped` maps the index of every unreadable image met so far to the reason.
    """

    def __init__(
        self, dataset: ImageDataset, preprocessing: Preprocessing, *, workers: int = 0, cache_mb: int = 4096
    ) -> None:
        self.dataset = dataset
        self.preprocessing = preprocessing
        self.workers = workers
        self.skipped: dict[int, str] = {}
        self._reported = 0  # of `skipped`
        self.fits = len(dataset) * 3 * preprocessing.resize**2 <= cache_mb * 2**20
        self._cache: Tensor | None = None
        self._stand_ins = StandIns(dataset)

    def load(self, advance: Callable[[int], None] = lambda count: None) -> None:
        """Fills the cache if everything fits; `advance` is called with the number of newly read images.

        Raises EdgefelError if no image is readable.
        """
        if not self.fits or self._cache is not None:
            return
        side = self.preprocessing.resize
        cache = torch.zeros((len(self.dataset), 3, side, side), dtype=torch.uint8)
        for read in self._read([range(len(self.dataset))], replace=False):
            cache[torch.from_numpy(read.indices)] = torch.from_numpy(read.pixels)
            advance(len(read.indices) + len(read.unreadable))
        if len(self.skipped) == len(self.dataset):
            first = next(iter(self.skipped.values()))
            raise EdgefelError(
                f"{self.dataset.root}: none of its {counted(len(self.dataset), 'image')} can be read ({first})"
            )
        self._cache = cache

    def batches(self, index_lists: Sequence[NDArray[np.int64]]) -> Iterator[Batch]:
        """One batch per list, of the same length: unreadable images are replaced within their class.

        Raises EdgefelError if a class has no readable image.
        """
        if self._cache is not None:
            for wanted in index_lists:
                indices = torch.from_numpy(np.array([self._stand_in(int(i)) for i in wanted], np.int64))
                yield self._cached(indices)
            return
        reads = self._read(index_lists, replace=True)
        for wanted in index_lists:
            parts = [next(reads) for _ in range(0, len(wanted), _PIECE)]
            if sum(len(part.indices) for part in parts) < len(wanted):
                for index in self.skipped:
                    self._stand_in(index)  # raises for the class that has none
            yield Batch(
                torch.from_numpy(np.concatenate([part.pixels for part in parts])),
                torch.from_numpy(np.concatenate([part.indices for part in parts])),
            )

    def readable(self, indices: Sequence[int], batch_size: int) -> Iterator[Batch]:
        """The readable ones among `indices` in order, in batches of at most `batch_size`."""
        if self._cache is not None:
            kept = [i for i in indices if i not in self.skipped]
            for start in range(0, len(kept), batch_size):
                yield self._cached(torch.tensor(kept[start : start + batch_size], dtype=torch.int64))
            return
        for read in self._read([indices], replace=False):
            if len(read.indices):
                yield Batch(torch.from_numpy(read.pixels), torch.from_numpy(read.indices))

    def unreported(self) -> list[tuple[int, str]]:
        """Unreadable images met since the last call: (index, reason)."""
        new = sorted(islice(self.skipped.items(), self._reported, None))
        self._reported += len(new)
        return new

    def _cached(self, indices: Tensor) -> Batch:
        assert self._cache is not None
        # several times as fast as indexing with a tensor
        return Batch(self._cache.index_select(0, indices), indices)

    def _stand_in(self, index: int) -> int:
        for candidate in chain([index], self._stand_ins.of(index)):
            if candidate not in self.skipped:
                return candidate
        label = self.dataset.labels[self.dataset.samples[index].label]
        raise EdgefelError(
            f"{self.dataset.root}: no image of the class {label!r} can be read "
            f"(e.g. {self.dataset.samples[index].path}); repair the files or remove the class"
        )

    def _read(
        self, index_lists: Iterable[Sequence[int] | NDArray[np.int64]], replace: bool
    ) -> Iterator[_Read]:
        pieces = (
            [int(i) for i in wanted[start : start + _PIECE]]
            for wanted in index_lists
            for start in range(0, len(wanted), _PIECE)
        )
        for read in in_threads(partial(self._read_piece, replace), pieces, self.workers, ahead=_AHEAD):
            self.skipped.update(read.unreadable)
            yield read

    def _read_piece(self, replace: bool, wanted: Sequence[int]) -> _Read:
        """Reads the images `wanted`; with `replace`, another one of its class replaces an unreadable one."""
        images: list[NDArray[np.uint8]] = []
        indices: list[int] = []
        unreadable: dict[int, str] = {}
        for first in wanted:
            for index in chain([first], self._stand_ins.of(first) if replace else ()):
                try:
                    image = self.preprocessing.resize_image(self.dataset.load(index))
                except UnreadableImageError as error:
                    unreadable[index] = str(error)
                    continue
                images.append(image.transpose(2, 0, 1))
                indices.append(index)
                break
        side = self.preprocessing.resize
        stacked = np.stack(images) if images else np.empty((0, 3, side, side), np.uint8)
        return _Read(stacked, np.asarray(indices, np.int64), unreadable)
