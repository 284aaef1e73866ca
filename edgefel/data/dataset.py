"""Labelled images, independent of their storage.

A reader of `edgefel.data.readers` makes an `ImageDataset` of the files on disk. Small sets hold a list of samples; sets
of millions hold columns (`SampleTable`) and make a `Sample` when one is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, cast, overload

import numpy as np
from numpy.typing import NDArray

from edgefel.data.images import MOST_BYTES, UnreadableImageError, decode_rgb, read_image_file
from edgefel.data.labels import LabelMatch, check_judgeable, match_labels
from edgefel.data.votes import Votes
from edgefel.errors import EdgefelError
from edgefel.files.read import read_regular, reason
from edgefel.files.remote import as_path, is_address, joined
from edgefel.text import counted

SPLITS = ("train", "val", "test")
SPLIT_NAMES = ("", *SPLITS)  # by number; 0 is "no split"
UNLABELLED = -1

Box = tuple[int, int, int, int]


class ImageStore(Protocol):
    """The storage of encoded images. Several threads and processes may read at once."""

    def path(self, index: int) -> Path:
        """Path of the file, or of the archive with the member appended; for messages and reports."""
        ...

    def read(self, index: int) -> bytes:
        """The encoded image (JPEG, PNG, PNM, ...). Raises OSError if it cannot be read."""
        ...


@dataclass(frozen=True, eq=False)
class FileStore:
    """Images in files. names: relative to `root`, with "/" between folders; where that is an address, addresses too.

    On a disk an address is the name of no file: a data set must not open the network unasked.
    """

    root: Path
    names: Sequence[str]

    def path(self, index: int) -> Path:
        """Path of the file."""
        name = self.names[index]
        if is_address(self.root):
            return as_path(joined(str(self.root), name))
        return self.root / name

    def read(self, index: int) -> bytes:
        """The whole file. Raises OSError."""
        return read_regular(self.path(index), MOST_BYTES)


@dataclass(frozen=True)
class Sample:
    """One labelled image.

    `label` indexes `ImageDataset.labels`, or is UNLABELLED; `group` is the subject or video it comes from; `split` is
    train, val, test, or "" in a set without splits; `soft` is a distribution over the labels, if known. `box`: the face
    within a larger image, (x, y, width, height) in pixels. `store`: the image's storage and its number there; None for
    a file at `path`.
    """

    path: Path
    label: int
    group: str
    split: str
    soft: tuple[float, ...] | None = None
    box: Box | None = None
    store: tuple[ImageStore, int] | None = None

    @property
    def is_file(self) -> bool:
        """Whether the face is a whole file, not a member of an archive or a part of an image."""
        return self.store is None and self.box is None

    def read(self) -> bytes:
        """The encoded image. Raises UnreadableImageError."""
        if self.store is None:
            return read_image_file(self.path)
        store, index = self.store
        try:
            return store.read(index)
        except OSError as error:
            raise UnreadableImageError(self.path, f"cannot be read ({reason(error)})") from None

    def load(self) -> NDArray[np.uint8]:
        """RGB image of the face [H, W, 3], uint8. Raises UnreadableImageError."""
        return self.decode(self.read())

    def decode(self, data: bytes) -> NDArray[np.uint8]:
        """`load`, from the result of `read`."""
        image = decode_rgb(data, self.path)
        return image if self.box is None else _cut(image, self.box, self.path)


@dataclass(frozen=True)
class ImageDataset:
    """Labelled images, read from disk when asked for.

    left_out: number of images of formats that are not read, such as .heic, by suffix. votes: for FER+, the file of the
    labels.
    """

    root: Path
    labels: tuple[str, ...]
    samples: Sequence[Sample]
    left_out: Mapping[str, int] = field(default_factory=dict)
    votes: Votes | None = None

    @property
    def source(self) -> str:
        """Name of the folder or file, and whose labels; not where it lies: a bundle says this on other machines."""
        name = self.root.absolute().name
        return name if self.votes is None else f"{name} (votes: {self.votes.file})"

    def __len__(self) -> int:
        return len(self.samples)

    def load(self, index: int) -> NDArray[np.uint8]:
        """RGB image [H, W, 3], uint8. Raises UnreadableImageError."""
        return self.samples[index].load()

    def targets(self) -> NDArray[np.int64]:
        """The label of every sample [N]."""
        if isinstance(self.samples, SampleTable):
            return self.samples.label.astype(np.int64)
        return np.fromiter((sample.label for sample in self.samples), np.int64, len(self.samples))

    def soft_targets(self) -> NDArray[np.float32] | None:
        """The soft label of every sample [N, C]; None if one has none."""
        if isinstance(self.samples, SampleTable):
            return self.samples.soft
        rows = [sample.soft for sample in self.samples]
        return None if any(row is None for row in rows) else np.array(rows, np.float32)

    def groups(self) -> NDArray[np.int64]:
        """The number of every sample's group [N], from 0; equal numbers are equal groups."""
        if isinstance(self.samples, SampleTable):
            return self.samples.group.astype(np.int64)
        numbers = {name: number for number, name in enumerate(self.group_names())}
        return np.fromiter((numbers[sample.group] for sample in self.samples), np.int64, len(self.samples))

    def group_names(self) -> Sequence[str]:
        """The groups in the order of their numbers; of a list of samples, in order of first appearance."""
        if isinstance(self.samples, SampleTable):
            return self.samples.group_names
        return tuple(dict.fromkeys(sample.group for sample in self.samples))

    def splits(self) -> NDArray[np.int8]:
        """The number of every sample's split [N] in SPLIT_NAMES."""
        if isinstance(self.samples, SampleTable):
            return cast("NDArray[np.int8]", self.samples.split)
        numbers = (SPLIT_NAMES.index(sample.split) for sample in self.samples)
        return np.fromiter(numbers, np.int8, len(self.samples))

    def in_split(self, split: str) -> NDArray[np.int64]:
        """Indices of the samples of a split, "" for those that are in none."""
        return np.flatnonzero(self.splits() == SPLIT_NAMES.index(split))

    def boxed(self) -> NDArray[np.bool_]:
        """Which samples have a box [N]."""
        if isinstance(self.samples, SampleTable):
            return np.full(len(self), self.samples.box is not None)
        return np.array([sample.box is not None for sample in self.samples], np.bool_)

    def relabelled(self, targets: NDArray[np.int64]) -> ImageDataset:
        """The same images with other labels [N]; soft labels stay as they are."""
        return replace(self, samples=_renumbered(self.samples, targets))

    def matched(self, labels: Sequence[str]) -> MatchedDataset:
        """The images that can judge a model with these `labels`: those of the common classes.

        The order of the classes stays, so that a seed draws the same images whatever the model's order. Raises
        EdgefelError if the two cannot be compared (`check_judgeable`), or no image is left.
        """
        match = match_labels(labels, self.labels)
        check_judgeable(match, str(self.root))
        if not match.only_other:
            return MatchedDataset(self, match, {}, np.arange(len(self)))
        targets = self.targets()
        counts = np.bincount(targets[targets != UNLABELLED], minlength=len(self.labels))
        left_out = {name: int(counts[i]) for i, name in enumerate(self.labels) if i not in match.numbers}
        kept = np.flatnonzero(np.isin(targets, match.numbers))
        return MatchedDataset(self._with_classes(match.numbers), match, left_out, kept)

    def reordered(self, labels: Sequence[str]) -> ImageDataset:
        """The same images with the classes in this order; raises EdgefelError unless they are exactly these."""
        match = match_labels(self.labels, labels)
        if not match.same_classes:
            raise EdgefelError(
                f"{self.root}: has the classes {', '.join(self.labels)}, the model was trained on {', '.join(labels)}; "
                "give its own data"
            )
        chosen = self if self.labels == match.labels else self._with_classes(match.columns)
        return replace(chosen, labels=match.labels)

    def _with_classes(self, numbers: Sequence[int]) -> ImageDataset:
        """The images of these classes, which are numbered in this order."""
        places = np.full(len(self.labels) + 1, UNLABELLED)  # one more, which UNLABELLED indexes
        places[list(numbers)] = np.arange(len(numbers))
        targets = places[self.targets()]
        kept = np.flatnonzero(targets != UNLABELLED)
        labels = tuple(self.labels[number] for number in numbers)
        if not kept.size:
            raise EdgefelError(f"{self.root}: has no image of {', '.join(labels)}; give other data")
        samples = self.subset(kept).samples
        return replace(self, labels=labels, samples=_renumbered(samples, targets[kept], numbers))

    def subset(self, indices: Sequence[int] | NDArray[np.int64]) -> ImageDataset:
        """The samples of these indices, in their order."""
        if isinstance(self.samples, SampleTable):
            chosen: Sequence[Sample] = self.samples.subset(np.asarray(indices, np.int64))
        else:
            chosen = tuple(self.samples[int(index)] for index in indices)
        return replace(self, samples=chosen)


@dataclass(frozen=True)
class MatchedDataset:
    """A data set without the classes that a model lacks; see `ImageDataset.matched`.

    dataset: its labels are those of `match`. left_out: number of images of each class that the model lacks. kept:
    indices [N] of its images in the original data set.
    """

    dataset: ImageDataset
    match: LabelMatch
    left_out: dict[str, int]
    kept: NDArray[np.int64]

    def notes(self, *, judged: bool = True) -> tuple[str, ...]:
        """Differences between the classes of both sides, for reports; none if they are the same.

        judged: whether the images judge the model, or only calibrate it.
        """
        root, lines = self.dataset.root, []
        if self.match.only_other:
            listed = ", ".join(f"{count} of {name}" for name, count in self.left_out.items())
            lines.append(f"{root}: images of classes that the model lacks are left out: {listed}")
        if self.match.only_model:
            others = counted(len(self.match.columns), "class", "classes")
            how = f"; the model is judged by its probabilities of the other {others} alone"
            lines.append(f"{root}: has no class {', '.join(self.match.only_model)}" + (how if judged else ""))
        return tuple(lines)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values: class names in the model's order, in the data's, and the common ones."""
        return {
            "model": list(self.match.model),
            "data": list(self.match.other),
            "judged": list(self.match.labels),
            "images_left_out": dict(self.left_out),
            "outputs_ignored": list(self.match.only_model),
        }


@dataclass(frozen=True, eq=False)
class SampleTable(Sequence[Sample]):
    """Samples as columns: a few bytes for each, and a `Sample` when one is asked for.

    label: int16 [N] (UNLABELLED where none). group: int32 [N] into `group_names`. split: a name for each of N, one name
    for all, or int8 [N] into SPLIT_NAMES. soft: float32 [N, C] or None. box: int32 [N, 4] or None. rows: each sample's
    number in the store, 0 to N - 1 by default. Raises ValueError for columns of different lengths.
    """

    store: ImageStore
    label: NDArray[Any]
    group: NDArray[Any]
    group_names: Sequence[str]
    split: str | Sequence[str] | NDArray[np.int8]
    soft: NDArray[np.float32] | None = None
    box: NDArray[np.int32] | None = None
    rows: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        label, split = np.asarray(self.label, np.int16), self.split
        count = len(label)
        if isinstance(split, str):
            split = np.full(count, SPLIT_NAMES.index(split), np.int8)
        elif not isinstance(split, np.ndarray):
            split = np.fromiter((SPLIT_NAMES.index(name) for name in split), np.int8, count)
        rows = np.arange(count) if self.rows is None else self.rows
        group = np.asarray(self.group, np.int32)
        columns: dict[str, NDArray[Any]] = {"label": label, "group": group, "split": split, "rows": rows}
        for name, column in columns.items():
            object.__setattr__(self, name, column)
        lengths = [len(c) for c in (*columns.values(), self.soft, self.box) if c is not None]
        if len(set(lengths)) > 1:
            raise ValueError(f"columns of lengths {lengths}: must be equal")

    def __len__(self) -> int:
        return len(self.label)

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> SampleTable: ...
    def __getitem__(self, index: int | slice) -> Sample | SampleTable:
        if isinstance(index, slice):
            return self.subset(np.arange(len(self))[index])
        if not -len(self) <= index < len(self):  # ends the iteration of a Sequence
            raise IndexError(index)
        assert self.rows is not None
        row = int(self.rows[index])
        return Sample(
            self.store.path(row),
            int(self.label[index]),
            self.group_names[int(self.group[index])],
            SPLIT_NAMES[int(cast(Any, self.split)[index])],
            None if self.soft is None else tuple(self.soft[index].tolist()),
            None if self.box is None else cast(Box, tuple(self.box[index].tolist())),
            None if isinstance(self.store, FileStore) else (self.store, row),
        )

    def subset(self, indices: NDArray[np.int64]) -> SampleTable:
        """The samples of these indices, in their order."""
        names = ("label", "group", "split", "soft", "box", "rows")
        columns = {name: column for name in names if (column := getattr(self, name)) is not None}
        return replace(self, **{name: column[indices] for name, column in columns.items()})


def _renumbered(
    samples: Sequence[Sample], targets: NDArray[np.int64], columns: Sequence[int] | None = None
) -> Sequence[Sample]:
    """The same samples with other labels [N], and these columns of their soft labels (all by default)."""
    if isinstance(samples, SampleTable):
        soft = None if samples.soft is None else _shares(samples.soft, columns)
        return replace(samples, label=targets, soft=soft)
    shares = (s.soft and tuple(_shares(np.array([s.soft]), columns)[0].tolist()) for s in samples)
    rows = zip(samples, targets.tolist(), shares, strict=True)
    return tuple(replace(sample, label=label, soft=soft) for sample, label, soft in rows)


def _shares(soft: NDArray[Any], columns: Sequence[int] | None) -> NDArray[Any]:
    """These columns of distributions [N, C], normalized to sum to 1 (or 0) if some are left out."""
    if columns is None:
        return soft
    chosen = soft[:, list(columns)]
    if len(columns) == soft.shape[1]:
        return chosen
    sums = chosen.sum(axis=1, keepdims=True)
    return np.asarray(chosen / np.where(sums > 0, sums, 1), soft.dtype)


def _cut(image: NDArray[np.uint8], box: Box, path: Path) -> NDArray[np.uint8]:
    """The part of the box within the image."""
    x, y, width, height = box
    part = image[max(0, y) : max(0, y + height), max(0, x) : max(0, x + width)]
    if part.size == 0:
        raise UnreadableImageError(path, f"its box {box} lies outside of its {image.shape[1::-1]} pixels")
    return part
