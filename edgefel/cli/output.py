"""Standard output and error that are closed, full, or a pipe whose reader has gone.

A command whose reader has gone (`edgefel predict ... --json | head -1`) ends silently with exit code 141, as a shell
reports a program that SIGPIPE ended. Output that was closed from the start (`>&-`) is discarded.
"""

from __future__ import annotations

import os
import select
import sys
from contextlib import suppress
from typing import TextIO

PIPE_CLOSED = 141  # 128 + SIGPIPE


def prepare_streams() -> None:
    """Makes the standard streams writable. Call it before anything is opened or printed."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # otherwise the first file to be opened gets this number, and libraries print into it
            null = os.open(os.devnull, os.O_RDWR)
            if null != number:
                os.dup2(null, number)
                os.close(null)
    # None if the descriptor was closed when Python started
    for number, name in ((1, "stdout"), (2, "stderr")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w", encoding="utf-8", closefd=False))  # noqa: SIM115 - never closed
    # file names need not be valid in the terminal's encoding, or in any
    for stream in (sys.stdout, sys.stderr):
        if getattr(stream, "errors", None) == "strict" and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def reader_gone(error: BaseException) -> bool:
    """Whether `error` comes from a standard stream whose reader has gone; if so, its output is discarded."""
    if isinstance(error, SystemExit):  # rich's reaction to a broken pipe
        return isinstance(error.__context__, BrokenPipeError)
    if not isinstance(error, BrokenPipeError):
        return False
    broken = [stream for stream in (sys.stdout, sys.stderr) if _is_broken(stream)]
    for stream in broken:
        discard(stream)
    return bool(broken)


def _is_broken(stream: TextIO) -> bool:
    """Whether the stream has no reader; other pipes, such as those to a worker, break too."""
    try:
        poll = select.poll()
        poll.register(stream.fileno(), 0)  # errors are always reported
        return bool(poll.poll(0))
    except (AttributeError, OSError, ValueError):  # no poll on Windows; no descriptor behind a test's stream
        return False


def discard(stream: TextIO) -> None:
    """Drops what the stream holds and all that follows; Python would report it at exit."""
    with suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
        stream.flush()
