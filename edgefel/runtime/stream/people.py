"""The people of a sequence of frames: tracks, and each one's averaged distributions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from weakref import WeakKeyDictionary

from edgefel.runtime.alignment import FaceBox
from edgefel.runtime.labelling import labelled_face
from edgefel.runtime.quality import Quality
from edgefel.runtime.session import Predictions
from edgefel.runtime.stream.frames import TrackedFace
from edgefel.runtime.stream.smoothing import Smoothed, Smoother
from edgefel.runtime.stream.tracker import Track, Tracker, TrackerOptions


class People:
    """Tracks faces and smooths their distributions; used by one thread.

    labels: class names in the order of the predictions. smoothing: time constant in seconds. min_confidence,
    min_quality: smoothed values below which a face is not sure.
    """

    def __init__(
        self,
        labels: Sequence[str],
        tracker: TrackerOptions,
        smoothing: float,
        min_confidence: float = 0.0,
        min_quality: float = 0.0,
    ) -> None:
        self._labels, self._smoothing = labels, smoothing
        self._min_confidence, self._min_quality = min_confidence, min_quality
        self._tracker = Tracker(tracker)
        # a smoother is dropped with its track
        self._smoothers: WeakKeyDictionary[Track, Smoother] = WeakKeyDictionary()

    @property
    def count(self) -> int:
        """Confirmed tracks."""
        return sum(track.number > 0 for track in self._tracker.tracks)

    def reset(self) -> None:
        """The next frame shows other people."""
        self._tracker.reset()

    def update(
        self, now: float, boxes: Sequence[FaceBox], predictions: Predictions, qualities: Sequence[Quality]
    ) -> Iterator[TrackedFace]:
        """The faces of a frame whose tracks are confirmed, with smoothed distributions. now: time of the frame in
        seconds."""
        assert predictions.primary is not None
        tracks = self._tracker.update(now, boxes, predictions.embedding)
        values = (predictions.probabilities, predictions.primary, predictions.confidence)
        rows = zip(*(value.tolist() for value in values), strict=True)
        for track, box, parts, (shares, primary, confidence) in zip(
            tracks, boxes, qualities, rows, strict=True
        ):
            alone = Smoothed(shares, primary, confidence, parts.overall)
            smoothed = self._smoothers.setdefault(track, Smoother(self._smoothing)).update(now, *alone)
            if track.number:
                sure = smoothed.confidence >= self._min_confidence and smoothed.quality >= self._min_quality
                face, raw = (labelled_face(box, self._labels, *each, parts) for each in (smoothed, alone))
                yield TrackedFace(track.number, face, sure, now - track.began, raw)
