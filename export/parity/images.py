"""The images that files are compared on: which ones, that calibration did not see them, and their true classes."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgefel.calib.samples import LabelledImages
from edgefel.data.dataset import ImageDataset, UnreadableImageError
from edgefel.data.labels import match_labels
from edgefel.data.preprocessing import Image, Preprocessing, Tensor
from edgefel.errors import EdgefelError
from edgefel.progress import SILENT, Progress

BATCH = 8


@dataclass(frozen=True)
class ParityImages:
    """Images in memory, as uint8 of the size that preprocessing resizes to: each is read once for all files.

    targets: true classes [N] in the order of the network's outputs; None where labels are not to be trusted.
    source: what the manifest calls them. skipped: names of those that could not be read. columns: the outputs of the
    classes that the data has, ascending; None for all.
    """

    crops: tuple[Image, ...]
    targets: npt.NDArray[np.int64] | None
    source: str
    skipped: tuple[str, ...] = ()
    columns: tuple[int, ...] | None = None

    def __len__(self) -> int:
        return len(self.crops)

    def spread(self, count: int) -> ParityImages:
        """`count` of them, from the first to the last at even steps; all, if there are no more."""
        if count >= len(self):
            return self
        chosen = np.linspace(0, len(self) - 1, count).round().astype(np.int64)
        targets = None if self.targets is None else self.targets[chosen]
        crops = tuple(self.crops[i] for i in chosen)
        return ParityImages(crops, targets, self.source, columns=self.columns)

    def batches(self, preprocessing: Preprocessing, input_type: str = "float32") -> Iterator[Tensor | Image]:
        """At most BATCH of them at a time: float32 [n, 3, H, W], or uint8 [n, H, W, 3] for a file that normalises
        in the graph."""
        make = preprocessing.pixel_batch if input_type == "uint8" else preprocessing.batch
        for start in range(0, len(self.crops), BATCH):
            yield make(self.crops[start : start + BATCH])


def load_images(
    dataset: LabelledImages,
    indices: Sequence[int],
    labels: Sequence[str],
    preprocessing: Preprocessing,
    source: str,
    *,
    labelled: bool,
    progress: Progress = SILENT,
) -> ParityImages:
    """Reads or draws the images; `labels` are the network's, `labelled` says whether the data's mean anything.

    The data's classes are matched by name and must all be the network's (`ImageDataset.matched`). Raises EdgefelError
    if there are no images, or none can be read.
    """
    if not indices:
        raise EdgefelError(
            f"{source}: no image is left to compare on that calibration did not see; give more data"
        )
    progress.start("load comparison images", len(indices))
    match = match_labels(labels, dataset.labels)
    column_of = dict(zip(match.numbers, match.columns, strict=True))
    crops: list[Image] = []
    targets: list[int] = []
    skipped: list[str] = []
    for index in indices:
        try:
            crops.append(preprocessing.resize_image(dataset.load(index)))
            targets.append(column_of[dataset.samples[index].label])
        except UnreadableImageError as error:
            skipped.append(error.path.name)
        progress.advance()
    if not crops:
        raise EdgefelError(
            f"{source}: none of {len(skipped)} comparison images can be read, e.g. {skipped[0]}"
        )
    true = np.asarray(targets, dtype=np.int64) if labelled else None
    columns = tuple(sorted(match.columns)) if match.only_model else None
    return ParityImages(tuple(crops), true, source, tuple(skipped), columns)


def unseen(dataset: ImageDataset, among: Sequence[int], hashes: Collection[str]) -> tuple[int, ...]:
    """Those of the indices whose file's SHA-256 is not in `hashes`, so that a copy under another name counts as
    the same image. A file that cannot be read stays: it is reported where images are loaded."""
    return tuple(index for index in among if _hash(dataset, index) not in hashes) if hashes else tuple(among)


def _hash(dataset: ImageDataset, index: int) -> str:
    try:
        return hashlib.sha256(dataset.samples[index].read()).hexdigest()
    except UnreadableImageError:
        return ""


def divide(
    dataset: LabelledImages, among: Sequence[int], count: int, seed: int
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Two parts of the indices that share none: up to `count` to search on, and what the result is judged on.

    Where there are splits val and test, the first comes from val and the second is test. Otherwise the first
    takes at most half of them, evenly from the classes.
    """
    by_split = {
        split: tuple(i for i in among if getattr(dataset.samples[i], "split", "") == split)
        for split in ("val", "test")
    }
    if all(by_split.values()):
        return draw_evenly(dataset, by_split["val"], count, seed), by_split["test"]
    first = draw_evenly(dataset, among, min(count, len(among) // 2), seed)
    taken = set(first)
    return first, tuple(index for index in among if index not in taken)


def draw_evenly(dataset: LabelledImages, among: Sequence[int], count: int, seed: int) -> tuple[int, ...]:
    """`count` of the indices (all, if there are fewer), sorted, as even over the classes as they allow: recall
    is judged class by class, and an image of a class that has plenty says less. Same seed, same draw."""
    order = np.random.default_rng([seed, 1]).permutation(np.asarray(among, dtype=np.int64))
    labels = np.asarray([dataset.samples[index].label for index in order], dtype=np.int64)
    turn = np.zeros(len(order), dtype=np.int64)
    for label in np.unique(labels):
        own = labels == label
        turn[own] = np.arange(int(own.sum()))
    chosen = order[np.argsort(turn, kind="stable")[:count]]
    return tuple(int(index) for index in np.sort(chosen))
