"""Signals as in a terminal: a background job ignores Ctrl-C, a command under nohup SIGHUP, and so do their children."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator


def heed() -> None:
    """For `preexec_fn`, and after a fork."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@contextlib.contextmanager
def heeding() -> Iterator[None]:
    """Within this process, for a test that calls the handlers of signals."""
    before = [(number, signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGHUP)]
    heed()
    try:
        yield
    finally:
        for number, handler in before:
            signal.signal(number, handler)
