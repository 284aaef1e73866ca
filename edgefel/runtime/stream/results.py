"""The result of a stream for each frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edgefel.runtime.labelling import LabelledFace
from edgefel.runtime.stream.frames import Frame

UNSURE = "unsure"


@dataclass(frozen=True)
class TrackedFace:
    """A face that is tracked across frames.

    track: number of the person, from 1, never reused. face: the box in this frame with the smoothed distributions; its
    label is the most probable class. sure: whether the smoothed confidence reaches the threshold. age: seconds since
    the track began. raw: the unsmoothed prediction for this frame.
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
            "faces": [face.to_dict() for face in self.faces],
        }
