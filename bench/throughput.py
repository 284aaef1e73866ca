"""Images per second with more and more callers at once: the latency-throughput curve of a bundle, and its knee.

The loop is closed: each of n callers calls again as soon as its last call has returned, so that Little's law ties the
three numbers of a point together, callers = calls per second x seconds per call. Past the point where the processor is
busy all the time, further callers add waiting alone (Denning and Buzen, "The Operational Analysis of Queueing Network
Models", ACM Computing Surveys, 1978).
"""

from __future__ import annotations

import dataclasses
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edgefel.bench import environment
from edgefel.bench.results import Row, make_row
from edgefel.bench.sessions import (
    Key,
    OpenBundle,
    Selection,
    check_outputs,
    faces,
    open_bundle,
    prepare,
)
from edgefel.bench.statistics import Verdict
from edgefel.bench.timer import Timing
from edgefel.errors import EdgefelError
from edgefel.workers import usable_cores

# the knee: the fewest callers that have this share of the best throughput
KNEE_SHARE = 0.95
# how far the two passes over a point may be apart
MOST_DRIFT = 0.10
# calls for each caller that a pass rests on at least
LEAST_CALLS = 3
# durations kept for intervals, of which there may be 100,000s
_KEPT = 2000
_MOST_WAIT = 600.0
Advance = Callable[[str, float], None]


@dataclass(frozen=True)
class Options:
    """What is swept, and how.

    concurrency: callers at once, in any order; None is 1, 2, 4 ... up to twice the cores. batches: faces of one call.
    threads: CPU threads of one call. seconds: of each of a point's two passes, after `warmup` seconds. Raises
    EdgefelError for numbers below 1, or no time.
    """

    selection: Selection = field(default_factory=Selection)
    concurrency: tuple[int, ...] | None = None
    batches: tuple[int, ...] = (1,)
    threads: tuple[int, ...] = (1,)
    seconds: float = 5.0
    warmup: float = 1.0

    def __post_init__(self) -> None:
        for name in ("concurrency", "batches", "threads"):
            values = getattr(self, name)
            if values is not None and (not values or min(values) < 1):
                raise EdgefelError(
                    f"{name} {', '.join(map(str, values)) or 'none'}: give numbers of at least 1"
                )
        if not (self.seconds > 0 and self.warmup >= 0):  # NaN too
            raise EdgefelError(
                f"{self.seconds} s after {self.warmup} s of warming up: give more than 0, and 0 or more"
            )

    @property
    def points(self) -> tuple[int, ...]:
        """Numbers of callers, each once, the fewest first."""
        if self.concurrency is not None:
            return tuple(sorted(set(self.concurrency)))
        most = max(4, 2 * usable_cores())
        return tuple(2**power for power in range(most.bit_length()) if 2**power <= most)


@dataclass(frozen=True)
class Pass:
    """One look at n callers. calls_per_s; latencies: nanoseconds of the calls that ended in it, in the order of their
    ends; cores_busy: cores that this process kept busy on average."""

    calls_per_s: float
    latencies: tuple[int, ...]
    cores_busy: float


@dataclass(frozen=True)
class Point:
    """What n callers got in two passes."""

    callers: int
    passes: tuple[Pass, ...]

    @property
    def calls_per_s(self) -> float:
        """Mean of the passes."""
        return float(np.mean([one.calls_per_s for one in self.passes]))

    @property
    def cores_busy(self) -> float:
        """Mean of the passes."""
        return float(np.mean([one.cores_busy for one in self.passes]))

    @property
    def verdict(self) -> Verdict:
        """Stable: the throughputs of the passes are within 10 % of each other."""
        rates = [one.calls_per_s for one in self.passes]
        drift = max(rates) / min(rates) - 1
        if drift > MOST_DRIFT:
            return Verdict(False, f"the throughput of the two passes differs by {drift:.0%}")
        return Verdict(True)

    @property
    def latency(self) -> Timing:
        """Milliseconds of a call as its caller sees it, waiting included."""
        timing = Timing.from_nanoseconds([one for each in self.passes for one in each.latencies])
        every = -(-timing.runs // _KEPT)
        return dataclasses.replace(timing, durations=timing.durations[::every])


@dataclass(frozen=True)
class Swept:
    """Rows of the kind "throughput", and a line on everything that was not measured, by backend or file."""

    rows: tuple[Row, ...]
    skipped: Mapping[str, str]


def bench_throughput(
    folder: str | os.PathLike[str], options: Options, advance: Advance = lambda step, share: None
) -> Swept:
    """One row for each number of callers, of every file, backend, batch and number of threads.

    Callers run the model alone, on a batch of their own that is ready. Raises EdgefelError as
    `edgefel.bench.sessions.open_bundle` and `check_outputs` do, before anything is timed.
    """
    described = environment.describe()
    rows: list[Row] = []
    skipped: dict[str, str] = {}
    for threads in options.threads:
        with open_bundle(
            folder, options.selection, threads=threads, max_batch=max(options.batches)
        ) as opened:
            skipped |= opened.skipped
            deviations = check_outputs(opened)
            for batch in options.batches:
                for key in opened.sessions:
                    step = f"{key}, batch {batch}, threads {threads}"
                    points = sweep(
                        _calls(opened, key, batch, max(options.points)),
                        options.points,
                        seconds=options.seconds,
                        warmup=options.warmup,
                        advance=lambda share, step=step: advance(step, share),  # type: ignore[misc]
                    )
                    deviation = None if deviations is None else deviations[key]
                    rows += _rows(opened, key, batch, threads, points, deviation, described)
    return Swept(tuple(rows), skipped)


def sweep(
    calls: Sequence[Callable[[], Any]],
    points: Sequence[int],
    *,
    seconds: float,
    warmup: float,
    advance: Callable[[float], None] = lambda share: None,
) -> list[Point]:
    """Both passes over all points. calls: one for each caller, as many as the largest point has.

    The order is 1 2 4 4 2 1: what drifts evenly through the sweep does the same to the mean of every point, and shows
    as a difference between the passes.
    """
    order = [*points, *reversed(points)]
    passes: dict[int, list[Pass]] = {callers: [] for callers in points}
    for number, callers in enumerate(order, 1):
        passes[callers].append(run_callers(calls[:callers], seconds=seconds, warmup=warmup))
        advance(number / len(order))
    return [Point(callers, tuple(passes[callers])) for callers in points]


def knee(points: Sequence[Point]) -> int:
    """The fewest callers whose throughput is at least 95 % of the best: more of them mostly wait."""
    best = max(point.calls_per_s for point in points)
    return min(point.callers for point in points if point.calls_per_s >= KNEE_SHARE * best)


class _Callers:
    """Threads that call until they are told to stop."""

    def __init__(self, calls: Sequence[Callable[[], Any]]) -> None:
        self._stop = threading.Event()
        self._errors: list[BaseException] = []
        self.spans: list[list[tuple[int, int]]] = [[] for _ in calls]
        self._threads = [
            threading.Thread(target=self._work, args=pair, daemon=True)
            for pair in zip(calls, self.spans, strict=True)
        ]

    def _work(self, call: Callable[[], Any], spans: list[tuple[int, int]]) -> None:
        try:
            while not self._stop.is_set():
                start = time.perf_counter_ns()
                call()
                spans.append((start, time.perf_counter_ns()))
        except BaseException as error:
            self._errors.append(error)
            self._stop.set()

    def wait(self, seconds: float, least: int) -> None:
        """For that long, and until `least` further calls for each have ended; returns at once after an error.

        Of all together: a backend that serves one caller late would otherwise stretch the pass without end.
        """
        until = time.monotonic() + seconds
        latest = until + _MOST_WAIT
        wanted = self._ended() + least * len(self.spans)
        while not self._stop.wait(max(0.001, min(0.05, until - time.monotonic()))):
            now = time.monotonic()
            if now >= until and (self._ended() >= wanted or now >= latest):
                return

    def _ended(self) -> int:
        return sum(len(spans) for spans in self.spans)

    def __enter__(self) -> _Callers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        if self._errors:
            raise self._errors[0]


def run_callers(calls: Sequence[Callable[[], Any]], *, seconds: float, warmup: float) -> Pass:
    """Lets every caller call again and again, and looks at `seconds` of it once `warmup` seconds have passed.

    A pass lasts longer where calls do: until three for each caller have ended. A call that lies across the border of
    the pass counts by its share inside. Raises what a call raises.
    """
    with _Callers(calls) as callers:
        callers.wait(warmup, 1)
        begin, busy = time.perf_counter_ns(), time.process_time()
        callers.wait(seconds, LEAST_CALLS)
        end, busy = time.perf_counter_ns(), time.process_time() - busy
    spans = [span for own in callers.spans for span in own]
    return summarize(spans, begin, end, busy)


def summarize(spans: Sequence[tuple[int, int]], begin: int, end: int, busy: float) -> Pass:
    """The pass from `begin` to `end` (ns) of calls with these starts and ends; busy: seconds of processor time."""
    inside = [
        (min(last, end) - max(first, begin)) / max(last - first, 1)
        for first, last in spans
        if first < end and last > begin
    ]
    ended = sorted((last, last - first) for first, last in spans if begin < last <= end)
    if not ended:
        raise EdgefelError("not a single call ended in time; give more --seconds")
    seconds = (end - begin) / 1e9
    return Pass(sum(inside) / seconds, tuple(duration for _, duration in ended), busy / seconds)


def _calls(opened: OpenBundle, key: Key, batch: int, count: int) -> list[Callable[[], Any]]:
    session = opened.sessions[key]
    image = prepare(opened.manifest, faces(batch))

    def make() -> Callable[[], Any]:
        own = image.copy()  # as of callers that know nothing of each other
        return lambda: session.run(own)

    return [make() for _ in range(count)]


def _rows(
    opened: OpenBundle,
    key: Key,
    batch: int,
    threads: int,
    points: Sequence[Point],
    deviation: float | None,
    described: Mapping[str, Any],
) -> Iterator[Row]:
    bend = knee(points)
    cores = usable_cores()
    for point in points:
        verdict = point.verdict
        metrics: dict[str, Any] = {
            "images_per_s": batch * point.calls_per_s,
            "images_per_s_passes": [batch * one.calls_per_s for one in point.passes],
            "latency_ms": {**point.latency.to_dict(), "stable": verdict.stable, "reason": verdict.reason},
            "cores_busy": point.cores_busy,
            "utilisation": point.cores_busy / cores,
            "knee": point.callers == bend,
        }
        notes = list(opened.sessions[key].notes)
        if deviation is None:
            notes.append("the bundle has no FP32 ONNX file: outputs were not compared")
        else:
            metrics["largest_deviation"] = deviation
        if not verdict.stable:
            notes.append(f"unstable: {verdict.reason}")
        subject = {
            "model": opened.manifest.model.name,
            "precision": key.precision,
            "backend": key.backend,
            "batch": batch,
            "threads": threads,
            "concurrency": point.callers,
        }
        yield make_row("throughput", subject, metrics, described, notes)
