"""Latency, counters and board readings of a running stream, in constant memory."""

from __future__ import annotations

import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Sized
from copy import copy

from edgefel.runtime.telemetry.board import Board, Reading, process_memory_mb
from edgefel.runtime.telemetry.histogram import Histogram
from edgefel.runtime.telemetry.snapshot import Snapshot, StageTimes, in_order

FRAMES, INFERENCES = "frames", "inferences"
_MOST_NAMES = 256
_FPS_WINDOW = 5.0


class Repeated(threading.Thread):
    """Calls `work` every `interval` seconds, from `start` to `close`, which calls it a last time.

    Raises ValueError for an interval that is not above 0.
    """

    def __init__(self, work: Callable[[], None], interval: float, name: str) -> None:
        if not interval > 0:
            raise ValueError(f"interval is {interval} s: must be above 0")
        super().__init__(name=name, daemon=True)
        self._work, self._interval, self.closing = work, interval, threading.Event()

    def run(self) -> None:
        """The thread's own work."""
        while not self.closing.wait(self._interval):
            self._work()

    def close(self) -> None:
        """Ends the thread."""
        self.closing.set()
        self.join()
        self._work()


class Telemetry:
    """Measurements of a stream. Every method may be called from any thread; a record takes microseconds.

    The counters "frames" and "inferences" (images that went through the network) are the basis of frames per second and
    energy per inference. Other names are free; use one name for each kind of event.

    board: sensors to read every `interval` seconds, from `start` (or `with`) to `close`.
    Raises ValueError: interval not above 0, a duration that is negative or not finite, more than 256 names.
    """

    def __init__(self, board: Board | None = None, interval: float = 1.0) -> None:
        self._board = board
        self._sampler = Repeated(self._sample, interval, "edgefel-telemetry")
        self._lock = threading.Lock()
        self._stages: dict[str, Histogram] = defaultdict(Histogram)
        self._counters: dict[str, int] = defaultdict(int)
        self._gauges: dict[str, float] = {}
        self._rate = _FrameRate()
        self._samples = _Samples()
        self._begin = time.monotonic()
        self._end: float | None = None
        self._started = False

    def record(self, stage: str, seconds: float) -> None:
        """Adds a duration of a stage."""
        with self._lock:
            if stage not in self._stages:
                _check_room(self._stages, stage)
            self._stages[stage].add(seconds)

    def count(self, name: str, by: int = 1) -> None:
        """Adds to a counter."""
        with self._lock:
            if name not in self._counters:
                _check_room(self._counters, name)
            self._counters[name] += by
            if name == FRAMES:
                self._rate.count(by, time.monotonic())

    def set(self, name: str, value: float) -> None:
        """Sets a gauge, such as the length of a queue."""
        with self._lock:
            if name not in self._gauges:
                _check_room(self._gauges, name)
            self._gauges[name] = float(value)

    def start(self) -> None:
        """Starts the clock, and the sampler if there is a board. Does nothing on a second call or after `close`."""
        if self._started or self._end is not None:
            return
        self._started = True
        self._begin = time.monotonic()
        if self._board is not None:
            self._sample()
            self._sampler.start()

    def close(self) -> None:
        """Ends the sampler after a last reading; measurements are kept. A second call does nothing."""
        if self._end is not None:
            return
        self._end = time.monotonic()
        if self._started and self._board is not None:
            self._sampler.close()

    def __enter__(self) -> Telemetry:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def power_w(self) -> float | None:
        """Watts of the whole board at the sampler's last reading; None if unknown."""
        last = self._samples.last
        return None if last is None else last.power_w

    def snapshot(self) -> Snapshot:
        """All measurements, with the sampler's last reading of the board; without a sampler it is read now."""
        if self._board is not None and self._samples.last is None:
            self._sample()
        now = time.monotonic() if self._end is None else self._end
        with self._lock:  # only copies: `record` must not wait for percentiles
            stages = {name: self._stages[name].copy() for name in in_order(self._stages)}
            counters, gauges = dict(self._counters), dict(self._gauges)
            fps, fps_mean = self._rate.recent(now), self._rate.mean()
            samples = copy(self._samples)
        inferences = counters.get(INFERENCES, 0)
        return Snapshot(
            time=time.time(),
            elapsed=now - self._begin,
            stages={name: StageTimes.of(histogram) for name, histogram in stages.items()},
            counters=counters,
            gauges=gauges,
            fps=fps,
            fps_mean=fps_mean,
            board=samples.last,
            ram_mb=process_memory_mb(),
            energy_j=samples.energy,
            power_mean_w=samples.power,
            mj_per_inference=1e3 * samples.energy / inferences if samples.energy and inferences else None,
            hottest_c=samples.hottest,
            throttled_s=samples.throttled,
        )

    def _sample(self) -> None:
        assert self._board is not None
        now = time.monotonic()
        reading = self._board.read(now)  # outside the lock: sensors take milliseconds
        with self._lock:
            self._samples.add(reading, now)


def _check_room(table: Sized, name: str) -> None:
    if len(table) >= _MOST_NAMES:
        raise ValueError(f"{name!r}: there are {_MOST_NAMES} names already; use one name for each kind")


class _FrameRate:
    """Frames per second, recent and overall, from a few samples of (time, frames so far)."""

    def __init__(self) -> None:
        self._marks: deque[tuple[float, int]] = deque(maxlen=64)
        self._frames = 0
        self._first: tuple[float, int] | None = None
        self._last = 0.0

    def count(self, frames: int, now: float) -> None:
        self._frames += frames
        self._last = now
        if self._first is None:
            self._first = (now, self._frames)
        if not self._marks or now - self._marks[-1][0] >= _FPS_WINDOW / 50:
            self._marks.append((now, self._frames))

    def recent(self, now: float) -> float:
        old = [mark for mark in self._marks if now - mark[0] >= _FPS_WINDOW]
        start = old[-1] if old else (self._marks[0] if self._marks else None)
        if start is None or self._last <= start[0] or now - self._last >= _FPS_WINDOW:
            return 0.0
        frames = self._frames - start[1]
        # the second term falls below the first as soon as the next frame is late
        return min(frames / (self._last - start[0]), (frames + 1) / (now - start[0]))

    def mean(self) -> float:
        if self._first is None or self._last <= self._first[0]:
            return 0.0
        return (self._frames - self._first[1]) / (self._last - self._first[0])


class _Samples:
    """The last reading of the board, and sums over all readings."""

    def __init__(self) -> None:
        self.last: Reading | None = None
        self.hottest: float | None = None
        self.throttled = 0.0
        self.energy: float | None = None
        self._at = 0.0
        self._before: tuple[float, float] | None = None

    @property
    def power(self) -> float | None:
        """Mean watts between the first reading and the last."""
        if self.energy is None or self._before is None or self._at <= self._before[1]:
            return None
        return self.energy / (self._at - self._before[1])

    def add(self, reading: Reading, now: float) -> None:
        if reading.throttled and self.last is not None:
            self.throttled += now - self._at
        if reading.hottest is not None:
            self.hottest = max(reading.hottest, self.hottest or reading.hottest)
        if reading.energy_j is not None:
            if self._before is None:
                self._before = (reading.energy_j, now)
            # unknown until the sensor has answered once
            if reading.power_w is not None or self.energy is not None:
                self.energy = reading.energy_j - self._before[0]
        self.last, self._at = reading, now
