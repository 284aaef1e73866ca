"""Latency of a bundle: every file in every backend, the model alone and stage by stage from image to labels."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from edgefel.bench.environment import Found
from edgefel.bench.results import Measured
from edgefel.bench.sessions import REFERENCE, BundleOptions, Key, OpenBundle, bench_bundle, peak_memory_mb
from edgefel.bench.timer import FULL, Advance, Timing, TimingPlan, cpu_stopwatch, measure, ratio_to
from edgefel.data.preprocessing import Image
from edgefel.data.synthetic.options import VideoOptions
from edgefel.data.synthetic.video import SyntheticVideo
from edgefel.errors import EdgefelError
from edgefel.runtime.faces import FaceDetector, HaarDetector, crops
from edgefel.runtime.labelling import Thresholds, check_labelling, labelled_faces
from edgefel.runtime.results import LabelledFace
from edgefel.runtime.session import Session
from edgefel.runtime.telemetry.board import Board
from edgefel.text import counted

# frames for up to so many faces, of at least 130 pixels where there are few
_SCENES = ((4, (640, 480)), (9, (960, 720)), (64, (1280, 960)))
MOST_FACES = _SCENES[-1][0]
# the meter is read beside the calls, not in the timed run
_ENERGY_SHARE = 0.2
# Rails are read as watts at a moment and joined by straight lines; ten readings a second follow a board, and reading
# costs little beside the calls between them.
_READ_EVERY = 0.1


@dataclass(frozen=True)
class LatencyOptions(BundleOptions):
    """What is measured, and how.

    stages: also end to end. memory: peak memory, in a process of its own for each. flush: write over the caches before
    every call. min_face: smallest face to detect, as a share of the image's shorter side.
    """

    plan: TimingPlan = FULL
    stages: bool = True
    memory: bool = True
    flush: bool = False
    min_face: float | None = None


class LatencyCase(NamedTuple):
    """One thing that is timed."""

    key: Key
    batch: int


def bench_latency(
    folder: str | os.PathLike[str], options: LatencyOptions, advance: Advance = lambda step, share: None
) -> Measured:
    """Rows by file, backend, batch and threads; all of equal threads take turns. Raises as `bench_bundle` does."""
    return bench_bundle("latency", folder, options, partial(_latencies, options=options, advance=advance))


def _latencies(opened: OpenBundle, options: LatencyOptions, advance: Advance) -> Iterator[Found]:
    cases = [LatencyCase(key, batch) for batch in options.batches for key in opened.sessions]
    step = f"{len(cases)} cases, {counted(opened.threads, 'thread')}"
    images = {batch: opened.inputs(batch) for batch in options.batches}
    calls = {case: partial(opened.sessions[case.key].run, images[case.batch]) for case in cases}
    stopwatch = cpu_stopwatch(flush=options.flush)
    timings = measure(calls, options.plan, stopwatch, partial(advance, f"{step}: model"))
    stages, notes = _stages(opened, cases, options, partial(advance, f"{step}: end to end"))
    for number, case in enumerate(cases, 1):
        session, timing = opened.sessions[case.key], timings[case]
        metrics: dict[str, Any] = {**timing.speed(case.batch), "file_bytes": session.file.bytes}
        if (reference := LatencyCase(REFERENCE, case.batch)) in timings:
            metrics["ratio"] = ratio_to(timings, reference, case, str(REFERENCE))
        cost, more = _cost(session, case.batch, calls[case], options)
        subject = opened.subject(*case) | ({"caches": "flushed"} if options.flush else {})
        said = [*notes.get(case, ()), *timing.verdict.notes, *more]
        yield subject, metrics | stages.get(case, {}) | cost, said
        advance(f"{step}: memory and energy", number / len(cases))


def _cost(
    session: Session, batch: int, call: Callable[[], Any], options: LatencyOptions
) -> tuple[dict[str, Any], list[str]]:
    """Peak memory and energy of one case, and notes on limits and on what could not be measured."""
    metrics: dict[str, Any] = {}
    notes = list(session.notes)
    if session.max_batch < batch:
        notes.append(f"the engine takes {session.max_batch} at once: a call of {batch} runs in parts")
    if options.memory:
        try:
            metrics["peak_memory_mb"] = round(peak_memory_mb(session, batch), 1)
        except EdgefelError as error:
            notes.append(str(error))
    if (energy := measure_energy(call, _ENERGY_SHARE * options.plan.seconds)) is not None:
        joules, note = energy
        metrics["energy_mj"] = 1e3 * joules / batch
        notes.append(note)
    return metrics, notes


def measure_energy(
    call: Callable[[], Any],
    seconds: float,
    board: Board | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> tuple[float, str] | None:
    """Joules of a call, repeated for that many seconds, and what the meter covers; None without a working meter."""
    board = board or Board.find()
    begin = last = clock()
    before = after = board.read(begin)
    if before.energy_j is None or before.power_source is None:
        return None
    calls = 0
    while not calls or last - begin < seconds:
        call()
        calls += 1
        now = clock()
        # the last reading lies at the end of a call, so that it closes what was counted
        if now - last >= _READ_EVERY or now - begin >= seconds:
            after, last = board.read(now), now
    if after.energy_j is None or after.energy_j <= before.energy_j:
        return None
    source = before.power_source
    what = "the processor package alone" if source.startswith("rapl") else "the whole board"
    note = f"energy by {source}: {what}, idle power included"
    return (after.energy_j - before.energy_j) / calls, note


def _stages(
    opened: OpenBundle,
    cases: Sequence[LatencyCase],
    options: LatencyOptions,
    advance: Callable[[float], None],
) -> tuple[dict[LatencyCase, dict[str, Any]], dict[LatencyCase, list[str]]]:
    """Timings of every stage and of the whole by case, and why others have none."""
    if not options.stages:
        return {}, {}
    why = f"a synthetic image shows {MOST_FACES} faces at most"
    shown = [case for case in cases if case.batch <= MOST_FACES]
    try:
        for session in opened.sessions.values():
            check_labelling(session)
    except EdgefelError as error:
        shown, why = [], str(error)
    notes = {case: [f"not measured end to end: {why}"] for case in cases if case not in shown}
    if not shown:
        return {}, notes
    detector = HaarDetector() if options.min_face is None else HaarDetector(options.min_face)
    images = {batch: scene(batch) for batch in dict.fromkeys(case.batch for case in shown)}
    for batch, image in images.items():
        check_found(image, detector, batch)
    pipelines = {case: Pipeline(images[case.batch], detector, opened.sessions[case.key]) for case in shown}
    whole = measure(pipelines, options.plan, cpu_stopwatch(flush=options.flush), advance)
    found: dict[LatencyCase, dict[str, Any]] = {}
    for case, pipeline in pipelines.items():
        stages = {name: part.to_dict() for name, part in pipeline.timings(whole[case].runs).items()}
        found[case] = {"end_to_end_ms": whole[case].to_dict(), "stages_ms": stages}
    return found, notes


def scene(count: int) -> Image:
    """A synthetic image of that many people, 1 to MOST_FACES, uint8 RGB [H, W, 3]."""
    size = next(size for most, size in _SCENES if count <= most)
    options = VideoOptions(seconds=1.0, fps=1.0, size=size, faces=count, changes=0, pose=0.0)
    return SyntheticVideo(options).frame(0)


def check_found(image: Image, detector: FaceDetector, count: int) -> None:
    """Raises EdgefelError if the detector finds more or fewer faces, which would be another batch."""
    found = len(detector(image))
    if found != count:
        raise EdgefelError(
            f"the detector finds {found} of the {counted(count, 'face')} of the synthetic image, so the stages of "
            f"batch {count} cannot be timed; leave --min-face out, or stages with --no-stages"
        )


class Pipeline:
    """From an image to labelled faces as `edgefel.runtime.labelling.label_faces` does it, timed by stage.

    Stages sum up to the whole: "detection" and "alignment" of faces, those that the session records
    ("preprocessing", then "inference", or with TensorRT "copy in", "gpu", "copy out"), and "post", the rest:
    checking and copying outputs, the quality of the faces, and making labels.
    """

    def __init__(
        self,
        image: Image,
        detector: FaceDetector,
        session: Session,
        clock: Callable[[], int] = time.perf_counter_ns,
    ) -> None:
        self._image, self._detector, self._session, self._clock = image, detector, session, clock
        self._calls: list[dict[str, int]] = []

    def __call__(self) -> list[LabelledFace]:
        """Labels the image once."""
        session, clock = self._session, self._clock
        stages: dict[str, int] = {}

        def record(name: str, seconds: float) -> None:
            name = "preprocessing" if name == "preprocess" else name
            stages[name] = stages.get(name, 0) + round(seconds * 1e9)

        start = clock()
        boxes = self._detector(self._image)
        detected = clock()
        cut = crops(self._image, boxes, session.manifest.preprocessing.resize)
        aligned = clock()
        predictions = session(cut, record)
        labelled = labelled_faces(boxes, cut, predictions, session, Thresholds())
        end = clock()
        rest = max(1, end - aligned - sum(stages.values()))
        self._calls.append(
            {"detection": detected - start, "alignment": aligned - detected, **stages, "post": rest}
        )
        return labelled

    def timings(self, runs: int) -> dict[str, Timing]:
        """Of each stage over the last `runs` calls; earlier ones were the warm-up."""
        timed = self._calls[-runs:]
        return {name: Timing.from_nanoseconds([stages[name] for stages in timed]) for name in timed[-1]}
