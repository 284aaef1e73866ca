"""The journal of finished images, from which an interrupted preparation continues."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgefel.data.preparing.faces import FOUND
from edgefel.errors import EdgefelError
from edgefel.files.documents import parse_json
from edgefel.files.read import check_regular, reason
from edgefel.files.unfinished import is_at
from edgefel.files.write import json_text, lock
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
    """An append-only text file: a line of JSON with options and data, then one line for each finished image: its index,
    its state, and the size of its face in bytes or the reason why it cannot be read.

    A line is written by one call, after the face; an incomplete last line, after a kill or a full disk, is cut off.
    Threads may share the journal. The file is locked against a second run.
    """

    def __init__(self, path: Path, descriptor: int, done: Done) -> None:
        self.path, self.done = path, done
        self._descriptor = descriptor
        self._lock = threading.Lock()

    @classmethod
    @contextmanager
    def open(cls, path: Path, key: Mapping[str, Any], count: int) -> Iterator[Journal]:
        """Opens or creates the journal.

        key: what must be equal to continue, as plain JSON values. count: images of the data set.
        Raises EdgefelError for a journal of other options or data, and for one that another run is writing.
        """
        if path.exists():
            try:
                check_regular(path)
            except OSError as error:
                raise EdgefelError(f"{path}: {reason(error)}; begin anew with --restart") from None
        with held(path, os.O_CREAT) as descriptor:
            lines = _whole_lines(descriptor)
            if not lines:
                head = {"format": _FORMAT, "version": _VERSION, **key}
                _write(descriptor, json_text(head).encode() + b"\n")
            else:
                _check_head(path, lines[0], key)
            done = Done(np.zeros(count, np.uint8), np.zeros(count, np.int64), {})
            for line in lines[1:]:
                _enter(done, line, path)
            yield cls(path, descriptor, done)

    def add(self, index: int, state: str, detail: int | str = 0) -> None:
        """Records an image. detail: the size of its face, or why it is unreadable. Raises OSError."""
        text = one_line(detail)
        line = f"{index} {state} {text}\n".encode("utf-8", "backslashreplace")
        with self._lock:
            _write(self._descriptor, line)
            _enter(self.done, line, self.path)

    def forget(self, index: int) -> None:
        """Marks an image as not done."""
        self.done.state[index] = _OPEN
        self.done.reasons.pop(index, None)


@contextmanager
def held(path: Path, flags: int = 0) -> Iterator[int]:
    """Opens the journal and locks it against other runs; its descriptor. Raises EdgefelError if one is writing it."""
    descriptor = os.open(path, os.O_RDWR | flags, 0o666)
    try:
        # a run that has just finished has removed the file
        if not (lock(descriptor) and is_at(descriptor, path)):
            raise EdgefelError(
                f"{path.parent}: another run is working there; wait for it, or choose another output"
            )
        yield descriptor
    finally:
        os.close(descriptor)


def _whole_lines(descriptor: int) -> list[bytes]:
    """The lines of the file, without an incomplete last one, which is cut off. Writing continues at the end."""
    with os.fdopen(os.dup(descriptor), "rb") as stream:
        stream.seek(0)
        data = stream.read()
    whole = data.rfind(b"\n") + 1
    if whole < len(data):
        os.ftruncate(descriptor, whole)
    os.lseek(descriptor, whole, os.SEEK_SET)
    return data[:whole].splitlines()


def _write(descriptor: int, data: bytes) -> None:
    while data:  # a nearly full disk accepts a part, and then raises
        data = data[os.write(descriptor, data) :]


def _enter(done: Done, line: bytes, path: Path) -> None:
    try:
        index, state, detail = line.decode().rstrip("\n").split(" ", 2)
        number = int(index)
        done.state[number] = ord(state)
        if state in FOUND:
            done.size[number] = int(detail)
    except (ValueError, IndexError, TypeError, OverflowError):
        raise EdgefelError(
            f"{path}: has a line that is none of a journal ({line[:60]!r}); begin anew with --restart"
        ) from None
    done.reasons.pop(number, None)
    if state == UNREADABLE:
        done.reasons[number] = detail


def _check_head(path: Path, line: bytes, key: Mapping[str, Any]) -> None:
    """Raises EdgefelError that names what differs."""
    shape = {"format": str, "version": int, "options": dict, "data": dict}
    head = {"format": _FORMAT, "version": _VERSION, **json.loads(json.dumps(key))}  # JSON has no tuples
    try:
        before = parse_json(line, str(path), shape)
    except EdgefelError:
        before = {}
    if (before.get("format"), before.get("version")) != (_FORMAT, _VERSION):
        raise EdgefelError(f"{path}: is no journal of this version; begin anew with --restart")
    for part in ("data", "options"):
        for name, wanted in head[part].items():
            if (was := before[part].get(name)) != wanted:
                what = "other images, labels or splits" if name == "sha256" else f"{name} {was}, not {wanted}"
                raise EdgefelError(
                    f"{path.parent}: holds the work of an unfinished run with {what}; finish that with its own "
                    "options, or begin anew with --restart"
                )
    if before != head:
        raise EdgefelError(f"{path.parent}: holds the work of another version; begin anew with --restart")
