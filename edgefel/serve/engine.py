"""Encoded images in, labelled faces out: the one place where the server uses the runtime.

Images of several clients share one call of the network. A `Follower` is one client's stream: it remembers people, as
`edgefel run` does.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2

from edgefel.data.preprocessing import Image
from edgefel.errors import EdgefelError
from edgefel.runtime.faces import FaceDetector
from edgefel.runtime.labelling import (
    FoundFaces,
    Thresholds,
    crop_quality,
    find_faces,
    framed_faces,
    labelled_faces,
)
from edgefel.runtime.levelling import levelling
from edgefel.runtime.model import Model
from edgefel.runtime.results import LabelledFace
from edgefel.runtime.session import Predictions, Session
from edgefel.runtime.stream.cuts import CutFinder
from edgefel.runtime.stream.frames import TrackedFace
from edgefel.runtime.stream.people import People
from edgefel.runtime.stream.pipeline import StreamOptions
from edgefel.runtime.stream.search import AdaptiveDetector
from edgefel.runtime.telemetry.telemetry import FRAMES, INFERENCES, Telemetry
from edgefel.serve.images import decode_image
from edgefel.serve.limits import Limits
from edgefel.serve.problems import Problem
from edgefel.text import one_line

# images whose faces go through the network together
MOST_TOGETHER = 8


@dataclass(frozen=True)
class Work:
    """One image to label.

    data: encoded. follower: of the stream it belongs to; None for an image of its own. at: time of the frame in that
    stream, in seconds. asked: `time.monotonic()` when it was received.
    """

    data: bytes
    follower: Follower | None = None
    at: float = 0.0
    asked: float = field(default_factory=time.monotonic)


@dataclass(frozen=True)
class Answer:
    """The faces of an image, the largest first.

    size: its width and height. cut: it begins a new shot. stages: seconds by stage; those of the network are of all
    images that shared the call.
    """

    faces: Sequence[LabelledFace | TrackedFace]
    size: tuple[int, int]
    cut: bool
    stages: dict[str, float]


@dataclass
class _Started:
    work: Work
    size: tuple[int, int]
    found: FoundFaces
    cut: bool
    stages: dict[str, float]


class Follower:
    """One client's stream of frames: people, cuts, and where faces were. Used by the engine's thread alone."""

    def __init__(self, session: Session, detector: FaceDetector, options: StreamOptions) -> None:
        self._session = session
        self._detector = AdaptiveDetector(levelling(detector, session.manifest.framing), options.detect_every)
        self._is_cut = CutFinder()
        thresholds = Thresholds(options.min_quality, options.min_confidence)
        self.people = People(session.labels, options.tracker, options.smoothing, thresholds)

    def find(self, image: Image, stages: dict[str, float]) -> tuple[FoundFaces, bool]:
        """The faces of the next frame, and whether it begins a new shot."""
        start = time.perf_counter()
        if cut := self._is_cut(image):
            self._detector.reset()
            self.people.reset()
        boxes = self._detector(image)
        found = time.perf_counter()
        faces = framed_faces(image, boxes, self._session)
        stages["detect"], stages["align"] = found - start, time.perf_counter() - found
        return faces, cut

    def finish(self, now: float, found: FoundFaces, predictions: Predictions) -> list[TrackedFace]:
        """The faces of a frame, whose people are known since at least the frame before."""
        pairs = zip(found.crops, found.boxes, strict=True)
        qualities = [crop_quality(crop, box, self._session) for crop, box in pairs]
        return list(self.people.update(now, found, predictions, qualities))


class Engine:
    """Labels images; `label` is called by one thread.

    options: of streams; the thresholds `min_quality` and `min_confidence` of images too.
    """

    def __init__(self, model: Model, options: StreamOptions, limits: Limits, telemetry: Telemetry) -> None:
        self.model, self.options, self.limits, self.telemetry = model, options, limits, telemetry
        self._session, self._detector = model.session, model.take_detector()

    def follow(self) -> Follower:
        """A new stream of a client."""
        return Follower(self._session, self._detector, self.options)

    def describe(self) -> dict[str, Any]:
        """The network and the detector, as `GET /v1/model` gives them."""
        session = self._session
        return {
            "name": session.manifest.folder.name,
            "labels": list(session.labels),
            "file": session.file.name,
            "precision": session.precision,
            "backend": session.backend,
            "threads": session.threads,
            "detector": self.model.detector,
            "min_quality": self.options.min_quality,
            "min_confidence": self.options.min_confidence,
            "smoothing": self.options.smoothing,
        }

    def label(self, works: Sequence[Work]) -> list[Answer | Exception]:
        """An answer for each work, or what went wrong with it; the faces of all go through the network in one call."""
        started: list[_Started | Exception] = []
        for work in works:
            try:
                started.append(self._start(work))
            except (Problem, EdgefelError, cv2.error, MemoryError) as error:
                started.append(_problem(error))
            except Exception as error:  # only this client's answer is lost
                started.append(error)
        good = [one for one in started if isinstance(one, _Started)]
        try:
            answers = iter(self._finish(good))
        except Exception as error:  # of the network: nobody's answer is known
            return [one if isinstance(one, Exception) else error for one in started]
        return [one if isinstance(one, Exception) else next(answers) for one in started]

    def _start(self, work: Work) -> _Started:
        stages = {"wait": time.monotonic() - work.asked}
        start = time.perf_counter()
        image = decode_image(work.data, self.limits)
        begun = time.perf_counter()
        stages["decode"] = begun - start
        if work.follower is not None:
            found, cut = work.follower.find(image, stages)
        else:
            found, cut = find_faces(image, self._detector, self._session), False
            stages["detect"] = time.perf_counter() - begun
        # not the image itself: only one is in memory at a time
        return _Started(work, (image.shape[1], image.shape[0]), found, cut, stages)

    def _finish(self, started: Sequence[_Started]) -> list[Answer]:
        spent: dict[str, float] = {}

        def record(stage: str, seconds: float) -> None:
            spent[stage] = spent.get(stage, 0.0) + seconds

        faces = [crop for one in started for crop in one.found.crops]
        predictions = self._session(faces, record)
        answers, at = [], 0
        for one in started:
            count = len(one.found.boxes)
            own = _rows(predictions, slice(at, at + count))
            at += count
            answers.append(self._answer(one, own, spent))
        self.telemetry.count(INFERENCES, len(faces))
        return answers

    def _answer(self, one: _Started, predictions: Predictions, spent: dict[str, float]) -> Answer:
        start = time.perf_counter()
        work, found = one.work, one.found
        labelled: Sequence[LabelledFace | TrackedFace]
        if work.follower is not None:
            labelled = work.follower.finish(work.at, found, predictions)
        else:
            thresholds = Thresholds(self.options.min_quality, self.options.min_confidence)
            labelled = labelled_faces(found.boxes, found.crops, predictions, self._session, thresholds)
        stages = one.stages | spent
        stages["post"] = time.perf_counter() - start
        stages["total"] = time.monotonic() - work.asked
        for stage, seconds in stages.items():
            self.telemetry.record(stage, max(0.0, seconds))
        self.telemetry.count(FRAMES)
        self.telemetry.count("faces", len(labelled))
        return Answer(labelled, one.size, one.cut, stages)


def _rows(predictions: Predictions, rows: slice) -> Predictions:
    values: list[Any] = [None if value is None else value[rows] for value in predictions]
    return Predictions(*values)


def _problem(error: Exception) -> Problem:
    if isinstance(error, Problem):
        return error
    return Problem(422, "unreadable-image", f"The image cannot be labelled: {one_line(error)}.")


Labeller = Callable[[Sequence[Work]], "list[Answer | Exception]"]
