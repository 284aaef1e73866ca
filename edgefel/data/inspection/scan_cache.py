"""Image hashes kept between runs: an unchanged file is not opened again."""

from __future__ import annotations

import hashlib
import os
import time
import warnings
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edgefel.data.dataset import ImageDataset, Sample
from edgefel.data.inspection.perceptual_hash import FINE_WORDS
from edgefel.errors import EdgefelError, EdgefelWarning
from edgefel.files.cache import cache_folder
from edgefel.files.write import atomic_file

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
        name = f"{_VERSION}\0{cv2.__version__}\0{os.path.abspath(root)}"  # noqa: PTH100
        try:
            self._path = cache_folder("scans") / f"{hashlib.sha256(os.fsencode(name)).hexdigest()[:24]}.npy"
            if self._path.is_file():
                self._known = self._read(self._path)
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

    @staticmethod
    def _read(path: Path) -> NDArray[np.void]:
        known: NDArray[np.void] = np.load(path, allow_pickle=False)
        if known.dtype != ENTRY or known.ndim != 1 or (known["key"][1:] < known["key"][:-1]).any():
            raise ValueError(f"{path} is damaged; it is written anew")
        return known


def image_keys(dataset: ImageDataset) -> Keys:
    """A key for each image [N]: a hash of its file's path, size and modification time, its box and its place in an
    archive; NO_KEY where the file is missing or has just been written."""
    now = time.time_ns()
    archives: dict[Path, os.stat_result | None] = {}
    return np.fromiter((_key(sample, now, archives) for sample in dataset.samples), np.uint64, len(dataset))


def _key(sample: Sample, now: int, archives: dict[Path, os.stat_result | None]) -> int:
    row: int | str = ""
    if sample.store is None:
        status = _status(sample.path)
    else:
        row, folder = sample.store[1], sample.path.parent
        if folder not in archives:
            archives[folder] = next(
                (s for p in (folder, *folder.parents) if p.is_file() and (s := _status(p))), None
            )
        status = archives[folder]
    if status is None or now - status.st_mtime_ns < _SETTLED_NS:
        return NO_KEY
    path = os.path.abspath(sample.path)  # noqa: PTH100
    text = f"{path}\0{row}\0{sample.box}\0{status.st_size}\0{status.st_mtime_ns}"
    return int.from_bytes(
        hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).digest(), "little"
    )


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None


def _warn(message: str) -> None:
    warnings.warn(message, EdgefelWarning, stacklevel=3)
