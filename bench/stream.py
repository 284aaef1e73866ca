"""A stream on a synthetic video: identity, delay of labels, time per frame beside detection and inference, memory.

    python -m edgefel.bench.stream clip.mp4 bundle --only truth memory > docs/results/stream.json
    python -m edgefel.bench.stream clip.mp4 bundle --only overhead > docs/results/stream-overhead.json

takes the clip once for the first two, once on one core for the time, and for `--minutes` of it, looped, for the memory.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime

from edgefel.bench.command import run_bench, versions
from edgefel.bench.timer import opencv_threads
from edgefel.data.labels import same_class
from edgefel.data.synthetic.video import read_truth
from edgefel.runtime.backends.choice import Opened
from edgefel.runtime.faces import HaarDetector
from edgefel.runtime.manifest import Manifest
from edgefel.runtime.session import Session
from edgefel.runtime.stream.capture import open_source
from edgefel.runtime.stream.frames import FrameResult, TrackedFace
from edgefel.runtime.stream.pipeline import Stream, StreamOptions
from edgefel.runtime.stream.sinks import JsonLines
from edgefel.runtime.telemetry.board import process_memory_mb
from edgefel.runtime.telemetry.sysfs import cpu_name
from edgefel.runtime.telemetry.telemetry import Telemetry

MIN_FACE = 0.15
MEMORY_DETECT_EVERY = 5
PARTS = ("truth", "overhead", "memory")
# a label that is back within this time was no change of label but a flicker
_STAYS = 0.3
_SETTLED = 0.5


def stream_row(
    clip: Path, bundle: Path, minutes: float = 10.0, only: Sequence[str] = PARTS
) -> dict[str, Any]:
    """The measurements in `only` as one row. Raises EdgefelError for a clip without truth, or an unreadable bundle."""
    truth = read_truth(clip)
    # one thread: ONNX Runtime then works in the thread that calls it, whose processor time is its own
    with TimedSession.open(bundle, backend="onnxruntime", threads=1) as session:
        assert isinstance(session, TimedSession)
        session.warm_up()
        measures = {
            "truth": lambda: truth_row(clip, session, truth),
            "overhead": lambda: overhead_row(clip, session),
            "memory": lambda: memory_row(clip, session, minutes),
        }
        parts: dict[str, Any] = {}
        for name in only:
            print(f"measuring: {name}", file=sys.stderr)
            parts[name] = measures[name]()
        options = f"--minutes {minutes:g}" if "memory" in only else ""
        options += f" --only {' '.join(only)}" if tuple(only) != PARTS else ""
        return {
            "bench": "stream",
            "command": f"python -m edgefel.bench.stream {clip.name} {bundle.name} {options.strip()}",
            "clip": {key: truth["options"][key] for key in ("seconds", "fps", "size", "faces", "seed")},
            "model": session.manifest.model.name,
            "precision": session.precision,
            "backend": session.backend,
            "threads": 1,
            "detector": f"haar, smallest face {MIN_FACE:g} of the shorter side",
            **parts,
            "machine": cpu_name(),
            "cores": os.cpu_count(),
            "versions": versions(onnxruntime=onnxruntime, opencv=cv2),
        }


def truth_row(clip: Path, session: Session, truth: dict[str, Any]) -> dict[str, Any]:
    """Identity and delay, under the policy `all`."""
    stream = Stream(open_source(str(clip)), HaarDetector(MIN_FACE), session)
    return {**judge(list(stream), truth), "dropped": stream.dropped}


def overhead_row(clip: Path, session: TimedSession) -> dict[str, Any]:
    """Milliseconds of processor time per frame beside detection and inference, everything on one core.

    "ms_per_frame" is the time of the process, with decoding, preprocessing and JSON lines, minus that of
    detector and backend, which leave cold caches behind. "alone" repeats the same frames with their recorded
    results, so that only the rest runs. Other jobs share this core: times are those of the second of the clip
    with the median overhead; "by_second" lists all seconds.
    """
    detector = _Timed(HaarDetector(MIN_FACE))
    with _one_core():
        telemetry = Telemetry()
        for timed in (detector, session.timed):
            timed.kept = []
        beside = _seconds(clip, detector, session, telemetry)
        for timed in (detector, session.timed):
            timed.again, timed.kept = iter(timed.kept or ()), None
        alone = _seconds(clip, detector, session, Telemetry())
        session.timed.again = None
    snapshot = telemetry.snapshot()
    frames = snapshot.counters["frames"]
    by_second, alone_by_second = ([times["overhead"] for times in found] for found in (beside, alone))
    return {
        "frames": frames,
        "faces_per_frame": round(snapshot.counters["faces"] / frames, 3),
        "ms_per_frame": _median(beside),
        "by_second": by_second,
        "alone": {"ms_per_frame": _median(alone)["overhead"], "by_second": alone_by_second},
        "wall_ms_p50": {name: round(times.p50, 3) for name, times in snapshot.stages.items()},
    }


def _seconds(
    clip: Path, detector: _Timed, session: TimedSession, telemetry: Telemetry
) -> list[dict[str, float]]:
    """Milliseconds per frame of everything, detection, inference and the rest, for each second of one pass."""

    def clocks() -> tuple[float, float, float]:
        return time.process_time(), detector.seconds, session.timed.seconds

    with _sink() as sink:
        source = open_source(str(clip))
        part = min(round(source.fps), source.frames)
        marks = [clocks()]
        for number, result in enumerate(Stream(source, detector, session, telemetry=telemetry), 1):
            sink.write(result, None)
            if number % part == 0:
                marks.append(clocks())
    found = []
    for before, after in pairwise(marks):
        whole, detection, inference = ((end - begin) / part for begin, end in zip(before, after, strict=True))
        times = {"all": whole, "detection": detection, "inference": inference}
        times["overhead"] = whole - detection - inference
        found.append({name: round(1e3 * value, 3) for name, value in times.items()})
    return found


def _median(seconds: Sequence[dict[str, float]]) -> dict[str, float]:
    """The second with the median overhead; the upper one of two."""
    return sorted(seconds, key=lambda times: times["overhead"])[len(seconds) // 2]


def memory_row(clip: Path, session: Session, minutes: float) -> dict[str, Any]:
    """Resident memory after each minute of a looped clip, or each tenth of a run below ten minutes."""
    source = open_source(str(clip), loop=True)
    options = StreamOptions(detect_every=MEMORY_DETECT_EVERY, seconds=60 * minutes)
    megabytes: list[float] = []
    every = 60 * min(1.0, minutes / 10)
    with _sink() as sink:
        for result in Stream(source, HaarDetector(MIN_FACE), session, options):
            sink.write(result, None)
            if result.frame.time >= every * (len(megabytes) + 1) - 1.5 / source.fps:
                megabytes.append(round(process_memory_mb() or 0.0, 2))
    return {
        "minutes": minutes,
        "frames": result.frame.index + 1,
        "detect_every": MEMORY_DETECT_EVERY,
        "seconds_between": every,
        "megabytes": megabytes,
        "growth_from_first_mb": round(megabytes[-1] - megabytes[0], 2),
    }


class _Timed:
    """A detector or a backend's `run` that measures its processor time.

    kept: records the results where it is a list. again: results to return instead of a call.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        # of calls that have ended; the clock of the thread that is in a call now, and what it showed at its begin
        self._spent: tuple[float, int | None, float] = (0.0, None, 0.0)
        self.kept: list[Any] | None = None
        self.again: Iterator[Any] | None = None

    def __call__(self, image: Any, *others: Any) -> Any:
        if self.again is not None:
            return next(self.again)
        spent, begin = self._spent[0], time.thread_time()
        self._spent = (spent, time.pthread_getcpuclockid(threading.get_ident()), begin)
        result = self._function(image, *others)
        self._spent = (spent + time.thread_time() - begin, None, 0.0)
        if self.kept is not None:
            self.kept.append(result)
        return result

    @property
    def seconds(self) -> float:
        """Processor time so far, including a call that is under way in another thread."""
        spent, clock, begin = self._spent
        return spent if clock is None else spent + time.clock_gettime(clock) - begin


class TimedSession(Session):
    """A session that times its backend's calls as `timed`; for one thread, which runs the model."""

    def __init__(
        self, manifest: Manifest, opened: Opened, threads: int, max_batch: int, mirror: bool = False
    ) -> None:
        self.timed = _Timed(opened.runner.run)
        opened.runner.run = self.timed  # type: ignore[assignment]
        super().__init__(manifest, opened, threads, max_batch, mirror)


@contextmanager
def _sink() -> Iterator[JsonLines]:
    """JSON lines in a file that is removed at the end."""
    with tempfile.TemporaryDirectory() as folder:
        sink = JsonLines(Path(folder) / "results.jsonl")
        yield sink
        sink.close()


@contextmanager
def _one_core() -> Iterator[None]:
    """All threads of the process on one core, OpenCV on one thread."""
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    if cores is not None:
        os.sched_setaffinity(0, {min(cores)})
    try:
        with opencv_threads(1):
            yield
    finally:
        if cores is not None:
            os.sched_setaffinity(0, cores)


@dataclass(frozen=True)
class _Seen:
    time: float
    face: TrackedFace
    drawn: str


def judge(results: Sequence[FrameResult], truth: dict[str, Any]) -> dict[str, Any]:
    """A stream's results in one pass over the video that `truth` (`read_truth`) describes.

    frames: results. lost: frames of the video without a result. found: share of the faces drawn, from the second frame
    on, that have a track. strays: faces where none is drawn. tracks: track numbers of each person in order of
    appearance. changes: of expression, as `_change_seen` gives them. agreement, raw_agreement: share of smoothed and of
    single-frame labels that are right, more than half a second from any change. flickers, raw_flickers: changes of
    label that were not drawn. keeps_identity: whether every person has one track, and no track two people.
    slowest_change_s: the longest delay of a label, None if one never came.
    """
    seen: dict[int, list[_Seen]] = {person: [] for person, _ in enumerate(truth["subjects"], 1)}
    strays = drawn = 0
    for result in results:
        entry = truth["frames"][result.frame.index]
        drawn += len(entry["faces"]) if result.frame.index else 0
        for face in result.faces:
            nearest = _whose(face, entry["faces"])
            if nearest is None:
                strays += 1
            else:
                seen[nearest["person"]].append(_Seen(entry["time"], face, nearest["label"]))
    changes = [_change_seen(change, seen[change["person"]]) for change in truth["changes"]]
    settled = [
        row
        for person, rows in seen.items()
        for row in rows
        if all(abs(row.time - one["time"]) > _SETTLED for one in changes if one["person"] == person)
    ]
    tracks = [tuple(dict.fromkeys(row.face.track for row in rows)) for rows in seen.values()]
    numbers = [number for person in tracks for number in person]
    delays = [change["delay"] for change in changes]
    return {
        "frames": len(results),
        "lost": len(truth["frames"]) - len({result.frame.index for result in results}),
        "found": sum(map(len, seen.values())) / max(1, drawn),
        "strays": strays,
        "tracks": tracks,
        "changes": changes,
        "agreement": _share(same_class(row.face.face.top_label, row.drawn) for row in settled),
        "raw_agreement": _share(same_class(row.face.raw.top_label, row.drawn) for row in settled),
        "flickers": _flickers(seen, changes, lambda row: row.face.face.top_label),
        "raw_flickers": _flickers(seen, changes, lambda row: row.face.raw.top_label),
        "keeps_identity": len(numbers) == len(set(numbers)) == len(tracks) and all(tracks),
        "slowest_change_s": None if None in delays else max(delays, default=0.0),
    }


def _share(hits: Iterable[bool]) -> float:
    values = list(hits)
    return float(np.mean(values)) if values else 0.0


def _whose(face: TrackedFace, drawn: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """The drawn face whose centre is nearest, within half its side."""
    box = face.face.box
    x, y = box.x + box.side / 2, box.y + box.side / 2
    distances = [np.hypot(x - one["centre"][0], y - one["centre"][1]) / one["side"] for one in drawn]
    if not distances or min(distances) > 0.5:
        return None
    return drawn[int(np.argmin(distances))]


def _change_seen(change: dict[str, Any], rows: Sequence[_Seen]) -> dict[str, Any]:
    """A change of expression as the stream saw it: person, time, and its classes as "first" and "second".

    delay: seconds from the middle of the drawn change to the first frame of the new label that stays; negative before
    the middle, None if it never came.
    """

    def shows(row: _Seen) -> bool:
        return same_class(row.face.face.top_label, change["to"])

    delay = None
    for number, row in enumerate(rows):
        if abs(row.time - change["time"]) > 2 or not shows(row):
            continue
        following = [other for other in rows[number:] if other.time <= row.time + _STAYS]
        before = rows[:number][-1:]
        if not any(map(shows, before)) and all(map(shows, following)):
            delay = round(row.time - change["time"], 4)
            break
    known = {"person": change["person"], "time": change["time"]}
    return {**known, "first": change["from"], "second": change["to"], "delay": delay}


def _flickers(
    seen: Mapping[int, Sequence[_Seen]], changes: Sequence[dict[str, Any]], label: Callable[[_Seen], str]
) -> int:
    """Changes of label beyond those that were drawn."""
    drawn = Counter(change["person"] for change in changes)
    return sum(
        max(0, sum(first != second for first, second in pairwise(map(label, rows))) - drawn[person])
        for person, rows in seen.items()
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints one row as JSON; bad arguments give one line and exit code 2."""
    parser = argparse.ArgumentParser(prog="python -m edgefel.bench.stream", description=__doc__)
    parser.add_argument("clip", type=Path, help="made by edgefel data video")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--minutes", type=float, default=10.0, help="of the looped run [%(default)s]")
    about = "what to measure [everything]; the time is for a quiet core"
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help=about)
    return run_bench(parser, stream_row, arguments)


if __name__ == "__main__":
    sys.exit(main())
