"""Opens every image of a data set and records size, hashes and errors; unchanged files are not opened again."""

from __future__ import annotations

import hashlib
import os
import time
import warnings
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgefel.data.dataset import ImageDataset, Sample
from edgefel.data.images import UnreadableImageError
from edgefel.data.inspection.perceptual_hash import FINE_WORDS, perceptual_hash
from edgefel.errors import EdgefelError, EdgefelWarning
from edgefel.files.cache import cache_folder
from edgefel.files.remote import is_address, state_of
from edgefel.files.write import atomic_file
from edgefel.tasks.runner import Runner, Stopped
from edgefel.tasks.threads import Threads

Keys = NDArray[np.uint64]

_VERSION = 2  # of the entries and of how they are computed
# key: see `image_keys`; digest: 128 bits of the bytes and the box; the others as in `Scan`
ENTRY = np.dtype(
    [
        ("key", "<u8"),
        ("digest", "<u8", (2,)),
        ("coarse", "<u8"),
        ("fine", "<u8", (FINE_WORDS,)),
        ("size", "<i4", (2,)),
        ("grey", "?"),
        ("hashed", "?"),
    ]
)
NO_KEY = 0  # of an image that is not stored
# a younger file may change again without a new time: the clocks of file systems are coarse
_SETTLED_NS = 2_000_000_000
_PIECE = 64  # images of a task
_GREY = 2  # levels by which the channels of a grey image may differ: rounding of a JPEG's colours
UNKNOWN = -1


class ScanCache:
    """The entries of one data set, in memory and in the folder "scans" of the cache.

    If that cannot be read or written, there is an EdgefelWarning, and images are opened again.
    """

    def __init__(self, root: Path) -> None:
        self._known = np.zeros(0, ENTRY)
        self._path: Path | None = None
        self._changed = False
        self._seen = np.zeros(0, np.uint64)
        # another OpenCV may decode and resize a little differently
        name = f"{_VERSION}\0{cv2.__version__}\0{_absolute(root)}"
        try:
            self._path = cache_folder("scans") / f"{hashlib.sha256(os.fsencode(name)).hexdigest()[:24]}.npy"
            if self._path.is_file():
                known = np.load(self._path, allow_pickle=False)
                if known.dtype != ENTRY or known.ndim != 1 or (known["key"][1:] < known["key"][:-1]).any():
                    raise ValueError(f"{self._path} is damaged; it is written anew")
                self._known = known
        except (EdgefelError, OSError, ValueError, EOFError) as error:
            _warn(f"hashes of images are not taken from the cache: {error}")

    def find(self, keys: Keys) -> tuple[NDArray[np.bool_], NDArray[np.void]]:
        """Which of the keys [N] are known, and their entries in order."""
        if not len(self._known):
            return np.zeros(len(keys), np.bool_), self._known
        at = np.minimum(np.searchsorted(self._known["key"], keys), len(self._known) - 1)
        hit = (self._known["key"][at] == keys) & (keys != NO_KEY)
        self._seen = np.union1d(self._seen, keys[hit])
        return hit, self._known[at[hit]]

    def add(self, entries: NDArray[np.void]) -> None:
        """Stores new entries, except those without a key."""
        entries = entries[entries["key"] != NO_KEY]
        if not len(entries):
            return
        merged = np.concatenate([entries, self._known])
        _, first = np.unique(merged["key"], return_index=True)  # the new one of equal keys
        self._known, self._changed = merged[first], True
        self._seen = np.union1d(self._seen, entries["key"])

    def save(self) -> None:
        """Writes new entries. If most were not used, their images are gone, and they are dropped."""
        if not self._changed or self._path is None:
            return
        if len(self._known) > 2 * len(self._seen):
            self._known = self._known[np.isin(self._known["key"], self._seen)]
        try:
            with atomic_file(self._path) as temporary, temporary.open("wb") as stream:
                np.save(stream, self._known, allow_pickle=False)
            self._changed = False
        except OSError as error:
            _warn(
                f"hashes of images are not kept: {self._path} cannot be written ({error.strerror or error})"
            )


def image_keys(dataset: ImageDataset) -> Keys:
    """A key for each image [N]: a hash of its file's path, size and modification time, its box and its place in an
    archive; NO_KEY where the file is missing or has just been written."""
    now = time.time_ns()
    archives: dict[Path, str | None] = {}
    return np.fromiter((_key(sample, now, archives) for sample in dataset.samples), np.uint64, len(dataset))


def _key(sample: Sample, now: int, archives: dict[Path, str | None]) -> int:
    row: int | str = ""
    if sample.store is None:
        # at an address, asking takes as long as reading
        state = None if is_address(sample.path) else _state(sample.path, now)
    else:
        row, folder = sample.store[1], sample.path.parent
        if folder not in archives:
            archive = next((path for path in (folder, *folder.parents) if path.is_file()), None)
            archives[folder] = None if archive is None else _state(archive, now)
        state = archives[folder]
    if state is None:
        return NO_KEY
    text = f"{_absolute(sample.path)}\0{row}\0{sample.box}\0{state}"
    return int.from_bytes(
        hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).digest(), "little"
    )


def _state(path: Path, now: int) -> str | None:
    """What changes with the file; None where it is missing or has just been written."""
    try:
        if is_address(path):
            return state_of(path)
        status = path.stat()
    except OSError:
        return None
    return None if now - status.st_mtime_ns < _SETTLED_NS else f"{status.st_size}\0{status.st_mtime_ns}"


def _absolute(path: Path) -> str:
    return str(path) if is_address(path) else os.path.abspath(path)  # noqa: PTH100


def _warn(message: str) -> None:
    warnings.warn(message, EdgefelWarning, stacklevel=3)


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
    runner: Runner | None = None,
    progress: Callable[[int], None] = lambda count: None,
    cache: ScanCache | None = None,
    fresh: bool = True,
) -> Scan:
    """Opens all images; `progress` is called with the number of newly opened ones.

    runner: opens them; this thread by default. cache: stores the results for readable images; unless `fresh`, images
    that it knows are not opened. Unreadable images raise nothing: they are in the result.
    """
    runner = runner or Threads(1)
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

    with closing(runner.run(partial(Opener, dataset), pieces)) as opened:
        for piece, images in opened:
            for index, image in zip(piece.tolist(), images, strict=True):
                if isinstance(image, str):
                    unreadable[index] = image
                else:
                    readable[index] = True
                    entries[index] = (int(keys[index]), *image)
            progress(len(images))
    unreadable = dict(sorted(unreadable.items()))
    if cache is not None:
        cache.add(entries[unknown][readable[unknown]])
    columns = {name: entries[name] for name in ("size", "coarse", "fine", "grey", "hashed")}
    return Scan(content=_numbers(entries["digest"], readable), unreadable=unreadable, **columns)


class Opener:
    """Opens the images of a piece of the data set: the work of a task. Threads may share it."""

    def __init__(self, dataset: ImageDataset) -> None:
        self._dataset = dataset

    def __call__(
        self, piece: NDArray[np.int64], stop: Callable[[], bool]
    ) -> tuple[NDArray[np.int64], list[tuple[Any, ...] | str]]:
        """The piece, and for each image a row of ENTRY without its key, or why it is unreadable."""
        found = []
        for index in piece.tolist():
            if stop():
                raise Stopped
            found.append(_open(self._dataset, index))
        return piece, found


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


def _open(dataset: ImageDataset, index: int) -> tuple[Any, ...] | str:
    """A row of ENTRY without its key, or the reason why the image cannot be read."""
    sample = dataset.samples[index]
    try:
        data = sample.read()
        face = sample.decode(data)
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
