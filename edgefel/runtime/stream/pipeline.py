"""From frames to labelled, followed, smoothed faces: stages that run side by side.

    capture ─▶ detect, align ─▶ preprocess, infer ─▶ track, smooth ─▶ the caller
             ╰ drops frames here, and nowhere else, when the rest is too slow

Each stage is one thread, the last one the caller's; OpenCV and the backends release Python's lock while they work.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from weakref import WeakKeyDictionary

from edgefel.data.preprocessing import Image
from edgefel.errors import EdgefelError
from edgefel.runtime.faces import FaceBox, FaceDetector, crops
from edgefel.runtime.labelling import check_labelling, labelled_face
from edgefel.runtime.session import Predictions, Session
from edgefel.runtime.stream.detection import PeriodicDetector
from edgefel.runtime.stream.frames import Frame, FrameSource, SourceCounts
from edgefel.runtime.stream.queues import Policy, StageQueue
from edgefel.runtime.stream.results import FrameResult, TrackedFace
from edgefel.runtime.stream.smoothing import Smoother
from edgefel.runtime.stream.tracker import Track, Tracker, TrackerOptions
from edgefel.runtime.telemetry.telemetry import Telemetry

# frames that wait between two stages; more would only add latency
_WAITING = 2
_FPS_WINDOW = 60


@dataclass(frozen=True)
class StreamOptions:
    """How a stream is run.

    policy: "latest" drops frames when the stages are too slow, "all" makes the source wait; None is "latest" for
    live sources. A file under "latest" is played at its own speed. A camera does not wait under "all" either: it
    replaces frames that were not read, which count as dropped. detect_every: the whole image is searched in
    each n-th frame, the surroundings of known faces in the others. smoothing: time constant in seconds.
    min_confidence: smoothed confidence below which a face is "unsure". frames, seconds: when to stop, by the source's
    count and time. images: frames have nothing to do with each other; nobody is followed, and each is searched
    whole.
    Raises EdgefelError for values out of range, and for options that exclude each other.
    """

    policy: Policy | None = None
    detect_every: int = 1
    smoothing: float = 0.2
    min_confidence: float = 0.0
    tracker: TrackerOptions = field(default_factory=TrackerOptions)
    frames: int | None = None
    seconds: float | None = None
    images: bool = False

    def __post_init__(self) -> None:
        Smoother(self.smoothing)
        if self.detect_every < 1:
            raise EdgefelError(f"detect_every is {self.detect_every}; give at least 1 frame")
        if not 0 <= self.min_confidence <= 1:
            raise EdgefelError(f"min_confidence is {self.min_confidence}; give a number from 0 to 1")
        if self.frames is not None and self.frames < 1:
            raise EdgefelError(f"frames is {self.frames}; give at least 1")
        if self.seconds is not None and not self.seconds > 0:  # NaN too
            raise EdgefelError(f"seconds is {self.seconds}; give a number greater than 0")
        if self.images and self.detect_every > 1:
            raise EdgefelError(
                f"detect_every is {self.detect_every}, and faces of one image are not near those of another; leave "
                "it out, or give the images' fps if they are a sequence"
            )


@dataclass(frozen=True)
class _Found:
    frame: Frame
    boxes: Sequence[FaceBox]
    crops: Sequence[Image]


@dataclass(frozen=True)
class _Judged:
    frame: Frame
    boxes: Sequence[FaceBox]
    predictions: Predictions


class Stream:
    """Runs a source through a session. Iterate over it once; leaving the loop ends the stages and closes the source,
    which is the caller's to close (or `stop`'s) if the iteration never begins.

    The detector is used by one thread. telemetry: gets the time of every stage, and counts of frames, faces,
    inferences, and what was dropped or lost.
    """

    def __init__(
        self,
        source: FrameSource,
        detector: FaceDetector,
        session: Session,
        options: StreamOptions | None = None,
        telemetry: Telemetry | None = None,
    ) -> None:
        check_labelling(session)
        self._source, self._session = source, session
        self._options = options or StreamOptions()
        self._detector = PeriodicDetector(detector, self._options.detect_every)
        self._telemetry = telemetry or Telemetry()
        self.policy: Policy = self._options.policy or ("latest" if source.live else "all")
        # under "latest" the newest frame alone waits: an older one would only be later
        self._captured: StageQueue[Frame] = StageQueue(
            1 if self.policy == "latest" else _WAITING, self.policy
        )
        self._found: StageQueue[_Found] = StageQueue(_WAITING)
        self._judged: StageQueue[_Judged] = StageQueue(_WAITING)
        self._error: BaseException | None = None
        self._begun = self._ending = False
        self._stopping = threading.Event()
        self._reported: dict[str, int] = {}
        self._results = _Results(session.labels, self._options, source.name)

    @property
    def dropped(self) -> int:
        """Frames that were left out because the stages were too slow."""
        return self._captured.dropped + self._source.counts.overwritten

    @property
    def backend(self) -> str:
        """What runs the model."""
        return self._session.backend

    @property
    def counts(self) -> SourceCounts:
        """What went wrong with the source so far."""
        return self._source.counts

    def stop(self) -> None:
        """Ends the source; frames already read are still given out.

        May be called at any time, from another thread and from a signal's handler; a second call does nothing.
        """
        # A handler runs on top of whatever its thread was doing, which may be this method or the end of the
        # iteration: locks that these hold would never come free. Reading a flag takes none.
        if self._ending:
            return
        self._ending = True
        self._stopping.set()
        self._source.close()

    def __iter__(self) -> Iterator[FrameResult]:
        """The result of every frame that was not dropped, in order.

        Raises what a stage raised: EdgefelError for a source that is gone, after the results of its last frames.
        Also EdgefelError for a second iteration. Leaving waits for calls of the source, detector and session that
        are under way.
        """
        if self._begun:
            raise EdgefelError("a stream runs once; open its source again and make a new Stream")
        self._begun = True
        stages = (
            (self._capture, self._captured),
            (self._detect, self._found),
            (self._infer, self._judged),
        )
        threads = [
            threading.Thread(target=self._stage, args=stage, name=stage[0].__name__.strip("_"), daemon=True)
            for stage in stages
        ]
        try:
            for thread in threads:
                thread.start()
            while (judged := self._judged.get()) is not None:
                yield self._finish(judged)
            if self._error is not None:
                raise self._error
        finally:
            self._ending = True
            self._stopping.set()
            for queue in (self._captured, self._found, self._judged):
                queue.end(discard=True)
            self._source.close()
            for thread in threads:
                if thread.ident is not None:  # it could be started
                    thread.join()
            self._count_losses()

    def _stage(self, work: Callable[[], None], output: StageQueue[object]) -> None:
        try:
            work()
        except BaseException as error:
            self._error = self._error or error
            self._stopping.set()
        finally:
            output.end()

    def _capture(self) -> None:
        began: float | None = None
        while not self._stopping.is_set():
            start = time.monotonic()
            frame = self._source.read()
            if frame is None or self._is_over(frame):
                return
            self._telemetry.record("capture", time.monotonic() - start)
            self._telemetry.count("captured")
            if self.policy == "latest" and not self._source.live:
                began = start - frame.time if began is None else began
                self._stopping.wait(max(0.0, began + frame.time - time.monotonic()))
                frame = replace(frame, captured=time.monotonic())
            if not self._captured.put(frame):
                return

    def _is_over(self, frame: Frame) -> bool:
        options = self._options
        return (options.frames is not None and frame.index >= options.frames) or (
            options.seconds is not None and frame.time >= options.seconds
        )

    def _detect(self) -> None:
        while (frame := self._captured.get()) is not None:
            start = time.perf_counter()
            boxes = self._detector(frame.image)
            found = time.perf_counter()
            cut = crops(frame.image, boxes, self._session.manifest.preprocessing.resize)
            self._telemetry.record("detect", found - start)
            self._telemetry.record("align", time.perf_counter() - found)
            if not self._found.put(_Found(frame, boxes, cut)):
                return

    def _infer(self) -> None:
        while (found := self._found.get()) is not None:
            predictions = self._session(found.crops, self._telemetry.record)
            self._telemetry.count("inferences", len(found.crops))
            if not self._judged.put(_Judged(found.frame, found.boxes, predictions)):
                return

    def _finish(self, judged: _Judged) -> FrameResult:
        start = time.perf_counter()
        result = self._results.add(judged)
        telemetry = self._telemetry
        telemetry.record("post", time.perf_counter() - start)
        telemetry.record("total", result.latency)
        telemetry.count("frames")
        telemetry.count("faces", len(result.faces))
        telemetry.set("tracks", self._results.tracks)
        self._count_losses()
        return result

    def _count_losses(self) -> None:
        """Adds what was lost since the last call to the counters, which thereby exist from the first frame on."""
        counts = self._source.counts
        losses = {
            "dropped": self.dropped,
            "unreadable": counts.unreadable,
            "missing": counts.missing,
            "reconnects": counts.reconnects,
            "resolution changes": counts.resolution_changes,
        }
        for name, value in losses.items():
            before = self._reported.get(name)
            if value != before:
                self._telemetry.count(name, value - (before or 0))
                self._reported[name] = value


class _Results:
    """The last stage: tracks, smooths and labels."""

    def __init__(self, labels: Sequence[str], options: StreamOptions, source: str) -> None:
        self._labels, self._options, self._source = labels, options, source
        # an image of its own has no second frame that could confirm a face
        self._tracker = Tracker(replace(options.tracker, confirm=1) if options.images else options.tracker)
        # a track that the tracker drops takes its smoother with it
        self._smoothers: WeakKeyDictionary[Track, Smoother] = WeakKeyDictionary()
        self._ready: deque[float] = deque(maxlen=_FPS_WINDOW)

    @property
    def tracks(self) -> int:
        """Faces that are followed now."""
        return sum(track.number > 0 for track in self._tracker.tracks)

    def add(self, judged: _Judged) -> FrameResult:
        frame, predictions = judged.frame, judged.predictions
        assert predictions.primary is not None
        if self._options.images:
            self._tracker.reset()
        tracks = self._tracker.update(frame.time, judged.boxes, predictions.embedding)
        faces = []
        for track, box, *raw_values in zip(
            tracks,
            judged.boxes,
            predictions.probabilities.tolist(),
            predictions.primary.tolist(),
            predictions.confidence.tolist(),
            strict=True,
        ):
            smoother = self._smoothers.get(track) or Smoother(self._options.smoothing)
            self._smoothers[track] = smoother
            smoothed = smoother.update(frame.time, *raw_values)
            if not track.number:
                continue
            faces.append(
                TrackedFace(
                    track.number,
                    labelled_face(
                        box, self._labels, smoothed.probabilities, smoothed.primary, smoothed.confidence
                    ),
                    smoothed.confidence >= self._options.min_confidence,
                    frame.time - track.began,
                    labelled_face(box, self._labels, *raw_values),
                )
            )
        now = time.monotonic()
        self._ready.append(now)
        return FrameResult(frame, tuple(faces), now - frame.captured, self._fps(), self._source)

    def _fps(self) -> float:
        elapsed = self._ready[-1] - self._ready[0]
        return (len(self._ready) - 1) / elapsed if elapsed > 0 else 0.0
