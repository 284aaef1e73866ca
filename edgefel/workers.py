"""Threads and processes that work for this process, and end with it, however it ends."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from edgefel.errors import EdgefelError
from edgefel.signals import ENDING

if TYPE_CHECKING:
    from concurrent.futures import ProcessPoolExecutor

_POLL = 0.5  # seconds
# seconds by which the signal that ends a service may reach this process later than its workers
_PATIENCE = 1.0

Item = TypeVar("Item")
Result = TypeVar("Result")


def usable_cores() -> int:
    """Cores that this process may use: in a container, fewer than the machine's."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_threads(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    workers: int,
    *,
    ahead: int,
    stop: Callable[[], None] = lambda: None,
) -> Generator[Result, None, None]:
    """Results of `function` for each item, in order, by `workers` threads; 0 works in this one.

    For functions that release the interpreter, such as decoding and resizing; a process forked from one in which the
    threads of OpenCV or ONNX Runtime have run can hang. At most `ahead` items per thread are under way or not taken
    yet. When the iterator ends or is closed, `stop` is called, items not begun are dropped, and the others waited for.
    """
    if workers == 0:
        yield from map(function, items)
        return
    pool = ThreadPoolExecutor(workers)
    running: deque[Future[Result]] = deque()
    try:
        for item in items:
            running.append(pool.submit(function, item))
            if len(running) > ahead * workers:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()
    finally:
        stop()
        pool.shutdown(cancel_futures=True)


@contextmanager
def one_opencv_thread() -> Iterator[None]:
    """Limits OpenCV to one thread in each of ours, for which results do not depend on the number of cores either."""
    import cv2

    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


@contextmanager
def worker_pool(
    count: int | None, begin: Callable[..., object] | None = None, *arguments: Any
) -> Iterator[ProcessPoolExecutor]:
    """A pool of `count` processes, None for one per core; each calls `begin(*arguments)` first.

    When the block ends, tasks not begun are dropped and the others are waited for. The workers ignore Ctrl-C and
    SIGHUP, which a terminal sends to all processes. Raises EdgefelError if a worker is killed.
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
        # a service manager ends all processes of a service at once, which is Interrupted and not an error
        time.sleep(_PATIENCE)
        raise EdgefelError(
            "a worker process was killed, perhaps because memory ran out; try again with fewer workers"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def end_with(parent: int) -> None:
    """Ends this process as soon as `parent`, which started it, is gone: a SIGKILL cannot be passed on."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_POLL)
        os._exit(1)

    if os.name == "posix":  # elsewhere the parent's number stays the same when it is gone
        threading.Thread(target=watch, name="parent", daemon=True).start()


def _begin(parent: int, begin: Callable[..., object] | None, arguments: tuple[Any, ...]) -> None:
    for number in ENDING:
        if number != signal.SIGTERM:  # sent by a broken pool to its workers
            signal.signal(number, signal.SIG_IGN)
    end_with(parent)
    if begin is not None:
        begin(*arguments)
