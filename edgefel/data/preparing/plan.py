"""What `edgefel data prepare` will write: options, and the columns of the data set."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgefel import __version__
from edgefel.data.dataset import SPLIT_NAMES, ImageDataset
from edgefel.data.preparing.group_split import check_shares, deal_groups
from edgefel.data.readers.base import PackedNames
from edgefel.errors import EdgefelError

FORMATS = ("jpg", "png")
MISSING = ("skip", "center")
JPEG_QUALITY = 95
_LARGEST = 4096
_NONE: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class PrepareOptions:
    """How faces are cut and written; checked at construction.

    size: side of a crop in pixels; the default is the size to which training of a model of 224 pixels resizes.
    image_format: jpg (quality 95) or png. missing: how to treat an image without a face, "skip" or "center". margin:
    added on each side of a data set's own box that no detection fits, as a share of its larger side. shares: of train,
    val and test, for a set without splits, drawn by `seed`. per_shard: images in a WebDataset shard; None writes files.
    tools: the detector and its options, as plain JSON values, so that a run with another one does not continue this
    work. Raises EdgefelError.
    """

    size: int = 256
    image_format: str = "jpg"
    missing: str = "skip"
    margin: float = 0.0
    shares: tuple[float, ...] | None = None
    seed: int = 0
    per_shard: int | None = None
    tools: Mapping[str, Any] = field(default_factory=lambda: _NONE)

    def __post_init__(self) -> None:
        if not 16 <= self.size <= _LARGEST:
            raise EdgefelError(f"size {self.size}: give a side of 16 to {_LARGEST} pixels")
        if self.image_format not in FORMATS:
            raise EdgefelError(f"image format {self.image_format!r}: choose one of {', '.join(FORMATS)}")
        if self.missing not in MISSING:
            raise EdgefelError(f"missing {self.missing!r}: choose one of {', '.join(MISSING)}")
        if not (math.isfinite(self.margin) and 0 <= self.margin <= 1):
            raise EdgefelError(f"margin {self.margin:g}: give a share of the box's side, 0 to 1")
        if self.shares is not None:
            object.__setattr__(self, "shares", check_shares(self.shares))
        if self.per_shard is not None and self.per_shard < 1:
            raise EdgefelError(f"{self.per_shard} images per shard: give 1 or more")

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, with the versions that determine the bytes of an image."""
        return {
            "size": self.size,
            "format": self.image_format,
            "missing": self.missing,
            "margin": self.margin,
            "splits": None if self.shares is None else list(self.shares),
            "seed": None if self.shares is None else self.seed,
            "shards": self.per_shard,
            **self.tools,
            "edgefel": __version__,
            "opencv": cv2.__version__,
        }

    @property
    def encoding(self) -> tuple[int, ...]:
        """Parameters of cv2.imencode. PNG at its fastest: faces compress little."""
        if self.image_format == "jpg":
            return cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY
        return cv2.IMWRITE_PNG_COMPRESSION, 1


@dataclass(frozen=True)
class PreparePlan:
    """Columns of N images, in the order of the data set.

    label int64, group int64 into group_names, split int8 into SPLIT_NAMES, soft float32 [N, C] or None; sources: the
    path of each image, relative to the data set if it is inside. digest: of all columns and the boxes.
    """

    dataset: ImageDataset
    options: PrepareOptions
    label: NDArray[np.int64]
    group: NDArray[np.int64]
    group_names: Sequence[str]
    split: NDArray[np.int8]
    soft: NDArray[np.float32] | None
    sources: PackedNames
    digest: str

    def __len__(self) -> int:
        return len(self.label)

    @classmethod
    def of(cls, dataset: ImageDataset, options: PrepareOptions) -> PreparePlan:
        """Draws splits if the options ask for it; no image is opened.

        Raises EdgefelError for an empty set, images without a label, and shares for a set that has splits.
        """
        label = dataset.targets()
        if not len(label):
            raise EdgefelError(f"{dataset.root}: no images in it")
        unlabelled = np.flatnonzero((label < 0) | (label >= len(dataset.labels)))
        if unlabelled.size:
            first = dataset.samples[int(unlabelled[0])].path
            raise EdgefelError(f"{first}: has no label; prepare a labelled data set")
        group = dataset.groups()
        split, soft = _splits(dataset, group, label, options), dataset.soft_targets()
        sources, digest = _sources(dataset)
        for column in (label, group, split, *(() if soft is None else (soft,))):
            digest.update(np.ascontiguousarray(column).tobytes())
        return cls(
            dataset, options, label, group, dataset.group_names(), split, soft, sources, digest.hexdigest()
        )

    def key(self) -> dict[str, Any]:
        """What must be equal for a run to continue another's work: plain JSON values."""
        data = {"root": str(self.dataset.root.resolve()), "images": len(self), "sha256": self.digest}
        return {"options": self.options.to_dict(), "data": data}

    def folder(self, split: int, label: int) -> str:
        """The folder of a split and class, relative to the output: SPLIT/CLASS, or CLASS without a split."""
        name, of_class = SPLIT_NAMES[split], self.dataset.labels[label]
        return f"{name}/{of_class}" if name else of_class

    def folders(self) -> list[str]:
        """All folders of images."""
        pairs = np.unique(np.stack([self.split.astype(np.int64), self.label], axis=1), axis=0)
        return [self.folder(split, label) for split, label in pairs.tolist()]

    def name(self, index: int) -> str:
        """The file of an image's face, relative to the output."""
        folder = self.folder(int(self.split[index]), int(self.label[index]))
        return f"{folder}/{index:07d}.{self.options.image_format}"


def _splits(
    dataset: ImageDataset, group: NDArray[np.int64], label: NDArray[np.int64], options: PrepareOptions
) -> NDArray[np.int8]:
    split = dataset.splits()
    if options.shares is None:
        return split
    if split.any():
        held = ", ".join(SPLIT_NAMES[code] for code in np.unique(split) if code)
        raise EdgefelError(
            f"{dataset.root}: has splits of its own ({held}), by which results on it are compared; leave out --splits"
        )
    return (deal_groups(group, label, options.shares, options.seed) + 1).astype(np.int8)


def _sources(dataset: ImageDataset) -> tuple[PackedNames, Any]:
    """The paths of the images, and a digest of them and their boxes."""
    root = str(dataset.root if dataset.root.is_dir() else dataset.root.parent).rstrip("/") + "/"
    digest = hashlib.sha256("\0".join(dataset.labels).encode())

    def names() -> Iterator[str]:
        for sample in dataset.samples:
            # a string's own method: pathlib's takes as long as everything else for a row
            name = sample.path.as_posix().removeprefix(root)
            digest.update(f"{name}{sample.box!r}\0".encode("utf-8", "surrogateescape"))
            yield name

    return PackedNames.pack(names()), digest
