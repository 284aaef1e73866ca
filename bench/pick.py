"""Which file and backend are the fastest on this machine: measured in seconds and stored for `--backend auto`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from edgefel.bench.environment import Found
from edgefel.bench.results import Measured
from edgefel.bench.sessions import REFERENCE, BundleOptions, Key, OpenBundle, bench_bundle
from edgefel.bench.timer import Advance, Timing, TimingPlan, measure, ratio_to
from edgefel.errors import EdgefelError
from edgefel.runtime.backends.speeds import Speeds
from edgefel.runtime.manifest import BundleFile, Manifest, read_manifest
from edgefel.runtime.measurement import Measurement, store_measurement
from edgefel.text import counted
from edgefel.workers import usable_cores

PLAN = TimingPlan(warmup=2, settle_seconds=0.5, min_runs=9, seconds=1.0, max_runs=200)


@dataclass(frozen=True)
class Picked:
    """What was measured and stored, and which pair `auto` now takes.

    rows: one per file and backend, as of `bench latency`. skipped: as of `Measured`. backend, file: of the choice.
    advice: lines on it for people.
    """

    rows: tuple[Any, ...]
    skipped: dict[str, str]
    backend: str
    file: BundleFile
    advice: tuple[str, ...]


def pick(
    folder: str | os.PathLike[str],
    threads: int | None = None,
    plan: TimingPlan = PLAN,
    advance: Advance = lambda step, share: None,
) -> Picked:
    """Times every file of a bundle in every backend here, one image a call, in turn, and stores the shortest times.

    The shortest of many calls, since other work on the machine only adds to it; rows have medians and intervals.
    Files that failed their comparison with PyTorch are left out, and outputs are compared before anything is timed.
    threads: CPU threads of a call; all cores by default, as of `Session.open`. Raises EdgefelError as `bench_bundle`
    does, and if the result cannot be stored.
    """
    threads = threads or usable_cores()
    shortest: dict[tuple[str, str], float] = {}

    def timed(opened: OpenBundle) -> Iterator[Found]:
        image = opened.inputs(1)
        calls = {key: partial(session.run, image) for key, session in opened.sessions.items()}
        step = f"{len(calls)} pairs of file and backend, {counted(opened.threads, 'thread')}"
        timings = measure(calls, plan, advance=partial(advance, step))
        for key, session in opened.sessions.items():
            shortest[key.backend, session.file.name] = round(timings[key].min, 4)
            yield opened.subject(key, 1), _metrics(opened.manifest, session.file, timings, key), ()

    measured = bench_bundle("latency", folder, BundleOptions(threads=(threads,)), timed)
    manifest = read_manifest(folder)
    measurement = Measurement(shortest, threads)
    store_measurement(manifest, measurement)
    return _picked(measured, Speeds(manifest, threads, measurement))


def _metrics(manifest: Manifest, file: BundleFile, timings: dict[Key, Timing], key: Key) -> dict[str, Any]:
    base = REFERENCE if REFERENCE in timings else next(iter(timings))
    judged = manifest.judged(file)
    return {
        **timings[key].speed(1),
        "ratio": ratio_to(timings, base, key),
        "file_bytes": file.bytes,
        "verdict": judged.verdict,
        **accuracy(judged),
    }


def accuracy(file: BundleFile) -> dict[str, float]:
    """What the comparison with PyTorch found of a file's labels: agreement, and accuracy where images had labels."""
    parity = file.parity or {}
    labels = parity.get("labels")
    found = {
        "agreement": parity.get("top1_agreement"),
        "accuracy": labels.get("accuracy") if isinstance(labels, dict) else None,
    }
    return {name: float(value) for name, value in found.items() if isinstance(value, int | float)}


def _picked(measured: Measured, speeds: Speeds) -> Picked:
    manifest = speeds.manifest
    assert speeds.measured is not None
    by_name = {file.name: file for file in manifest.files}
    pairs = [(backend, by_name[name]) for backend, name in speeds.measured.ms]
    if not pairs:
        raise EdgefelError(f"{manifest.folder}: nothing of it can be measured here; run 'edgefel doctor'")
    backend, file = min(pairs, key=lambda pair: speeds.key(*pair))
    own = speeds.ms(backend, file) or 0.0
    lines = [f"auto takes {file.name} by {backend}: {speeds.basis(backend, file)}"]
    other, quicker = min(pairs, key=lambda pair: speeds.ms(*pair) or own)
    if (ms := speeds.ms(other, quicker)) is not None and ms * 1.03 < own:
        lines.append(
            f"{quicker.name} by {other} is faster ({ms:.3g} ms), but has not plainly passed its comparison with "
            f"PyTorch; if its labels satisfy you: --precision {quicker.precision} --backend {other}"
        )
    return Picked(measured.rows, dict(measured.skipped), backend, file, tuple(lines))
