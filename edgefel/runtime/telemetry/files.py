"""Snapshots as JSON lines in a file, for `--metrics FILE`."""

from __future__ import annotations

import json
import os
import stat
from contextlib import AbstractContextManager
from pathlib import Path

from edgefel.errors import EdgefelError
from edgefel.files.write import lock
from edgefel.runtime.telemetry.telemetry import Repeated, Telemetry

_KEY = "stages_ms"  # a key of every line of metrics
_LONGEST_LINE = 1 << 20


class MetricsFile(AbstractContextManager["MetricsFile"]):
    """Appends a snapshot as a line of JSON every `interval` seconds, and a last one on `close`.

    Each line is one system call, so a killed process leaves whole lines. A line that a system crash cut off is removed
    when the file is next opened. If writing fails, for example on a full disk, the file ends with the last whole line,
    the stream continues, and `problem` describes the failure in one line.

    Raises EdgefelError: the file cannot be written, another run writes it, or it contains something else than metrics.
    """

    def __init__(self, path: str | os.PathLike[str], telemetry: Telemetry, interval: float = 1.0) -> None:
        self._writer = Repeated(self._write, interval, "edgefel-metrics")
        self.path = Path(path)
        self.problem: str | None = None
        self._telemetry = telemetry
        self._handle = _open(self.path)
        self._writer.start()

    def close(self) -> None:
        """Writes the last line; a second call does nothing."""
        if not self._writer.closing.is_set():
            self._writer.close()
            os.close(self._handle)

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _write(self) -> None:
        if self.problem is not None:
            return
        text = json.dumps(self._telemetry.snapshot().to_dict(), ensure_ascii=False, allow_nan=False)
        line = f"{text}\n".encode()
        try:
            length = os.fstat(self._handle).st_size
            written = os.write(self._handle, line)
            if os.fstat(self._handle).st_nlink == 0:
                self.problem = f"{self.path}: was removed; metrics end there"
            elif written < len(line):
                os.ftruncate(self._handle, length)
                self.problem = f"{self.path}: the disk is full; metrics end there"
        except OSError as error:
            self.problem = f"{self.path}: cannot be written ({error.strerror or error}); metrics end there"


def _open(path: Path) -> int:
    """A handle that appends after the last whole line of metrics."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
    except OSError as error:
        raise EdgefelError(
            f"{path}: cannot be opened for metrics ({error.strerror or error}); choose another file"
        ) from None
    try:
        if stat.S_ISREG(os.fstat(handle).st_mode) and not lock(handle):
            raise EdgefelError(
                f"{path}: another run is writing its metrics there; give this one a file of its own"
            )
        _mend(path, handle)
    except BaseException:
        os.close(handle)
        raise
    return handle


def _mend(path: Path, handle: int) -> None:
    """Rejects a file of another kind, and removes an incomplete last line."""
    status = os.fstat(handle)
    if not stat.S_ISREG(status.st_mode):
        raise EdgefelError(f"{path}: is no regular file; choose a file for the metrics")
    if status.st_size == 0:
        return
    with open(handle, "rb", closefd=False) as stream:
        first = stream.readline(_LONGEST_LINE)
        start = max(0, status.st_size - _LONGEST_LINE)
        stream.seek(start)
        end = start + stream.read().rfind(b"\n") + 1
    if not first.endswith(b"\n") or not _is_metrics(first):
        raise EdgefelError(
            f"{path}: holds something else than edgefel's metrics, and nothing is appended to it; "
            f"choose another file or remove it"
        )
    if end < status.st_size:
        os.ftruncate(handle, end)


def _is_metrics(line: bytes) -> bool:
    try:
        return _KEY in json.loads(line)
    except (ValueError, TypeError):
        return False
