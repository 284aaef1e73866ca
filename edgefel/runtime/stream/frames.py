"""Frames, the interface of their sources (cameras, streams, videos and folders), and the results of a stream."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from edgefel.data.preprocessing import Image
from edgefel.runtime.labelling import UNSURE, LabelledFace


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


@dataclass(frozen=True)
class TrackedFace:
    """A face that is tracked across frames.

    track: number of the person, from 1, never reused. face: the box in this frame with the smoothed distributions; its
    label is the most probable class. sure: whether the smoothed confidence and quality reach their thresholds. age:
    seconds since the track began. raw: the unsmoothed prediction for this frame.
    """

    track: int
    face: LabelledFace
    sure: bool
    age: float
    raw: LabelledFace

    @property
    def label(self) -> str:
        """The most probable class, or "unsure"."""
        return self.face.label if self.sure else UNSURE

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "track": self.track,
            "age": round(self.age, 3),
            **self.face.to_dict(),
            "label": self.label,
            "top_label": self.face.label,
            "raw_label": self.raw.label,
            "raw_probability": self.raw.probability,
            "raw_confidence": self.raw.confidence,
            "raw_quality": None if self.raw.quality is None else round(self.raw.quality, 3),
        }


@dataclass(frozen=True)
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

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; one line of `edgefel run --json`."""
        return {
            "source": self.frame.name or self.source,
            "frame": self.frame.index,
            "time": round(self.frame.time, 4),
            "latency_ms": round(1e3 * self.latency, 2),
            "cut": self.frame.cut,
            "faces": [face.to_dict() for face in self.faces],
        }
