"""Opens every image of a data set and records size, hashes and errors."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgefel.data.dataset import ImageDataset
from edgefel.data.images import UnreadableImageError
from edgefel.data.inspection.perceptual_hash import perceptual_hash
from edgefel.data.inspection.scan_cache import ENTRY, ScanCache, image_keys
from edgefel.errors import EdgefelError
from edgefel.workers import in_threads

_PIECE = 64  # images that a thread takes at once
_AHEAD = 4
_GREY = 2  # levels by which the channels of a grey image may differ: rounding of a JPEG's colours
UNKNOWN = -1


@dataclass(frozen=True)
class Scan:
    """Columns of N images, in the order of the data set.

    size: width and height of the face in pixels, int32 [N, 2], 0 where unreadable. content: equal for equal files,
    int64 [N]; coarse uint64 [N] and fine uint64 [N, 4]: see `perceptual_hash`, 0 where `hashed` is false. grey, hashed:
    bool [N]. unreadable: index -> reason, without the path; truncated files are among them.
    """

    size: NDArray[np.int32]
    content: NDArray[np.int64]
    coarse: NDArray[np.uint64]
    fine: NDArray[np.uint64]
    grey: NDArray[np.bool_]
    hashed: NDArray[np.bool_]
    unreadable: dict[int, str]

    @property
    def readable(self) -> NDArray[np.bool_]:
        """Which images could be read [N]."""
        return self.content != UNKNOWN

    @property
    def flat(self) -> NDArray[np.bool_]:
        """Which images could be read but show one colour [N]."""
        return self.readable & ~self.hashed


def scan_images(
    dataset: ImageDataset,
    *,
    workers: int = 1,
    progress: Callable[[int], None] = lambda count: None,
    cache: ScanCache | None = None,
    fresh: bool = True,
) -> Scan:
    """Opens all images with `workers` threads; `progress` is called with the number of newly opened ones.

    cache: stores the results for readable images; unless `fresh`, images that it knows are not opened. Raises
    EdgefelError for less than one worker. Unreadable images raise nothing: they are in the result.
    """
    if workers < 1:
        raise EdgefelError(f"{workers} workers: give at least 1")
    count = len(dataset)
    entries, readable = np.zeros(count, ENTRY), np.zeros(count, np.bool_)
    unreadable: dict[int, str] = {}
    keys = np.zeros(count, np.uint64) if cache is None else image_keys(dataset)
    if cache is not None and not fresh:
        readable, known = cache.find(keys)
        entries[readable] = known
        progress(len(known))
    unknown = np.flatnonzero(~readable)
    pieces = [unknown[start : start + _PIECE] for start in range(0, len(unknown), _PIECE)]

    def open_piece(piece: NDArray[np.int64]) -> list[tuple[Any, ...] | str]:
        return [_open(dataset, index) for index in piece.tolist()]

    opened = in_threads(open_piece, pieces, workers, ahead=_AHEAD)
    for images, piece in zip(opened, pieces, strict=True):
        for index, image in zip(piece.tolist(), images, strict=True):
            if isinstance(image, str):
                unreadable[index] = image
            else:
                readable[index] = True
                entries[index] = (int(keys[index]), *image)
        progress(len(images))
    if cache is not None:
        cache.add(entries[unknown][readable[unknown]])
    return Scan(
        entries["size"],
        _numbers(entries["digest"], readable),
        entries["coarse"],
        entries["fine"],
        entries["grey"],
        entries["hashed"],
        unreadable,
    )


def _numbers(digests: NDArray[np.uint64], readable: NDArray[np.bool_]) -> NDArray[np.int64]:
    """A number for each digest [N, 2], by first appearance; UNKNOWN where there is none."""
    content = np.full(len(digests), UNKNOWN, np.int64)
    if not readable.any():
        return content
    _, first, number = np.unique(digests[readable], axis=0, return_index=True, return_inverse=True)
    turn = np.empty(len(first), np.int64)
    turn[np.argsort(first)] = np.arange(len(first))
    content[readable] = turn[number.reshape(-1)]  # NumPy 2.0 gives it another shape
    return content


@dataclass(frozen=True)
class _Read:
    """An image that was read already, as the store of its sample: no file is read twice."""

    where: Path
    data: bytes

    def path(self, index: int) -> Path:
        return self.where

    def read(self, index: int) -> bytes:
        return self.data


def _open(dataset: ImageDataset, index: int) -> tuple[Any, ...] | str:
    """A row of ENTRY without its key, or the reason why the image cannot be read."""
    sample = dataset.samples[index]
    try:
        data = sample.read()
        face = replace(sample, store=(_Read(sample.path, data), 0)).load()
    except UnreadableImageError as error:
        return error.reason
    # two faces in one file are not copies of each other
    digest = hashlib.sha256(data + repr(sample.box).encode()).digest()
    numbers = tuple(np.frombuffer(digest[:16], "<u8").tolist())
    hashes = perceptual_hash(face)
    coarse, fine = (0, (0, 0, 0, 0)) if hashes is None else (hashes.coarse, hashes.fine)
    height, width = face.shape[:2]
    return numbers, coarse, fine, (width, height), _is_grey(face), hashes is not None


def _is_grey(image: NDArray[np.uint8]) -> bool:
    red, green, blue = cv2.split(image)
    return bool(cv2.absdiff(red, green).max() <= _GREY and cv2.absdiff(green, blue).max() <= _GREY)
