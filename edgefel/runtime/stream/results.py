"""What a stream gives for each frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edgefel.runtime.labelling import LabelledFace
from edgefel.runtime.stream.frames import Frame

UNSURE = "unsure"


@dataclass(frozen=True)
class TrackedFace:
    """A face that is followed from frame to frame.

    track: number of the person, from 1, never given twice. face: box of this frame and the smoothed
    distributions; its label is the most probable class. sure: whether the smoothed confidence reaches the
    threshold. age: seconds since the track began. raw: what the model says of this frame alone.
    """

    track: int
    face: LabelledFace
    sure: bool
    age: float
    raw: LabelledFace

    @property
    def label(self) -> str:
        """What to tell the world: the most probable class, or "unsure"."""
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

    latency: seconds from capture until the result was ready, the wait between stages included; under policy "all"
    that is most of it where a stage is slower than the source. fps: results per second, over the last 60. source:
    its name.
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
