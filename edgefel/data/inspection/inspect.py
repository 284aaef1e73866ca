"""Inspection of a data set before training: balance, sizes, duplicates, leakage, contradicting labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgefel import __version__
from edgefel.data.dataset import SPLIT_NAMES, UNLABELLED, ImageDataset
from edgefel.data.framing import FindFaces, FramingFound, measure_framing
from edgefel.data.inspection.duplicates import (
    DISTANCE,
    Copies,
    CopyCounts,
    ImageColumns,
    NearCounts,
    NearPair,
    find_copies,
    find_near,
)
from edgefel.data.inspection.perceptual_hash import MAX_DISTANCE
from edgefel.data.inspection.scan import Scan, ScanCache, scan_images
from edgefel.errors import EdgefelError
from edgefel.tasks.runner import Runner
from edgefel.tasks.threads import Threads
from edgefel.text import counted

MODEL_SIDE = 112  # pixels; the smallest input of the models
NO_SPLIT, NO_LABEL = "no split", "unlabelled"
# lower edges of the bins of the shorter side, in pixels
_EDGES = (0, 32, 48, 64, 96, MODEL_SIDE, 160, 224, 320, 448, 640, 1024, 2048)


@dataclass(frozen=True)
class InspectionOptions:
    """distance: bits in which the 64-bit hashes of images that look alike may differ. limit: listed findings of each
    kind; all are counted. Raises EdgefelError for values out of range."""

    distance: int = DISTANCE
    limit: int = 1000

    def __post_init__(self) -> None:
        if not 0 <= self.distance <= MAX_DISTANCE:
            raise EdgefelError(f"distance {self.distance}: give 0 to {MAX_DISTANCE} of 64 bits")
        if self.limit < 0:
            raise EdgefelError(f"limit {self.limit}: give the number of findings to list, 0 or more")


@dataclass(frozen=True)
class Groups:
    """Number of images per group (person, video). listed: groups in several splits, with their images by split."""

    number: int
    smallest: int
    median: float
    largest: int
    across_splits: int
    listed: tuple[tuple[str, dict[str, int]], ...]


@dataclass(frozen=True)
class Sizes:
    """Sizes of the readable faces in pixels. width, height, shorter: (smallest, median, largest). histogram: (from, to,
    images) of the shorter side, `to` excluded; the last bin has no end. small: faces below MODEL_SIDE."""

    width: tuple[int, float, int]
    height: tuple[int, float, int]
    shorter: tuple[int, float, int]
    histogram: tuple[tuple[int, int | None, int], ...]
    small: int


@dataclass(frozen=True)
class LabelsFile:
    """The findings with the labels of one file. per_split: labelled images; copies and near list nothing."""

    file: str
    per_split: dict[str, int]
    copies: CopyCounts
    near: NearCounts


@dataclass(frozen=True)
class Inspection:
    """All findings. counts: images by class and split [classes, splits], in the order of the names. by_file: for FER+,
    the findings with each file of labels, first with the one used. framing: where the eyes of its faces lie; None if
    not measured."""

    dataset: ImageDataset = field(repr=False)
    options: InspectionOptions
    classes: tuple[str, ...]
    splits: tuple[str, ...]
    counts: NDArray[np.int64]
    groups: Groups
    soft_labels: bool
    boxes: int
    unreadable: dict[int, str]
    sizes: Sizes | None
    grey: int
    flat: int
    copies: CopyCounts
    near: NearCounts
    by_file: tuple[LabelsFile, ...] = ()
    framing: FramingFound | None = None

    @property
    def problems(self) -> tuple[str, ...]:
        """Descriptions of what makes results doubtful: leakage, contradictions, unreadable files."""
        found = (
            (len(self.unreadable), "unreadable file", ""),
            (self.groups.across_splits, "group", " in more than one split"),
            (self.copies.across_splits, "image", " with equal files in more than one split"),
            (self.near.across_splits, "pair", " of images that look alike across splits"),
            (self.copies.contradicting, "image", " with equal files under different labels"),
            (self.near.contradicting, "pair", " of images that look alike under different labels"),
        )
        return tuple(f"{counted(count, what)}{rest}" for count, what, rest in found if count)

    def to_dict(self) -> dict[str, Any]:
        """The contents of report.json; docs/data-preparing.md describes it."""
        listed = list(self.unreadable.items())[: self.options.limit]
        return {
            "format": "edgefel-data-inspection",
            "version": 1,
            "edgefel": __version__,
            "data": str(self.dataset.root),
            "votes": None if self.dataset.votes is None else self.dataset.votes.to_dict(),
            "by_labels_file": [
                {**vars(one), "copies": _counts(one.copies), "near": _counts(one.near)}
                for one in self.by_file
            ],
            "images": len(self.dataset),
            "problems": list(self.problems),
            "per_class": dict(zip(self.classes, self.counts.sum(1).tolist(), strict=True)),
            "per_split": dict(zip(self.splits, self.counts.sum(0).tolist(), strict=True)),
            "per_class_and_split": {
                name: dict(zip(self.splits, row.tolist(), strict=True))
                for name, row in zip(self.classes, self.counts, strict=True)
            },
            "groups": {
                **vars(self.groups),
                "listed": [{"group": name, "per_split": counts} for name, counts in self.groups.listed],
            },
            "soft_labels": self.soft_labels,
            "boxes": self.boxes,
            "unreadable": {
                "number": len(self.unreadable),
                "listed": [
                    {"path": str(self.dataset.samples[i].path), "reason": reason} for i, reason in listed
                ],
            },
            "left_out": dict(self.dataset.left_out),
            "sizes": None if self.sizes is None else _sizes_dict(self.sizes),
            "framing": None if self.framing is None else self.framing.to_dict(),
            "grey": self.grey,
            "colour": len(self.dataset) - len(self.unreadable) - self.grey,
            "flat": self.flat,
            "copies": {**_counts(self.copies), "listed": [self._finding(one) for one in self.copies.listed]},
            "near": {**_counts(self.near), "listed": [self._finding(one) for one in self.near.listed]},
        }

    def describe(self, index: int) -> dict[str, str]:
        """Path, label, split and group of an image, by name."""
        sample = self.dataset.samples[index]
        label = NO_LABEL if sample.label == UNLABELLED else self.dataset.labels[sample.label]
        split = sample.split or NO_SPLIT
        return {"path": str(sample.path), "label": label, "split": split, "group": sample.group}

    def _finding(self, one: Copies | NearPair) -> dict[str, Any]:
        values = {name: value for name, value in vars(one).items() if name != "indices"}
        return {**values, "images": [self.describe(index) for index in one.indices]}


def inspect_dataset(
    dataset: ImageDataset,
    options: InspectionOptions | None = None,
    progress: Callable[[int], None] = lambda count: None,
    *,
    others: Sequence[ImageDataset] = (),
    find: FindFaces | None = None,
    runner: Runner | None = None,
) -> Inspection:
    """Opens every image and reports. progress: called with the number of newly opened images.

    others: the same images with other files of votes; contradictions are counted for each file. find: a
    detector of faces with eyes, to measure their framing. runner: opens the images; this thread by default.
    """
    options, runner = options or InspectionOptions(), runner or Threads(1)
    columns = ImageColumns.of(dataset)
    cache = ScanCache(dataset.root)
    scan = scan_images(dataset, runner=runner, progress=progress, cache=cache)
    # opens only images that another file alone labels; the rest is in the cache
    scans = [(one, scan_images(one, runner=runner, cache=cache, fresh=False)) for one in others]
    cache.save()
    classes, splits, counts = _class_counts(dataset, columns)
    return Inspection(
        dataset,
        options,
        classes,
        splits,
        counts,
        _groups(dataset, columns, options.limit),
        dataset.soft_targets() is not None,
        int(dataset.boxed().sum()),
        scan.unreadable,
        _sizes(scan),
        int(scan.grey.sum()),
        int(scan.flat.sum()),
        find_copies(columns, scan, options.limit),
        find_near(columns, scan, options.distance, options.limit),
        tuple(_by_file(one, its, options.distance) for one, its in ((dataset, scan), *scans))
        if others
        else (),
        None if find is None else measure_framing(dataset, find),
    )


def _by_file(dataset: ImageDataset, scan: Scan, distance: int) -> LabelsFile:
    columns = ImageColumns.of(dataset)
    sizes = np.bincount(columns.split, minlength=len(SPLIT_NAMES)).tolist()
    return LabelsFile(
        "" if dataset.votes is None else dataset.votes.file,
        {name: size for name, size in zip(SPLIT_NAMES, sizes, strict=True) if size},
        find_copies(columns, scan, 0),
        find_near(columns, scan, distance, 0),
    )


def _class_counts(
    dataset: ImageDataset, columns: ImageColumns
) -> tuple[tuple[str, ...], tuple[str, ...], NDArray[np.int64]]:
    """Names of the classes, names of the splits that hold something, and images of each pair."""
    classes = len(dataset.labels)
    counts = np.zeros((classes + 1, len(SPLIT_NAMES)), np.int64)  # UNLABELLED is the last row
    np.add.at(counts, (columns.label, columns.split), 1)
    names = dataset.labels
    if counts[UNLABELLED].any():
        names = (*names, NO_LABEL)
    # train, val and test, and then what is in none of them
    held = [code for code in (*range(1, len(SPLIT_NAMES)), 0) if counts[:, code].any()]
    return names, tuple(SPLIT_NAMES[code] or NO_SPLIT for code in held), counts[: len(names), held]


def _groups(dataset: ImageDataset, columns: ImageColumns, limit: int) -> Groups:
    _, first, group, sizes = np.unique(
        columns.group, return_index=True, return_inverse=True, return_counts=True
    )
    counts = np.zeros((len(first), len(SPLIT_NAMES)), np.int64)
    np.add.at(counts, (group, columns.split), 1)
    across = np.flatnonzero((counts[:, 1:] > 0).sum(1) > 1)
    listed = tuple(
        (
            dataset.samples[int(first[one])].group,
            {SPLIT_NAMES[code]: int(counts[one, code]) for code in np.flatnonzero(counts[one]) if code},
        )
        for one in across[:limit]
    )
    return Groups(
        len(first), int(sizes.min()), float(np.median(sizes)), int(sizes.max()), len(across), listed
    )


def _sizes(scan: Scan) -> Sizes | None:
    size = scan.size[scan.readable]
    if not len(size):
        return None
    shorter = size.min(1)
    counts, _ = np.histogram(shorter, [*_EDGES, np.iinfo(np.int32).max])
    bins = zip(_EDGES, (*_EDGES[1:], None), counts.tolist(), strict=True)
    return Sizes(
        _spread(size[:, 0]),
        _spread(size[:, 1]),
        _spread(shorter),
        tuple(bins),
        int((shorter < MODEL_SIDE).sum()),
    )


def _spread(values: NDArray[np.int32]) -> tuple[int, float, int]:
    return int(values.min()), float(np.median(values)), int(values.max())


def _sizes_dict(sizes: Sizes) -> dict[str, Any]:
    return {
        **{
            name: dict(zip(("smallest", "median", "largest"), getattr(sizes, name), strict=True))
            for name in ("width", "height", "shorter")
        },
        "histogram": [{"from": low, "to": high, "images": count} for low, high, count in sizes.histogram],
        f"smaller_than_{MODEL_SIDE}": sizes.small,
    }


def _counts(found: CopyCounts | NearCounts) -> dict[str, Any]:
    return {name: value for name, value in vars(found).items() if name != "listed"}
