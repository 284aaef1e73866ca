"""Images per second of a bundle by number of concurrent callers: the latency-throughput curve, and its knee.

The loop is closed: each of n callers calls again as soon as its last call has returned, so Little's law
holds: callers = calls per second x seconds per call. Past the saturation of the processor, further callers only add
waiting (Denning and Buzen, "The Operational Analysis of Queueing Network Models", ACM Computing Surveys, 1978).
"""

from __future__ import annotations

import dataclasses
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

import numpy as np

from edgefel.bench.environment import Found
from edgefel.bench.results import Measured, check_counts
from edgefel.bench.sessions import BundleOptions, OpenBundle, bench_bundle
from edgefel.bench.statistics import Stability
from edgefel.bench.timer import Advance, Timing
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


@dataclass(frozen=True)
class ThroughputOptions(BundleOptions):
    """What is swept, and how.

    concurrency: numbers of callers; None is 1, 2, 4 ... up to twice the cores. seconds: of each of a point's two
    passes, after `warmup` seconds. Raises EdgefelError for numbers below 1, or no time.
    """

    concurrency: tuple[int, ...] | None = None
    seconds: float = 5.0
    warmup: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts(concurrency=self.concurrency)
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
    """latencies: nanoseconds of the calls that ended in it, in order. cores_busy: of this process, on average."""

    calls_per_s: float
    latencies: tuple[int, ...]
    cores_busy: float


@dataclass(frozen=True)
class LoadPoint:
    """What n callers got in two passes."""

    callers: int
    passes: tuple[Pass, ...]

    @property
    def rates(self) -> list[float]:
        """Calls per second of each pass."""
        return [one.calls_per_s for one in self.passes]

    @property
    def calls_per_s(self) -> float:
        """Mean of the passes."""
        return float(np.mean(self.rates))

    @property
    def cores_busy(self) -> float:
        """Mean of the passes."""
        return float(np.mean([one.cores_busy for one in self.passes]))

    @property
    def verdict(self) -> Stability:
        """Stable: the throughputs of the passes are within 10 % of each other."""
        if (drift := max(self.rates) / min(self.rates) - 1) > MOST_DRIFT:
            return Stability(False, f"the throughput of the two passes differs by {drift:.0%}")
        return Stability(True)

    @property
    def latency(self) -> Timing:
        """Milliseconds of a call as its caller sees it, waiting included."""
        timing = Timing.from_nanoseconds([one for each in self.passes for one in each.latencies])
        every = -(-timing.runs // _KEPT)
        return dataclasses.replace(timing, durations=timing.durations[::every])


def bench_throughput(
    folder: str | os.PathLike[str], options: ThroughputOptions, advance: Advance = lambda step, share: None
) -> Measured:
    """One row for each number of callers of every file, backend, batch and number of threads.

    Callers run the model alone, each on a prepared batch of its own. Raises EdgefelError as `open_bundle` and
    `check_outputs` do, before anything is timed.
    """
    return bench_bundle("throughput", folder, options, partial(_curves, options=options, advance=advance))


def _curves(opened: OpenBundle, options: ThroughputOptions, advance: Advance) -> Iterator[Found]:
    cores = usable_cores()
    for batch, (key, session) in product(options.batches, opened.sessions.items()):
        image = opened.inputs(batch)
        points = sweep(
            # each caller has an image of its own
            [partial(session.run, image.copy()) for _ in range(max(options.points))],
            options.points,
            seconds=options.seconds,
            warmup=options.warmup,
            advance=partial(advance, f"{key}, batch {batch}, threads {opened.threads}"),
        )
        bend = knee(points)
        for point in points:
            verdict = point.verdict
            metrics = {
                "images_per_s": batch * point.calls_per_s,
                "images_per_s_passes": [batch * rate for rate in point.rates],
                "latency_ms": point.latency.to_dict() | dataclasses.asdict(verdict),
                "cores_busy": point.cores_busy,
                "utilisation": point.cores_busy / cores,
                "knee": point.callers == bend,
            }
            subject = {**opened.subject(key, batch), "concurrency": point.callers}
            yield subject, metrics, [*session.notes, *verdict.notes]


def sweep(
    calls: Sequence[Callable[[], Any]],
    points: Sequence[int],
    *,
    seconds: float,
    warmup: float,
    advance: Callable[[float], None] = lambda share: None,
) -> list[LoadPoint]:
    """Both passes over all points. calls: one for each caller, as many as the largest point has.

    The order is 1 2 4 4 2 1: steady drift affects the mean of every point equally, and shows between the passes.
    """
    order = [*points, *reversed(points)]
    passes: dict[int, list[Pass]] = {callers: [] for callers in points}
    for number, callers in enumerate(order, 1):
        passes[callers].append(run_callers(calls[:callers], seconds=seconds, warmup=warmup))
        advance(number / len(order))
    return [LoadPoint(callers, tuple(passes[callers])) for callers in points]


def knee(points: Sequence[LoadPoint]) -> int:
    """The fewest callers whose throughput is at least 95 % of the best."""
    best = max(point.calls_per_s for point in points)
    return min(point.callers for point in points if point.calls_per_s >= KNEE_SHARE * best)


def run_callers(calls: Sequence[Callable[[], Any]], *, seconds: float, warmup: float) -> Pass:
    """Runs every caller in a loop; measures `seconds` of it after `warmup` seconds.

    A pass is extended until three calls for each caller have ended. A call across the pass's border counts by
    its share inside. Raises what a call raises, at once.
    """
    stop = threading.Event()
    spans: list[tuple[int, int]] = []

    def work(call: Callable[[], Any]) -> None:
        try:
            while not stop.is_set():
                start = time.perf_counter_ns()
                call()
                spans.append((start, time.perf_counter_ns()))
        finally:  # an error ends all callers
            stop.set()

    def wait(seconds: float, least: int) -> None:
        """Waits that long, and until `least` further calls per caller have ended, over all callers."""
        until = time.monotonic() + seconds
        wanted = len(spans) + least * len(calls)
        while not stop.wait(max(0.001, min(0.05, until - time.monotonic()))):
            now = time.monotonic()
            if now >= until and (len(spans) >= wanted or now >= until + _MOST_WAIT):
                return

    with ThreadPoolExecutor(len(calls)) as pool:
        callers = [pool.submit(work, call) for call in calls]
        try:
            wait(warmup, 1)
            begin, busy = time.perf_counter_ns(), time.process_time()
            wait(seconds, LEAST_CALLS)
            end, busy = time.perf_counter_ns(), time.process_time() - busy
        finally:
            stop.set()
    for caller in callers:
        caller.result()
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
