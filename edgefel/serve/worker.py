"""The thread that labels: a bounded queue before it, and as many images in one call as wait."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from concurrent.futures import Future
from contextlib import suppress

import anyio

from edgefel.serve.engine import MOST_TOGETHER, Answer, Labeller, Work
from edgefel.serve.problems import Problem, busy


class Worker:
    """Runs `label` in a thread of its own, from `start` to `close`.

    label: `Engine.label`. most: works that may wait; more are refused. seconds: how long one may take. While a batch is
    labelled, others gather and form the next one, so nothing waits for a batch to fill.
    """

    def __init__(self, label: Labeller, most: int, seconds: float) -> None:
        self._label, self._most, self._seconds = label, most, seconds
        self._waiting: deque[tuple[Work, Future[Answer]]] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="edgefel-serve", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether works are being done."""
        return self._thread.is_alive() and not self._closed

    @property
    def waiting(self) -> int:
        """Works that wait."""
        return len(self._waiting)

    async def label(self, works: list[Work]) -> list[Answer]:
        """The answers to all works, in order. Raises Problem for the first that has none (`image` is its number), if
        there is no room for them, or it takes too long."""
        futures: list[Future[Answer]] = [Future() for _ in works]
        with self._changed:
            if self._closed or len(self._waiting) + len(works) > self._most:
                raise busy()
            self._waiting.extend(zip(works, futures, strict=True))
            self._changed.notify()
        waiting = [asyncio.wrap_future(future) for future in futures]
        try:
            with anyio.fail_after(self._seconds):
                answers = await asyncio.gather(*waiting, return_exceptions=True)
        except TimeoutError:
            raise busy() from None
        finally:
            for future in waiting:  # the client has gone, or waited too long: those not begun are left out
                future.cancel()
        for number, answer in enumerate(answers):
            if isinstance(answer, Problem) and len(works) > 1:
                answer.image = number
            if isinstance(answer, BaseException):
                raise answer
        return [answer for answer in answers if isinstance(answer, Answer)]

    def close(self) -> None:
        """Ends the thread after the batch it works on; those that wait are refused."""
        with self._changed:
            self._closed = True
            left = list(self._waiting)
            self._waiting.clear()
            self._changed.notify()
        for _, future in left:
            if future.set_running_or_notify_cancel():
                future.set_exception(busy())
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while batch := self._next():
            outcomes = self._label([work for work, _ in batch])
            for (_, future), outcome in zip(batch, outcomes, strict=True):
                # its event loop may have ended
                with suppress(RuntimeError):
                    if isinstance(outcome, Exception):
                        future.set_exception(outcome)
                    else:
                        future.set_result(outcome)

    def _next(self) -> list[tuple[Work, Future[Answer]]]:
        """Waits for works; an empty list ends the thread."""
        with self._changed:
            while True:
                self._changed.wait_for(lambda: self._closed or self._waiting)
                if self._closed:
                    return []
                batch: list[tuple[Work, Future[Answer]]] = []
                while self._waiting and len(batch) < MOST_TOGETHER:
                    work, future = self._waiting.popleft()
                    if future.set_running_or_notify_cancel():
                        batch.append((work, future))
                if batch:
                    return batch
