"""Standard output and error, whatever they are connected to: closed, full, a pipe whose reader has gone.

A command whose reader has gone (`edgefel predict ... --json | head -1`) ends without a word with exit code 141, as a
shell reports a program that SIGPIPE ended. Output that was closed from the start (`>&-`) is discarded.
"""

from __future__ import annotations

import os
import select
import sys
from contextlib import suppress
from typing import TextIO

PIPE_CLOSED = 141  # 128 + SIGPIPE
_LONGEST = 4000


def prepare_streams() -> None:
    """Makes the standard streams ones that can be written to; to be called before anything is opened or printed."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # else the first file that is opened gets this number, and what libraries print goes into it
            null = os.open(os.devnull, os.O_RDWR)
            if null != number:
                os.dup2(null, number)
                os.close(null)
    # Python has none for a descriptor that was closed when it started
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - for the whole process
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - for the whole process
    # file names need not be text in the encoding of the terminal, or in any
    for stream in (sys.stdout, sys.stderr):
        if getattr(stream, "errors", None) == "strict" and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def reader_gone(error: BaseException) -> bool:
    """Whether `error` comes of a standard stream whose reader has gone; if so, no more is written there."""
    if isinstance(error, SystemExit):  # what rich makes of it
        return isinstance(error.__context__, BrokenPipeError)
    if not isinstance(error, BrokenPipeError):
        return False
    broken = [stream for stream in (sys.stdout, sys.stderr) if _is_broken(stream)]
    for stream in broken:
        discard(stream)
    return bool(broken)


def _is_broken(stream: TextIO) -> bool:
    """Whether nobody can read from the other end: other pipes, such as those to a worker, break too."""
    try:
        poll = select.poll()
        poll.register(stream.fileno(), 0)  # errors are told without being asked for
        return bool(poll.poll(0))
    except (
        AttributeError,
        OSError,
        ValueError,
    ):  # no poll on Windows; no descriptor behind a stream of a test
        return False


def discard(stream: TextIO) -> None:
    """What the stream holds, and all that follows, goes nowhere: Python would complain of it at its end."""
    with suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
        stream.flush()


def one_line(text: str) -> str:
    """`text` without what moves the cursor or cannot be printed (file names hold anything), and of bearable length."""
    if len(text) > _LONGEST:
        text = f"{text[: _LONGEST - 1000]} ... {text[-990:]}"
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
