"""How often the intervals of the report of a stream hold the true share, beside two others.

    python -m edgefel.bench.experiments.share_intervals [--repeats 400] > docs/results/share-intervals.json

Each repeat is a person whose labels alternate by a known law (KINDS), watched for a time at 20 frames per second. The
true shares are those of the law. Compared with the effective sample size of `edgefel.runtime.stream.report.shares` are
the number of frames, as if each were independent, and a circular block bootstrap with blocks of the square root of the
number of bins.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import numpy as np

from edgefel.bench.command import run_bench, versions
from edgefel.bench.statistics import mean_interval
from edgefel.runtime.stream.report.shares import Values, label_shares, wilson
from edgefel.runtime.stream.report.timeline import Bins

LABELS = ("a", "b", "c", "d")
FPS = 20
SECONDS = (10, 60, 600, 3600)
METHODS = ("frames", "block bootstrap", "effective sample size")

Random = np.random.Generator
# labels of stretches of time, their ends in seconds, and the true shares
Watched = tuple[list[int], list[float], tuple[float, ...]]
Interval = tuple[float, float]

_USUAL = (0.5, 0.3, 0.15, 0.05)
_RARE = (0.97, 0.03, 0.0, 0.0)


def _drawn(draw: Callable[[Random], float], before: float, seconds: float, rng: Random) -> Watched:
    """A label is drawn anew after each length of `draw`. before: seconds that passed before the person came."""
    labels, ends, time = [], [], -rng.uniform(0, before)
    while time < seconds:
        time += draw(rng)
        if time > 0:
            labels.append(int(rng.choice(4, p=_USUAL)))
            ends.append(min(time, seconds))
    return labels, ends, _USUAL


def _chance(mean: float) -> Callable[[float, Random], Watched]:
    return lambda seconds, rng: _drawn(lambda rng: rng.exponential(mean), 0.0, seconds, rng)


def _regular(seconds: float, rng: Random) -> Watched:
    return _drawn(lambda rng: rng.gamma(3.0, 1.0), 60.0, seconds, rng)


def _moods(seconds: float, rng: Random) -> Watched:
    """Moods of 20 s: in one the label is c, in the other it flickers between a and b."""
    labels, ends, time = [], [], 0.0
    while time < seconds:
        mood = min(seconds, time + rng.exponential(20.0))
        flickers = rng.random() < 0.5
        while time < mood:
            time = min(mood, time + rng.exponential(0.3)) if flickers else mood
            labels.append(int(rng.integers(2)) if flickers else 2)
            ends.append(time)
    return labels, ends, (0.25, 0.25, 0.5, 0.0)


def _rare(seconds: float, rng: Random) -> Watched:
    """Two seconds of b now and then."""
    labels, ends, time = [], [], 0.0
    now = int(rng.random() < _RARE[1])
    while time < seconds:
        time = min(seconds, time + rng.exponential(2.0 if now else 2.0 * _RARE[0] / _RARE[1]))
        labels.append(now)
        ends.append(time)
        now = 1 - now
    return labels, ends, _RARE


KINDS: Mapping[str, Callable[[float, Random], Watched]] = {
    "by chance, 3 s": _chance(3.0),
    "by chance, 15 s": _chance(15.0),
    "regular, 3 s": _regular,
    "moods of 20 s, flicker": _moods,
    "rare, 2 s": _rare,
}


def intervals(labels: list[int], ends: list[float]) -> dict[str, list[Interval]]:
    """The interval of each of LABELS by each of METHODS."""
    bins = Bins(len(LABELS))
    for label, (begin, end) in zip(labels, pairwise([0.0, *ends]), strict=True):
        bins.add(begin, end, np.eye(len(LABELS))[label])
    seconds = bins.sums.sum(axis=0)
    changes = sum(one != other for one, other in pairwise(labels))
    shares = label_shares(LABELS, seconds.tolist(), changes, bins.sums)
    series = bins.sums / bins.sums.sum(axis=1, keepdims=True)
    return {
        "frames": [wilson(share.value, max(1.0, FPS * ends[-1])) for share in shares],
        "block bootstrap": [_bootstrap(part) for part in series.T],
        "effective sample size": [(share.low, share.high) for share in shares],
    }


def _bootstrap(part: Values) -> Interval:
    return mean_interval(part.tolist())


def judge(kind: str, seconds: float, repeats: int) -> dict[str, Any]:
    """Coverage and mean width by method, over the labels that occur."""
    hits: dict[str, list[bool]] = {method: [] for method in METHODS}
    widths: dict[str, list[float]] = {method: [] for method in METHODS}
    for repeat in range(repeats):
        labels, ends, truth = KINDS[kind](seconds, np.random.default_rng([repeat, int(seconds)]))
        for method, found in intervals(labels, ends).items():
            for (low, high), share in zip(found, truth, strict=True):
                if share:
                    hits[method].append(low <= share <= high)
                    widths[method].append(high - low)
    return {
        "kind": kind,
        "seconds": seconds,
        "coverage": {method: round(float(np.mean(hits[method])), 3) for method in METHODS},
        "width": {method: round(float(np.mean(widths[method])), 3) for method in METHODS},
    }


def document(repeats: int) -> dict[str, Any]:
    """Everything that the result file says."""
    rows = []
    for kind in KINDS:
        for seconds in SECONDS:
            print(f"{kind}, {seconds} s", file=sys.stderr)
            rows.append(judge(kind, seconds, repeats))
    return {
        "bench": "share-intervals",
        "command": f"python -m edgefel.bench.experiments.share_intervals --repeats {repeats}",
        "versions": versions(numpy=np),
        "repeats": repeats,
        "rows": rows,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--repeats", type=int, default=400, help="people of every kind and time [%(default)s]"
    )
    sys.exit(run_bench(parser, document))
