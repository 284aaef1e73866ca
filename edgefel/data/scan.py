"""Opens every picture of a data set and keeps what is worth knowing of it."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edgefel.data.dataset import ImageDataset, UnreadableImageError
from edgefel.data.perceptual_hash import FINE_WORDS, PictureHash, perceptual_hash
from edgefel.errors import EdgefelError

_PIECE = 64  # pictures that a thread takes at once
_AHEAD = 4
_GREY = 2  # levels by which the channels of a grey picture may differ: rounding of a JPEG's colours
UNKNOWN = -1


@dataclass(frozen=True)
class Scan:
    """Columns of N pictures, in the order of the data set.

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
        """Which pictures could be read [N]."""
        return self.content != UNKNOWN

    @property
    def flat(self) -> NDArray[np.bool_]:
        """Which pictures could be read but show one colour [N]."""
        return self.readable & ~self.hashed


def scan_pictures(
    dataset: ImageDataset, *, workers: int = 1, progress: Callable[[int], None] | None = None
) -> Scan:
    """Opens all pictures with `workers` threads; `progress` is called with the number of newly opened ones.

    Raises EdgefelError for less than one worker. Pictures that cannot be read raise nothing: they are in the result.
    """
    if workers < 1:
        raise EdgefelError(f"{workers} workers: give at least 1")
    count = len(dataset)
    scan = Scan(
        np.zeros((count, 2), np.int32),
        np.full(count, UNKNOWN, np.int64),
        np.zeros(count, np.uint64),
        np.zeros((count, FINE_WORDS), np.uint64),
        np.zeros(count, np.bool_),
        np.zeros(count, np.bool_),
        np.zeros(count, np.bool_),
        {},
    )
    contents: dict[bytes, int] = {}
    for start, pictures in _opened(dataset, workers):
        for index, picture in enumerate(pictures, start):
            _enter(scan, index, picture, contents)
        if progress is not None:
            progress(len(pictures))
    return scan


@dataclass(frozen=True)
class _Picture:
    boxed: bool
    reason: str = ""  # why it cannot be read; nothing of what follows is known then
    digest: bytes = b""
    width: int = 0
    height: int = 0
    grey: bool = False
    hash: PictureHash | None = None


def _enter(scan: Scan, index: int, picture: _Picture, contents: dict[bytes, int]) -> None:
    scan.boxed[index] = picture.boxed
    if picture.reason:
        scan.unreadable[index] = picture.reason
        return
    scan.size[index] = picture.width, picture.height
    scan.content[index] = contents.setdefault(picture.digest, len(contents))
    scan.grey[index] = picture.grey
    if picture.hash is not None:
        scan.hashed[index] = True
        scan.coarse[index] = picture.hash.coarse
        scan.fine[index] = picture.hash.fine


def _opened(dataset: ImageDataset, workers: int) -> Iterator[tuple[int, list[_Picture]]]:
    """Pieces of the data set in order, each with the index of its first picture."""
    count = len(dataset)

    def open_piece(start: int) -> list[_Picture]:
        return [_open(dataset, index) for index in range(start, min(start + _PIECE, count))]

    # threads: reading, decoding and hashing release the interpreter
    pool = ThreadPoolExecutor(workers, thread_name_prefix="scan")
    try:
        ahead: deque[tuple[int, Future[list[_Picture]]]] = deque()
        for start in range(0, count, _PIECE):
            ahead.append((start, pool.submit(open_piece, start)))
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
    """A picture that has been read already, as the store of its sample: no file is read twice."""

    where: Path
    data: bytes

    def path(self, index: int) -> Path:
        return self.where

    def read(self, index: int) -> bytes:
        return self.data


def _open(dataset: ImageDataset, index: int) -> _Picture:
    sample = dataset.samples[index]
    boxed = sample.box is not None
    try:
        data = sample.read()
        face = replace(sample, store=(_Read(sample.path, data), 0)).load()
    except UnreadableImageError as error:
        return _Picture(boxed, error.reason)
    # two faces in one file are not copies of each other
    digest = hashlib.sha256(data + repr(sample.box).encode()).digest()
    height, width = face.shape[:2]
    return _Picture(boxed, "", digest, width, height, _is_grey(face), perceptual_hash(face))


def _is_grey(picture: NDArray[np.uint8]) -> bool:
    red, green, blue = cv2.split(picture)
    return bool(cv2.absdiff(red, green).max() <= _GREY and cv2.absdiff(green, blue).max() <= _GREY)
