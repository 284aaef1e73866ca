"""Processes that work for this one, and end with it, however it ends."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from edgefel.errors import EdgefelError
from edgefel.signals import ENDING

if TYPE_CHECKING:
    from concurrent.futures import ProcessPoolExecutor

_POLL = 0.5  # seconds
# how long after its workers this process may be told that it is to end, too
_PATIENCE = 1.0


@contextmanager
def worker_pool(
    count: int | None, begin: Callable[..., object] | None = None, *arguments: Any
) -> Iterator[ProcessPoolExecutor]:
    """So many processes, None for one for each core; each calls `begin(*arguments)` first.

    When the block ends, what is not begun is dropped and what is under way is waited for. Ctrl-C and SIGHUP, which a
    terminal sends to all processes, are for this one alone to answer. Raises EdgefelError if a worker is killed.
    """
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor
    from concurrent.futures.process import BrokenProcessPool

    # spawn: forking a process that already runs OpenCV's or torch's threads can deadlock
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(count, context, initializer=_begin, initargs=(os.getpid(), begin, arguments))
    try:
        yield pool
    except BrokenProcessPool:
        # a service manager ends all processes of a service at once: then this is no error, but Interrupted
        time.sleep(_PATIENCE)
        raise EdgefelError(
            "a worker process was killed, perhaps because memory ran out; try again with fewer workers"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def end_with(parent: int) -> None:
    """Ends this process, at once, when `parent`, which started it, is gone: a SIGKILL cannot be passed on."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_POLL)
        os._exit(1)

    if os.name == "posix":  # elsewhere the number of a parent stays when it is gone
        threading.Thread(target=watch, name="parent", daemon=True).start()


def _begin(parent: int, begin: Callable[..., object] | None, arguments: tuple[Any, ...]) -> None:
    for number in ENDING:
        if number != signal.SIGTERM:  # by which a broken pool ends its workers
            signal.signal(number, signal.SIG_IGN)
    end_with(parent)
    if begin is not None:
        begin(*arguments)
