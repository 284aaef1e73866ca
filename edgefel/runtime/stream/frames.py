"""Frames, the interface of their sources (cameras, streams, videos and folders), and the results of a stream."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from edgefel.data.preprocessing import Image
from edgefel.runtime.alignment import FaceBox
from edgefel.runtime.eyes import Eyes
from edgefel.runtime.quality import Quality
from edgefel.runtime.results import UNSURE, LabelledFace, flat_row, shown_label
from edgefel.text import printable


@dataclass(frozen=True)
class Frame:
    """One image of a source.

    index: position in the source, from 0; missing numbers were dropped or lost. time: seconds since the first frame, by
    the file's clock, or by this machine's for a live source. image: uint8 RGB [H, W, 3]. captured: `time.monotonic()`
    when it was read. name: path of an image in a folder. cut: it begins a new shot, with other people.
    """

    index: int
    time: float
    image: Image
    captured: float
    name: str | None = None
    cut: bool = False


@dataclass
class SourceCounts:
    """Losses of a source so far.

    unreadable: frames that could not be decoded. reconnects: how often a live source was reopened.
    resolution_changes: how often the frame size changed. missing: frames that a file announces but does not contain,
    known at its end. overwritten: frames of a live source that were replaced before they were read.
    """

    unreadable: int = 0
    reconnects: int = 0
    resolution_changes: int = 0
    missing: int = 0
    overwritten: int = 0


class FrameSource(Protocol):
    """A source of frames. One thread reads it; another may call `close`, which ends a waiting `read`.

    live: frames arrive whether or not they are read. fps: frames per second, 0 if unknown. frames: the expected number,
    0 if unknown or endless. name: as given by the user, without a password. description: the name with what was found,
    such as "camera 0 (640x480, 30 fps)".
    """

    live: bool
    fps: float
    frames: int
    counts: SourceCounts
    name: str
    description: str

    def read(self) -> Frame | None:
        """The next frame; None at the end of the source and after `close`.

        Raises EdgefelError if a live source failed and could not be reopened.
        """

    def close(self) -> None:
        """Releases the device; a second call does nothing."""


@dataclass(frozen=True, repr=False)
class TrackedFace:
    """A face that is tracked across frames. It has the attributes of `face`.

    track: number of the person, from 1, never reused. face: the box in this frame with the smoothed distributions.
    sure: whether the smoothed confidence and quality reach their thresholds. age: seconds since the track began. raw:
    the unsmoothed prediction for this frame.
    """

    track: int
    face: LabelledFace
    sure: bool
    age: float
    raw: LabelledFace

    @property
    def label(self) -> str:
        """The most probable class, or "unsure"."""
        return self.face.top_label if self.sure else UNSURE

    @property
    def top_label(self) -> str:
        """The most probable class."""
        return self.face.top_label

    @property
    def primary_label(self) -> str:
        """The most probable class before correction."""
        return self.face.primary_label

    @property
    def probability(self) -> float:
        """Of `top_label`, 0 to 1."""
        return self.face.probability

    @property
    def probabilities(self) -> Mapping[str, float]:
        """By class name, after correction, smoothed."""
        return self.face.probabilities

    @property
    def primary(self) -> Mapping[str, float]:
        """By class name, before correction, smoothed."""
        return self.face.primary

    @property
    def confidence(self) -> float:
        """1 - normalized entropy of `probabilities`."""
        return self.face.confidence

    @property
    def quality(self) -> float | None:
        """0 to 1, smoothed."""
        return self.face.quality

    @property
    def quality_parts(self) -> Quality | None:
        """Of this frame."""
        return self.face.quality_parts

    @property
    def box(self) -> FaceBox:
        """In pixels of this frame."""
        return self.face.box

    @property
    def eyes(self) -> Eyes | None:
        """(x, y) of both in pixels of this frame; None if they were not found."""
        return self.face.eyes

    @property
    def misframed(self) -> str | None:
        """Why the face of this frame could not be framed as in training; None if it could."""
        return self.face.misframed

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "track": self.track,
            "age": round(self.age, 3),
            **self.face.to_dict(),
            "label": self.label,
            "top_label": self.face.top_label,
            "raw_label": self.raw.top_label,
            "raw_probability": self.raw.probability,
            "raw_confidence": self.raw.confidence,
            "raw_quality": None if self.raw.quality is None else round(self.raw.quality, 3),
        }

    def __repr__(self) -> str:
        return f"<TrackedFace person {self.track}: {shown_label(self.label, self.face)}>"


@dataclass(frozen=True, repr=False)
class FrameResult:
    """The faces of one frame.

    latency: seconds from capture to result, including the wait between stages, which dominates under policy "all" if a
    stage is slower than the source. fps: results per second over the last 60 results. source: its name.
    """

    frame: Frame
    faces: tuple[TrackedFace, ...]
    latency: float
    fps: float
    source: str

    @property
    def image(self) -> Image:
        """uint8 RGB [H, W, 3]."""
        return self.frame.image

    @property
    def index(self) -> int:
        """Position in the source, from 0; missing numbers were dropped or lost."""
        return self.frame.index

    @property
    def time(self) -> float:
        """Seconds since the first frame."""
        return self.frame.time

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; one line of `edgefel run --json`."""
        return self._place() | {"faces": [face.to_dict() for face in self.faces]}

    def to_dicts(self) -> list[dict[str, Any]]:
        """A flat dict for each face, for a table: see `flat_row`."""
        return [flat_row(self._place(), face.face, face.to_dict()) for face in self.faces]

    def __repr__(self) -> str:
        faces = ", ".join(f"person {face.track} {shown_label(face.label, face.face)}" for face in self.faces)
        source = printable(self.frame.name or self.source, lines=False)
        return f"<FrameResult {source} #{self.index} at {self.time:.2f} s: {faces or 'no face'}>"

    def _place(self) -> dict[str, Any]:
        return {
            "source": self.frame.name or self.source,
            "frame": self.frame.index,
            "time": round(self.frame.time, 4),
            "latency_ms": round(1e3 * self.latency, 2),
            "cut": self.frame.cut,
        }
