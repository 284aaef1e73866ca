"""A clock for tests that stands still until somebody waits."""

from __future__ import annotations

import threading


class Clock:
    """Stands in for the module `time`. now: seconds."""

    def __init__(self, now: float = 100.0) -> None:
        self.now = now

    def monotonic(self) -> float:
        return self.now

    perf_counter = time = monotonic


class Event(threading.Event):
    """An event on which nothing is waited for in real time: the clock advances instead. waits: the timeouts."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock
        self.waits: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        self.waits.append(timeout)
        self._clock.now += timeout
        return self.is_set()
