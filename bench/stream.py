"""A stream on a synthetic video: identity, delay of labels, time per frame beside detection and inference, memory.

    python -m edgefel.bench.stream clip.mp4 bundle > docs/results/stream.json

takes the clip once for the first two, once on one core for the time, and for `--minutes` of it, looped, for the memory.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

import cv2
import onnxruntime

from edgefel.bench.command import cpu_name, run_bench, versions
from edgefel.bench.stream_truth import judge
from edgefel.data.synthetic.video import read_truth
from edgefel.runtime.backends.base import Array, Backend, Record
from edgefel.runtime.backends.choice import Opened
from edgefel.runtime.faces import FaceBox, HaarDetector
from edgefel.runtime.manifest import Manifest
from edgefel.runtime.preprocessing import Image
from edgefel.runtime.session import Session
from edgefel.runtime.stream.capture import open_source
from edgefel.runtime.stream.pipeline import Stream, StreamOptions
from edgefel.runtime.stream.sinks import JsonLines
from edgefel.runtime.telemetry.board import process_memory_mb
from edgefel.runtime.telemetry.telemetry import Telemetry

MIN_FACE = 0.15
MEMORY_DETECT_EVERY = 5


def stream_row(clip: Path, bundle: Path, minutes: float = 10.0) -> dict[str, Any]:
    """All measurements as one row. Raises EdgefelError for a clip without truth, or a bundle that cannot be opened."""
    truth = read_truth(clip)
    # one thread: ONNX Runtime then works in the thread that calls it, whose processor time is its own
    with TimedSession.open(bundle, backend="onnxruntime", threads=1) as session:
        assert isinstance(session, TimedSession)
        session.warm_up()
        parts: dict[str, Any] = {}
        for name, measure in (
            ("truth", lambda: truth_row(clip, session, truth)),
            ("overhead", lambda: overhead_row(clip, session)),
            ("memory", lambda: memory_row(clip, session, minutes)),
        ):
            print(f"measuring: {name}", file=sys.stderr)
            parts[name] = measure()
        row = {
            "bench": "stream",
            "command": f"python -m edgefel.bench.stream {clip.name} {bundle.name} --minutes {minutes:g}",
            "clip": {key: truth["options"][key] for key in ("seconds", "fps", "size", "faces", "seed")},
            "model": session.manifest.model.name,
            "precision": session.precision,
            "backend": session.backend,
            "threads": 1,
            "detector": f"haar, smallest face {MIN_FACE:g} of the shorter side",
            **parts,
        }
    tools = versions(onnxruntime=onnxruntime, opencv=cv2)
    return row | {"machine": cpu_name(), "cores": os.cpu_count(), "versions": tools}


def truth_row(clip: Path, session: Session, truth: dict[str, Any]) -> dict[str, Any]:
    """Identity and delay, under the policy `all`."""
    stream = Stream(open_source(str(clip)), HaarDetector(MIN_FACE), session)
    found = judge(list(stream), truth)
    return {
        **asdict(found),
        "dropped": stream.dropped,
        "keeps_identity": found.keeps_identity,
        "slowest_change_s": found.slowest,
    }


def overhead_row(clip: Path, session: TimedSession) -> dict[str, Any]:
    """Milliseconds of processor time per frame beside detection and inference, everything on one core.

    It is what the process used, with decoding, preprocessing and JSON lines, less what the detector and the backend
    used in their calls.
    """
    detector = _TimedDetector(HaarDetector(MIN_FACE))
    telemetry = Telemetry()
    with _one_core(), tempfile.TemporaryDirectory() as folder:
        sink = JsonLines(Path(folder) / "results.jsonl")
        source = open_source(str(clip))
        inference, begin = session.seconds, time.process_time()
        frames = faces = 0
        for result in Stream(source, detector, session, telemetry=telemetry):
            sink.write(result, None)
            frames += 1
            faces += len(result.faces)
        whole = time.process_time() - begin
        sink.close()
    inference = session.seconds - inference
    per_frame = {
        "all": whole,
        "detection": detector.seconds,
        "inference": inference,
        "overhead": whole - detector.seconds - inference,
    }
    stages = telemetry.snapshot().stages
    return {
        "frames": frames,
        "faces_per_frame": round(faces / frames, 3),
        "ms_per_frame": {name: round(1e3 * seconds / frames, 3) for name, seconds in per_frame.items()},
        "wall_ms_p50": {name: round(times.p50, 3) for name, times in stages.items()},
    }


def memory_row(clip: Path, session: Session, minutes: float) -> dict[str, Any]:
    """Resident memory after each minute of a looped clip (each tenth of less than ten minutes); results are written as
    JSON lines."""
    source = open_source(str(clip), loop=True)
    options = StreamOptions(detect_every=MEMORY_DETECT_EVERY, seconds=60 * minutes)
    megabytes: list[float] = []
    every = 60 * min(1.0, minutes / 10)
    with tempfile.TemporaryDirectory() as folder:
        sink = JsonLines(Path(folder) / "results.jsonl")
        for result in Stream(source, HaarDetector(MIN_FACE), session, options):
            sink.write(result, None)
            if result.frame.time >= every * (len(megabytes) + 1) - 1.5 / source.fps:
                megabytes.append(round(process_memory_mb() or 0.0, 2))
        sink.close()
    return {
        "minutes": minutes,
        "frames": result.frame.index + 1,
        "detect_every": MEMORY_DETECT_EVERY,
        "seconds_between": every,
        "megabytes": megabytes,
        "growth_from_first_mb": round(megabytes[-1] - megabytes[0], 2),
    }


class _TimedDetector:
    """A detector and the processor time of its calls."""

    def __init__(self, detector: HaarDetector) -> None:
        self._detector = detector
        self.seconds = 0.0

    def __call__(self, picture: Image) -> list[FaceBox]:
        begin = time.thread_time()
        boxes = self._detector(picture)
        self.seconds += time.thread_time() - begin
        return boxes


class TimedSession(Session):
    """A session that adds up the processor time of its backend in `seconds`; for one thread, which runs the model."""

    def __init__(self, manifest: Manifest, opened: Opened, threads: int, max_batch: int) -> None:
        self._timed = _TimedBackend(opened.runner)
        super().__init__(manifest, replace(opened, runner=cast("Backend", self._timed)), threads, max_batch)

    @property
    def seconds(self) -> float:
        """Processor time of all calls of the backend so far."""
        return self._timed.seconds


class _TimedBackend:
    """A backend and the processor time of its calls."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.seconds = 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def run(self, batch: Array, record: Record | None = None) -> Mapping[str, Array]:
        begin = time.thread_time()
        outputs = self._backend.run(batch, record)
        self.seconds += time.thread_time() - begin
        return outputs


@contextmanager
def _one_core() -> Iterator[None]:
    """Every thread of the process on one core, and OpenCV without threads of its own."""
    threads = cv2.getNumThreads()
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    cv2.setNumThreads(1)
    if cores is not None:
        os.sched_setaffinity(0, {min(cores)})
    try:
        yield
    finally:
        cv2.setNumThreads(threads)
        if cores is not None:
            os.sched_setaffinity(0, cores)


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints one row as JSON; bad arguments give one line and 2."""
    parser = argparse.ArgumentParser(prog="python -m edgefel.bench.stream", description=__doc__)
    parser.add_argument("clip", type=Path, help="made by edgefel data video")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--minutes", type=float, default=10.0, help="of the looped run [%(default)s]")
    return run_bench(parser, stream_row, arguments)


if __name__ == "__main__":
    sys.exit(main())
