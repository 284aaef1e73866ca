"""The journal of finished images, from which an interrupted preparation continues."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgefel.data.preparing.faces import FOUND
from edgefel.files.resumable import JournalFile
from edgefel.text import one_line

_FORMAT, _VERSION = "edgefel-prepare-journal", 1
MISSING, UNREADABLE = "m", "u"
_OPEN = 0


@dataclass(frozen=True)
class Done:
    """The state of N images: uint8 [N], 0 if not done, else the code of a key of FOUND (its face is written), MISSING
    (no face) or UNREADABLE. size: bytes of each written face, int64 [N]. reasons: of the unreadable ones, by index."""

    state: NDArray[np.uint8]
    size: NDArray[np.int64]
    reasons: dict[int, str]

    def indices(self, states: str) -> NDArray[np.int64]:
        """Indices of the images with one of these states, in order."""
        return np.flatnonzero(np.isin(self.state, [ord(state) for state in states]))

    @property
    def written(self) -> NDArray[np.int64]:
        """Indices of the images whose face is written, in order."""
        return self.indices("".join(FOUND))

    @property
    def todo(self) -> NDArray[np.int64]:
        """Indices of the images that are not done, in order."""
        return np.flatnonzero(self.state == _OPEN)


class Journal:
    """The journal file of a preparation: a line for each finished image with its index, its state, and the size of its
    face in bytes or the reason why it cannot be read. Threads may share it."""

    def __init__(self, file: JournalFile, done: Done) -> None:
        self._file, self.done = file, done
        self._lock = threading.Lock()

    @classmethod
    @contextmanager
    def open(cls, path: Path, key: Mapping[str, Any], count: int) -> Iterator[Journal]:
        """Opens or creates the journal.

        key: as of `JournalFile.open`, which raises EdgefelError. count: images of the data set.
        """
        with JournalFile.open(path, _FORMAT, _VERSION, key) as file:
            journal = cls(file, Done(np.zeros(count, np.uint8), np.zeros(count, np.int64), {}))
            for line in file.lines:
                journal._enter(line)
            yield journal

    def add(self, index: int, state: str, detail: int | str = 0) -> None:
        """Records an image. detail: the size of its face, or why it is unreadable. Raises OSError."""
        line = f"{index} {state} {one_line(detail)}\n".encode("utf-8", "backslashreplace")
        with self._lock:
            self._file.append(line)
            self._enter(line)

    def forget(self, index: int) -> None:
        """Marks an image as not done."""
        self.done.state[index] = _OPEN
        self.done.reasons.pop(index, None)

    def _enter(self, line: bytes) -> None:
        try:
            index, state, detail = line.decode().rstrip("\n").split(" ", 2)
            number = int(index)
            self.done.state[number] = ord(state)
            if state in FOUND:
                self.done.size[number] = int(detail)
        except (ValueError, IndexError, TypeError, OverflowError):
            raise self._file.refuse(line) from None
        self.done.reasons.pop(number, None)
        if state == UNREADABLE:
            self.done.reasons[number] = detail
