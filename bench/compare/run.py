"""Times all contenders in turn; accuracy, size and memory go into the same rows."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import torch

from edgefel.bench.compare.accuracy import BATCH, Judgement, choose, judge, notes
from edgefel.bench.compare.contenders import (
    DEFAULT_BACKENDS,
    EAGER,
    PYTORCH,
    Array,
    Contender,
    Subject,
    open_backend,
    open_pytorch,
)
from edgefel.bench.compare.cuda import CUDA
from edgefel.bench.environment import Found, measured_rows
from edgefel.bench.results import Measured, check_counts, check_names
from edgefel.bench.sessions import faces
from edgefel.bench.timer import FULL, Advance, TimingPlan, measure, ratio_to
from edgefel.errors import EdgefelError
from edgefel.export.parity.compare import sqnr_db
from edgefel.export.parity.gate import torch_threads
from edgefel.runtime.backends.base import BACKENDS
from edgefel.text import counted
from edgefel.workers import usable_cores

# signal-to-noise ratio of the logits, from eager PyTorch's or else ONNX Runtime's FP32, below which nothing is timed
LEAST_SQNR_DB = {"fp32": 60.0, "fp16": 25.0, "int8": 8.0, "int8+fp16": 8.0}
BASELINE_MODEL = "poster-v2"


@dataclass(frozen=True)
class CompareOptions:
    """What is compared, and how.

    backends: names, or None for all available ones but `leave_out`. baseline: name of the contender that
    ratios refer to; by default eager PyTorch of poster-v2, or of the first subject. data, layout, images:
    labelled images for the accuracy of trained subjects. memory: measure each contender's peak memory in a
    process of its own. Raises EdgefelError for an unknown backend and numbers below 1.
    """

    precisions: tuple[str, ...] = ("fp32", "fp16", "int8")
    backends: tuple[str, ...] | None = None
    batches: tuple[int, ...] = (1,)
    threads: tuple[int, ...] = (1,)
    plan: TimingPlan = FULL
    baseline: str | None = None
    data: str | os.PathLike[str] | None = None
    layout: str | None = None
    images: int = 700
    memory: bool = True
    leave_out: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_counts(batches=self.batches, threads=self.threads, images=self.images)
        check_names("backend", self.backends, (*PYTORCH, *BACKENDS, *CUDA))


def compare(
    subjects: Sequence[Subject], options: CompareOptions, advance: Advance = lambda step, share: None
) -> Measured:
    """One row for each contender, batch and number of threads, and the backends that were skipped.

    All contenders of one batch and number of threads take turns in one run. Raises EdgefelError for a named
    backend that is not available, a contender whose outputs differ, and a baseline that does not take part.
    """
    if not subjects:
        raise EdgefelError("nothing to compare: give at least one model")
    skipped: dict[str, str] = {}
    rows = measured_rows("compare", _compared(subjects, options, skipped, advance))
    return Measured(rows, skipped)


def _compared(
    subjects: Sequence[Subject], options: CompareOptions, skipped: dict[str, str], advance: Advance
) -> Iterator[Found]:
    judged, told = _judge_all(subjects, options, advance)
    for threads in options.threads:
        with torch_threads(threads), open_contenders(subjects, options, threads) as (contenders, missing):
            skipped |= missing
            baseline = _baseline(contenders, options.baseline)
            for batch in options.batches:
                for one, metrics in _measure(contenders, baseline, batch, threads, options, advance):
                    subject = {
                        "model": one.subject.name,
                        "precision": one.precision,
                        "backend": one.backend,
                        "batch": batch,
                        "threads": threads,
                    }
                    random = [] if one.subject.trained else ["random weights: its labels mean nothing"]
                    said = [*told.get(one.subject.name, ()), *random]
                    yield subject, metrics | judged.get(one.name, {}), said


@contextmanager
def open_contenders(
    subjects: Sequence[Subject], options: CompareOptions, threads: int
) -> Iterator[tuple[list[Contender], dict[str, str]]]:
    """All contenders, and why backends are missing. Raises EdgefelError for one that is named, and where all are."""
    contenders: list[Contender] = []
    skipped: dict[str, str] = {}
    here = (*DEFAULT_BACKENDS, *(CUDA if torch.cuda.is_available() else ()))
    backends = options.backends or [name for name in here if name not in options.leave_out]
    most = max(BATCH, *options.batches)
    with ExitStack() as opened:
        for subject, backend in product(subjects, backends):
            with ExitStack() as own:
                try:
                    contenders += open_backend(
                        subject, backend, options.precisions, threads, most, own, skipped
                    )
                    opened.push(own.pop_all())
                except EdgefelError as error:
                    if options.backends is not None:
                        raise
                    skipped[backend] = str(error)
        if not contenders:
            reasons = "; ".join(f"{name}: {why}" for name, why in skipped.items())
            raise EdgefelError(f"nothing to compare: no backend can be used here ({reasons})")
        yield contenders, skipped


def _measure(
    contenders: Sequence[Contender],
    baseline: Contender,
    batch: int,
    threads: int,
    options: CompareOptions,
    advance: Advance,
) -> Iterator[tuple[Contender, dict[str, Any]]]:
    """Every contender with its metrics. Outputs are compared before anything is timed."""
    step = f"{counted(len(contenders), 'contender')}, {counted(threads, 'thread')}, batch {batch}"
    images = {one.subject.name: one.subject.preprocessing.batch(faces(batch)) for one in contenders}
    sqnr = check_outputs(contenders, images)
    memory = _peak_memory(contenders, batch, advance) if options.memory else {}
    calls = {one.name: one.call(images[one.subject.name]) for one in contenders}
    timings = measure(calls, options.plan, advance=partial(advance, step))
    for one in contenders:
        metrics = {**timings[one.name].speed(batch), "ratio": ratio_to(timings, baseline.name, one.name)}
        metrics["file_bytes"] = one.file_bytes
        if one.verdict is not None:
            metrics["verdict"] = one.verdict
        more = {"peak_memory_mb": memory, "sqnr_db": sqnr}
        yield one, metrics | {name: found[one.name] for name, found in more.items() if one.name in found}


def _baseline(contenders: Sequence[Contender], wanted: str | None) -> Contender:
    """The contender of that name, else eager PyTorch of poster-v2, of the first subject, or the first of all."""
    by_name = {one.name: one for one in contenders}
    if wanted in by_name:
        return by_name[wanted]
    if wanted is not None:
        raise EdgefelError(
            f"baseline '{wanted}' does not take part; choose one of: {', '.join(map(repr, by_name))}"
        )
    eager = [one for one in contenders if one.backend == EAGER]
    usual = [one for one in eager if one.subject.name == BASELINE_MODEL]
    return (usual or eager or list(contenders))[0]


def check_outputs(contenders: Sequence[Contender], images: Mapping[str, Array]) -> dict[str, float]:
    """SQNR in dB of every contender's logits from the reference's of its subject, by name.

    The reference is eager PyTorch, or ONNX Runtime's FP32 file. Raises EdgefelError for outputs that differ.
    """
    references: dict[str, Array] = {}
    for one in sorted(contenders, key=lambda one: (one.backend != EAGER, one.precision != "fp32")):
        if one.subject.name not in references and one.logits is not None and one.precision == "fp32":
            references[one.subject.name] = one.logits(images[one.subject.name])
    for one in contenders:
        subject = one.subject
        if subject.name not in references and subject.checkpoint is not None:
            # none of them is FP32: plain PyTorch on the CPU judges, and is not timed
            judge_logits = open_pytorch(subject, EAGER, torch.get_num_threads()).logits
            assert judge_logits is not None
            references[subject.name] = judge_logits(images[subject.name])
    found = {}
    for one in contenders:
        reference = references.get(one.subject.name)
        if reference is None or one.logits is None:
            continue
        logits = one.logits(images[one.subject.name])
        noise = float(np.abs(logits - reference).max())
        sqnr = 200.0 if noise == 0 else min(200.0, float(sqnr_db(reference, logits)))
        least = LEAST_SQNR_DB.get(one.precision, LEAST_SQNR_DB["int8"])
        if not np.isfinite(logits).all() or sqnr < least:
            raise EdgefelError(
                f"{one.name}: its logits are {sqnr:.1f} dB from the reference's, at least {least:g} are needed; "
                "nothing was timed"
            )
        found[one.name] = round(sqnr, 1)
    return found


def _judge_all(
    subjects: Sequence[Subject], options: CompareOptions, advance: Advance
) -> tuple[dict[str, Judgement], dict[str, list[str]]]:
    """Accuracy of trained subjects on labelled images, on all cores; and notes on the classes, by subject."""
    judged: dict[str, Judgement] = {}
    told: dict[str, list[str]] = {}
    threads = usable_cores()
    for subject in subjects:
        if options.data is None or not subject.trained:
            continue
        matched, chosen = choose(options.data, subject.labels, options.images, options.layout)
        told[subject.name] = notes(matched)

        def follow(done: int, total: int, name: str = subject.name) -> None:
            advance(f"{name}: labels of {counted(total, 'image')}", done / total)

        with torch_threads(threads), open_contenders([subject], options, threads) as (contenders, _):
            judged |= judge(contenders, matched, chosen, subject.preprocessing, follow)
    return judged, told


def _peak_memory(contenders: Sequence[Contender], batch: int, advance: Advance) -> dict[str, float]:
    """Megabytes by name. Processes run in parallel, one per core: most of their time is start-up, and the
    memory of one does not depend on the others."""
    with ThreadPoolExecutor(usable_cores()) as pool:
        running = [(one.name, pool.submit(one.peak_memory_mb, batch)) for one in contenders]
        found = {}
        try:
            for number, (name, result) in enumerate(running, 1):
                found[name] = round(result.result(), 1)
                advance("peak memory", number / len(contenders))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return found
