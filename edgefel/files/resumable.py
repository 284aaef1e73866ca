"""Work that a later call continues, whatever ended this one: a hidden folder beside the output, with a journal in it.

In `.NAME.partial` are the results so far and the journal, which names those that are complete. At the end the results
are renamed to the output atomically.
"""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from edgefel.errors import EdgefelError
from edgefel.files.documents import parse_json
from edgefel.files.read import check_regular, reason
from edgefel.files.remote import is_address
from edgefel.files.unfinished import is_at
from edgefel.files.write import DISK_FULL, json_text, lock, put_new_folder

JOURNAL = "journal"
_READY = "ready"  # file that names the folder being put in place


def partial_folder(output: str | os.PathLike[str]) -> Path:
    """The folder of unfinished work for this output."""
    path = Path(output).resolve()
    return path.with_name(f".{path.name}.partial")


class JournalFile:
    """An append-only text file: a line of JSON, its head, then one line for each result.

    lines: those of earlier runs. A line is written by one call, after its result; an incomplete last line, after a kill
    or a full disk, is cut off. Threads may share the file. It is locked against a second run.
    """

    def __init__(self, path: Path, descriptor: int, lines: Sequence[bytes]) -> None:
        self.path, self.lines = path, lines
        self._descriptor = descriptor
        self._lock = threading.Lock()

    @classmethod
    @contextmanager
    def open(cls, path: Path, form: str, version: int, key: Mapping[str, Any]) -> Iterator[JournalFile]:
        """Opens or creates the file.

        form, version: of the lines. key: what must be equal to continue: two dicts of plain JSON values, "options" and
        "data". Raises EdgefelError for a journal of other options or data, and for one that another run is writing.
        """
        head = {"format": form, "version": version, **json.loads(json.dumps(key))}  # JSON has no tuples
        if path.exists():
            try:
                check_regular(path)
            except OSError as error:
                raise EdgefelError(f"{path}: {reason(error)}; begin anew with --restart") from None
        with held(path, os.O_CREAT) as descriptor:
            lines = _whole_lines(descriptor)
            if not lines:
                _write(descriptor, json_text(head).encode() + b"\n")
            else:
                _check_head(path, lines[0], head)
            yield cls(path, descriptor, lines[1:])

    def append(self, line: bytes) -> None:
        """Writes one line, which ends with a line break. Raises OSError."""
        with self._lock:
            _write(self._descriptor, line)

    def refuse(self, line: bytes) -> EdgefelError:
        """The error to raise for a line that is none of this journal's."""
        return EdgefelError(
            f"{self.path}: has a line that is none of a journal ({line[:60]!r}); begin anew with --restart"
        )


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


def put_in_place(work: Path, results: str, output: Path) -> None:
    """Renames the folder `results` of the work to the output, once all its files are on the disk.

    Raises EdgefelError if something is there already; see `put_new_folder`.
    """
    if hasattr(os, "sync"):  # once for all files: one by one would take as long as making them did
        os.sync()
    output.parent.mkdir(parents=True, exist_ok=True)
    (work / _READY).write_text(results, encoding="utf-8")
    put_new_folder(work / results, output.resolve())


def sweep_finished(work: Path, names: Sequence[str]) -> None:
    """Removes what is left of a run that was killed after its output was in place. names: of folders of results."""
    try:
        ready = (work / _READY).read_text(encoding="utf-8")
    except OSError:
        return
    if ready in names and not (work / ready).exists() and (work / JOURNAL).is_file():
        with suppress(EdgefelError), held(work / JOURNAL):
            shutil.rmtree(work, ignore_errors=True)


def discard(work: Path) -> None:
    """Removes the work of an unfinished run. Raises EdgefelError if that is still running, or it is none."""
    if (work / JOURNAL).is_file():
        with held(work / JOURNAL):
            shutil.rmtree(work, ignore_errors=True)
    elif work.is_dir() and any(work.iterdir()):
        raise EdgefelError(f"{work}: has no journal, so it is not this command's; move it away")


def check_outside(output: Path, root: Path) -> None:
    """Raises EdgefelError for an output within the data set, of which it would be a part the next time."""
    if is_address(root):
        return
    inside, around = (Path(os.path.realpath(path)) for path in (output, root))
    if around.is_dir() and around in (inside, *inside.parents):
        raise EdgefelError(
            f"{output}: lies in the data set {root}, and would be a part of it the next time; choose a folder outside"
        )


@contextmanager
def kept_when_full(work: Path) -> Iterator[None]:
    """Raises EdgefelError where the disk is full: what is done is kept in `work`."""
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        raise EdgefelError(
            f"{work}: cannot be written ({error.strerror}); free disk space and give the same command again: what is "
            "done is kept there"
        ) from None


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


def _check_head(path: Path, line: bytes, head: Mapping[str, Any]) -> None:
    """Raises EdgefelError that names what differs."""
    shape = {"format": str, "version": int, "options": dict, "data": dict}
    try:
        before = parse_json(line, str(path), shape)
    except EdgefelError:
        before = {}
    if (before.get("format"), before.get("version")) != (head["format"], head["version"]):
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
