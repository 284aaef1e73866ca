"""Labels, tracks and smooths the faces of a source of frames, in stages that run concurrently.

    capture ─▶ detect, align ─▶ preprocess, infer ─▶ track, smooth ─▶ the caller
             ╰ frames are dropped only here, if a later stage is too slow

Each stage has a thread; the last one runs in the caller's. OpenCV and the backends release Python's lock. A cut, which
the second stage finds, ends all tracks with their averages: the embedding tells expressions apart, not people.
"""

from __future__ import annotations

import math
import threading
import time
import warnings
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any, Generic, Literal, TypeVar, get_args

from edgefel.errors import EdgefelError, EdgefelWarning
from edgefel.runtime.faces import FaceDetector
from edgefel.runtime.labelling import FoundFaces, Thresholds, check_labelling, crop_quality, framed_faces
from edgefel.runtime.levelling import levelling
from edgefel.runtime.quality import Quality
from edgefel.runtime.session import Predictions, Session
from edgefel.runtime.stream.cuts import CutFinder
from edgefel.runtime.stream.frames import Frame, FrameResult, FrameSource
from edgefel.runtime.stream.people import People
from edgefel.runtime.stream.search import AdaptiveDetector
from edgefel.runtime.stream.smoothing import Smoother
from edgefel.runtime.stream.tracker import TrackerOptions
from edgefel.runtime.telemetry.telemetry import Telemetry

Item = TypeVar("Item")
Policy = Literal["latest", "all"]
POLICIES: tuple[Policy, ...] = get_args(Policy)
# frames that wait between two stages; more only add latency
_WAITING = 2
_FPS_WINDOW = 60


@dataclass(frozen=True)
class StreamOptions:
    """Options of a stream.

    policy: "latest" drops frames if the stages are too slow, "all" makes the source wait; "auto" is "latest" for live
    sources, else "all". Under "latest" a file is played at its own speed. A camera cannot wait under "all" either:
    frames that were not read are replaced, and counted as dropped. detect_every: the whole image is searched at least
    in each n-th frame, and only the surroundings of known faces where nothing is new (`AdaptiveDetector`). smoothing:
    time constant in seconds. min_confidence: smoothed confidence below which a face is "unsure". min_quality: the same
    for the smoothed quality. frames, seconds: stop at this index and time of the source. images: the frames are
    unrelated images; nothing is tracked, and each is searched as a whole.

    Raises EdgefelError for values out of range, and for options that exclude each other.
    """

    policy: Policy | Literal["auto"] = "auto"
    detect_every: int = 1
    smoothing: float = 0.2
    min_confidence: float = 0.0
    min_quality: float = 0.0
    tracker: TrackerOptions = field(default_factory=TrackerOptions)
    frames: int | None = None
    seconds: float | None = None
    images: bool = False

    def __post_init__(self) -> None:
        Smoother(self.smoothing)
        if self.detect_every < 1:
            raise EdgefelError(f"detect_every is {self.detect_every}; give at least 1 frame")
        Thresholds(self.min_quality, self.min_confidence)
        if self.policy not in ("auto", *POLICIES):
            raise EdgefelError(
                f"policy {self.policy!r} is not known; choose one of: auto, {', '.join(POLICIES)}"
            )
        if self.frames is not None and self.frames < 1:
            raise EdgefelError(f"frames is {self.frames}; give at least 1")
        if self.seconds is not None and not self.seconds > 0:  # NaN too
            raise EdgefelError(f"seconds is {self.seconds}; give a number greater than 0")
        if self.images and self.detect_every > 1:
            raise EdgefelError(
                f"detect_every is {self.detect_every}, and faces of one image are not near those of another; leave "
                "it out, or give the images' fps if they are a sequence"
            )


# a frame with its faces, and one with their predictions and qualities too
_Found = tuple[Frame, FoundFaces]
_Judged = tuple[Frame, FoundFaces, Predictions, Sequence[Quality]]


class StageQueue(Generic[Item]):
    """Passes items from one stage to the next, in another thread; at most `size` wait.

    policy "all": `put` waits for space. "latest": `put` never waits; it drops the oldest item, which `dropped` counts.
    """

    def __init__(self, size: int, policy: Policy = "all") -> None:
        if size < 1:
            raise EdgefelError(f"a queue of {size}: give at least 1")
        if policy not in POLICIES:
            raise EdgefelError(f"policy {policy!r} is not known; choose one of: {', '.join(POLICIES)}")
        self._size = size
        self._policy = policy
        self._items: deque[Item] = deque()
        self._changed = threading.Condition()
        self._ended = False
        self.dropped = 0

    def put(self, item: Item) -> bool:
        """Adds an item; False if the queue has ended."""
        with self._changed:
            if self._policy == "all":
                self._changed.wait_for(lambda: self._ended or len(self._items) < self._size)
            if self._ended:
                return False
            if len(self._items) == self._size:
                self._items.popleft()
                self.dropped += 1
            self._items.append(item)
            self._changed.notify_all()
            return True

    def get(self) -> Item | None:
        """Waits for the oldest item; None once the queue has ended and is empty."""
        with self._changed:
            self._changed.wait_for(lambda: self._ended or self._items)
            if not self._items:
                return None
            item = self._items.popleft()
            self._changed.notify_all()
            return item

    def __iter__(self) -> Iterator[Item]:
        """The items until the end, each when it has come."""
        while (item := self.get()) is not None:
            yield item

    def end(self, *, discard: bool = False) -> None:
        """Accepts no more items. Those that wait can still be taken, unless `discard` removes them."""
        with self._changed:
            self._ended = True
            if discard:
                self._items.clear()
            self._changed.notify_all()

    def __len__(self) -> int:
        return len(self._items)


class Stream(AbstractContextManager["Stream"]):
    """Runs a source through a session. Iterate over it once: leaving the loop ends the stages and closes the source. If
    the iteration never begins, the caller closes the source, calls `stop` or leaves the `with` block.

    The detector is used by one thread. telemetry: receives the time of every stage, and counts of frames, faces,
    inferences and losses.
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
        level = levelling(detector, session.manifest.framing)
        self._detector = AdaptiveDetector(level, self._options.detect_every)
        self._is_cut = CutFinder()
        self._telemetry = telemetry or Telemetry()
        policy = self._options.policy
        self.policy: Policy = ("latest" if source.live else "all") if policy == "auto" else policy
        # under "latest" only the newest frame waits
        self._captured: StageQueue[Frame] = StageQueue(
            1 if self.policy == "latest" else _WAITING, self.policy
        )
        self._found: StageQueue[_Found] = StageQueue(_WAITING)
        self._judged: StageQueue[_Judged] = StageQueue(_WAITING)
        self._error: BaseException | None = None
        self._begun = self._ending = self._warned = False
        self._stopping = threading.Event()
        self._reported: dict[str, int] = {}
        tracking = self._options.tracker
        # a single image has no second frame that could confirm a face
        tracking = replace(tracking, confirm=1) if self._options.images else tracking
        thresholds = Thresholds(self._options.min_quality, self._options.min_confidence)
        self._people = People(session.labels, tracking, self._options.smoothing, thresholds)
        self._ready: deque[float] = deque(maxlen=_FPS_WINDOW)

    @property
    def dropped(self) -> int:
        """Frames dropped because the stages were too slow."""
        return self._captured.dropped + self._source.counts.overwritten

    @property
    def backend(self) -> str:
        """Name of the backend."""
        return self._session.backend

    def stop(self) -> None:
        """Closes the source; frames that were already read are still processed.

        May be called at any time from another thread or a signal handler; a second call does nothing.
        """
        # A handler may interrupt this method or the end of the iteration, whose locks would then never be released.
        # The flag needs no lock.
        if self._ending:
            return
        self._ending = True
        self._stopping.set()
        self._source.close()

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def __iter__(self) -> Iterator[FrameResult]:
        """Yields the result of every frame that was not dropped, in order.

        Raises what a stage raised, such as EdgefelError for a lost source, after the results of the last frames. Raises
        EdgefelError for a second iteration. Leaving the loop waits for running calls of source, detector and session.
        """
        if self._begun:
            raise EdgefelError("a stream runs once; open its source again and make a new Stream")
        self._begun = True
        stages: dict[str, tuple[Iterable[object], StageQueue[Any]]] = {
            "capture": (self._capture(), self._captured),
            "detect": (map(self._detect, self._captured), self._found),
            "infer": (map(self._infer, self._found), self._judged),
        }
        threads = [
            threading.Thread(target=self._stage, args=stage, name=name, daemon=True)
            for name, stage in stages.items()
        ]
        try:
            for thread in threads:
                thread.start()
            for judged in self._judged:
                yield self._finish(*judged)
            if self._error is not None:
                raise self._error
        finally:
            self._ending = True
            self._stopping.set()
            for queue in (self._captured, self._found, self._judged):
                queue.end(discard=True)
            self._source.close()
            for thread in threads:
                if thread.ident is not None:  # started
                    thread.join()
            self._count_losses()

    def _stage(self, results: Iterable[Item], output: StageQueue[Item]) -> None:
        """Passes on the results of a stage, until they or the next stage end."""
        try:
            for result in results:
                if not output.put(result):
                    break
        except BaseException as error:
            self._error = self._error or error
            self._stopping.set()
        finally:
            output.end()

    def _capture(self) -> Iterator[Frame]:
        most, end = self._options.frames or math.inf, self._options.seconds or math.inf
        began: float | None = None
        while not self._stopping.is_set():
            start = time.monotonic()
            frame = self._source.read()
            if frame is None or frame.index >= most or frame.time >= end:
                return
            self._telemetry.record("capture", time.monotonic() - start)
            self._telemetry.count("captured")
            if self.policy == "latest" and not self._source.live:
                began = start - frame.time if began is None else began
                self._stopping.wait(max(0.0, began + frame.time - time.monotonic()))
                frame = replace(frame, captured=time.monotonic())
            yield frame

    def _detect(self, frame: Frame) -> _Found:
        start = time.perf_counter()
        if not self._options.images and self._is_cut(frame.image):
            frame = replace(frame, cut=True)
            self._detector.reset()
        boxes = self._detector(frame.image)
        found = time.perf_counter()
        faces = framed_faces(frame.image, boxes, self._session)
        self._warn_of_frames(faces)
        self._telemetry.record("detect", found - start)
        self._telemetry.record("align", time.perf_counter() - found)
        return frame, faces

    def _warn_of_frames(self, faces: FoundFaces) -> None:
        """Says once per source that a face cannot be framed as in training."""
        reason = next(filter(None, faces.misframed), None)
        if reason is None or self._warned:
            return
        self._warned = True
        message = (
            f"{self._source.name}: a face with {reason}: not framed as in training, its label is less certain"
        )
        warnings.warn(message, EdgefelWarning, stacklevel=2)

    def _infer(self, found: _Found) -> _Judged:
        frame, faces = found
        predictions = self._session(faces.crops, self._telemetry.record)
        self._telemetry.count("inferences", len(faces.crops))
        start = time.perf_counter()
        pairs = zip(faces.crops, faces.boxes, strict=True)
        qualities = [crop_quality(*pair, self._session) for pair in pairs]
        self._telemetry.record("quality", time.perf_counter() - start)
        return frame, faces, predictions, qualities

    def _finish(
        self, frame: Frame, found: FoundFaces, predictions: Predictions, qualities: Sequence[Quality]
    ) -> FrameResult:
        start = time.perf_counter()
        if frame.cut or self._options.images:
            self._people.reset()
        faces = tuple(self._people.update(frame.time, found, predictions, qualities))
        now = time.monotonic()
        self._ready.append(now)
        elapsed = now - self._ready[0]
        fps = (len(self._ready) - 1) / elapsed if elapsed > 0 else 0.0
        telemetry, latency = self._telemetry, now - frame.captured
        telemetry.record("post", time.perf_counter() - start)
        telemetry.record("total", latency)
        telemetry.count("frames")
        telemetry.count("faces", len(faces))
        telemetry.count("cuts", int(frame.cut))
        telemetry.set("tracks", self._people.count)
        self._count_losses()
        return FrameResult(frame, faces, latency, fps, self._source.name)

    def _count_losses(self) -> None:
        """Adds the losses since the last call to the counters, which the first call creates."""
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
