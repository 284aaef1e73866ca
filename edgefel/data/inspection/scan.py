"""Opens every image of a data set and keeps what is worth knowing of it."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgefel.data.dataset import ImageDataset, UnreadableImageError
from edgefel.data.inspection.perceptual_hash import ImageHash, perceptual_hash
from edgefel.data.inspection.scan_cache import ENTRY, ScanCache, image_keys
from edgefel.errors import EdgefelError

_PIECE = 64  # images that a thread takes at once
_AHEAD = 4
_GREY = 2  # levels by which the channels of a grey image may differ: rounding of a JPEG's colours
UNKNOWN = -1


@dataclass(frozen=True)
class Scan:
    """Columns of N images, in the order of the data set.

    size: width and height of the face in pixels, int32 [N, 2], 0 where unreadable. content: equal for equal files,
    int64 [N]; coarse uint64 [N] and fine uint64 [N, 4]: see `perceptual_hash`, 0 where `hashed` is false. grey, hashed,
    boxed bool [N]. unreadable: index -> why, without the path; a file that is cut off is one of them.
    """

    size: NDArray[np.int32]
    content: NDArray[np.int64]
    coarse: NDArray[np.uint64]
    fine: NDArray[np.uint64]
    grey: NDArray[np.bool_]
    hashed: NDArray[np.bool_]
    boxed: NDArray[np.bool_]
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
    progress: Callable[[int], None] | None = None,
    cache: ScanCache | None = None,
    fresh: bool = True,
) -> Scan:
    """Opens all images with `workers` threads; `progress` is called with the number of newly opened ones.

    cache: keeps what is found of readable images; with `fresh` false, those that it knows are not opened. Raises
    EdgefelError for less than one worker. Images that cannot be read raise nothing: they are in the result.
    """
    if workers < 1:
        raise EdgefelError(f"{workers} workers: give at least 1")
    count = len(dataset)
    entries, readable = np.zeros(count, ENTRY), np.zeros(count, np.bool_)
    boxed, unreadable = np.zeros(count, np.bool_), {}
    keys = np.zeros(count, np.uint64) if cache is None else image_keys(dataset)
    if cache is not None and not fresh:
        readable, known = cache.find(keys)
        entries[readable] = known
        boxed[readable] = [
            dataset.samples[index].box is not None for index in np.flatnonzero(readable).tolist()
        ]
        if progress is not None:
            progress(len(known))
    unknown = np.flatnonzero(~readable)
    for indices, images in _opened(dataset, unknown, workers):
        for index, image in zip(indices.tolist(), images, strict=True):
            boxed[index] = image.boxed
            if image.reason:
                unreadable[index] = image.reason
            else:
                readable[index] = True
                entries[index] = _entry(int(keys[index]), image)
        if progress is not None:
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
        boxed,
        unreadable,
    )


@dataclass(frozen=True)
class _Image:
    boxed: bool
    reason: str = ""  # why it cannot be read; nothing of what follows is known then
    digest: bytes = b""
    width: int = 0
    height: int = 0
    grey: bool = False
    hash: ImageHash | None = None


def _entry(key: int, image: _Image) -> tuple[Any, ...]:
    """A row of ENTRY."""
    digest = tuple(np.frombuffer(image.digest[:16], "<u8").tolist())
    coarse, fine = (0, (0, 0, 0, 0)) if image.hash is None else (image.hash.coarse, image.hash.fine)
    size = (image.width, image.height)
    return key, digest, coarse, fine, size, image.grey, image.hash is not None


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


def _opened(
    dataset: ImageDataset, indices: NDArray[np.int64], workers: int
) -> Iterator[tuple[NDArray[np.int64], list[_Image]]]:
    """The images of these indices in order, in pieces, each with its indices."""

    def open_piece(piece: NDArray[np.int64]) -> list[_Image]:
        return [_open(dataset, index) for index in piece.tolist()]

    # threads: reading, decoding and hashing release the interpreter
    pool = ThreadPoolExecutor(workers, thread_name_prefix="scan")
    try:
        ahead: deque[tuple[NDArray[np.int64], Future[list[_Image]]]] = deque()
        for start in range(0, len(indices), _PIECE):
            piece = indices[start : start + _PIECE]
            ahead.append((piece, pool.submit(open_piece, piece)))
            if len(ahead) > _AHEAD * workers:
                first, future = ahead.popleft()
                yield first, future.result()
        while ahead:
            first, future = ahead.popleft()
            yield first, future.result()
    finally:
        pool.shutdown(cancel_futures=True)


@dataclass(frozen=True)
class _Read:
    """An image that has been read already, as the store of its sample: no file is read twice."""

    where: Path
    data: bytes

    def path(self, index: int) -> Path:
        return self.where

    def read(self, index: int) -> bytes:
        return self.data


def _open(dataset: ImageDataset, index: int) -> _Image:
    sample = dataset.samples[index]
    boxed = sample.box is not None
    try:
        data = sample.read()
        face = replace(sample, store=(_Read(sample.path, data), 0)).load()
    except UnreadableImageError as error:
        return _Image(boxed, error.reason)
    # two faces in one file are not copies of each other
    digest = hashlib.sha256(data + repr(sample.box).encode()).digest()
    height, width = face.shape[:2]
    return _Image(boxed, "", digest, width, height, _is_grey(face), perceptual_hash(face))


def _is_grey(image: NDArray[np.uint8]) -> bool:
    red, green, blue = cv2.split(image)
    return bool(cv2.absdiff(red, green).max() <= _GREY and cv2.absdiff(green, blue).max() <= _GREY)
