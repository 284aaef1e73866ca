"""The people of a sequence of frames: tracks, and each one's averaged distributions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from weakref import WeakKeyDictionary

from edgefel.runtime.labelling import FoundFaces, Thresholds, labelled_face
from edgefel.runtime.quality import Quality
from edgefel.runtime.session import Predictions
from edgefel.runtime.stream.frames import TrackedFace
from edgefel.runtime.stream.smoothing import Smoothed, Smoother
from edgefel.runtime.stream.tracker import Track, Tracker, TrackerOptions


class People:
    """Tracks faces and smooths their distributions; used by one thread.

    labels: class names in the order of the predictions. smoothing: time constant in seconds. thresholds: of smoothed
    values.
    """

    def __init__(
        self,
        labels: Sequence[str],
        tracker: TrackerOptions,
        smoothing: float,
        thresholds: Thresholds,
    ) -> None:
        self._labels, self._smoothing, self._thresholds = labels, smoothing, thresholds
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
        self, now: float, found: FoundFaces, predictions: Predictions, qualities: Sequence[Quality]
    ) -> Iterator[TrackedFace]:
        """The faces of a frame whose tracks are confirmed, with smoothed distributions. now: time of the frame in
        seconds."""
        assert predictions.primary is not None
        tracks = self._tracker.update(now, found.boxes, predictions.embedding)
        values = (predictions.probabilities, predictions.primary, predictions.confidence)
        rows = zip(*(value.tolist() for value in values), strict=True)
        faces = zip(tracks, found.boxes, found.misframed, qualities, rows, strict=True)
        for track, box, reason, parts, (shares, primary, confidence) in faces:
            alone = Smoothed(shares, primary, confidence, parts.overall)
            smoothed = self._smoothers.setdefault(track, Smoother(self._smoothing)).update(now, *alone)
            if track.number:
                sure = self._thresholds.reached(smoothed.quality, smoothed.confidence)
                face, raw = (
                    labelled_face(box, self._labels, *each, parts, misframed=reason)
                    for each in (smoothed, alone)
                )
                yield TrackedFace(track.number, face, sure, now - track.began, raw)
