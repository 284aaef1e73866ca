"""What is known of a face and of an image: labels, distributions, quality; as text, JSON and rows of a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, overload

from edgefel.errors import EdgefelError
from edgefel.runtime.alignment import FaceBox
from edgefel.runtime.eyes import Eyes
from edgefel.runtime.quality import Quality
from edgefel.text import counted, printable

UNSURE = "unsure"


@dataclass(frozen=True, repr=False)
class LabelledFace:
    """One face and its predictions.

    top_label: the most probable class after correction. primary_label: the same before it. probabilities, primary: by
    class name, after and before correction. confidence: 1 - normalized entropy of `probabilities`. quality: of the
    face, 0 to 1, and its parts; None where it was not measured. sure: whether quality and confidence reach their
    thresholds. size: width and height of a whole image that is a face; None where the model saw the box. misframed: why
    the face could not be framed as in training, which makes the label less certain; None if it could.
    """

    box: FaceBox
    top_label: str
    primary_label: str
    confidence: float
    probabilities: Mapping[str, float]
    primary: Mapping[str, float]
    quality: float | None = None
    quality_parts: Quality | None = None
    sure: bool = True
    size: tuple[int, int] | None = None
    misframed: str | None = None

    @property
    def label(self) -> str:
        """`top_label`, or "unsure"."""
        return self.top_label if self.sure else UNSURE

    @property
    def probability(self) -> float:
        """Of `top_label`, 0 to 1."""
        return self.probabilities[self.top_label]

    @property
    def eyes(self) -> Eyes | None:
        """(x, y) of both in pixels of the image, the one on its left first; None if they were not found."""
        return self.box.eyes

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        x, y, width, height = self._extent()
        return {
            "box": {"x": x, "y": y, "width": width, "height": height},
            "detection_score": self.box.score,
            "label": self.label,
            "top_label": self.top_label,
            "probability": self.probability,
            "confidence": self.confidence,
            "quality": None if self.quality is None else round(self.quality, 3),
            "quality_parts": None if self.quality_parts is None else self.quality_parts.to_dict(),
            "primary_label": self.primary_label,
            "probabilities": dict(self.probabilities),
            "primary": dict(self.primary),
        }

    def __str__(self) -> str:
        x, y, width, height = self._extent()
        quality = "" if self.quality is None else f", quality {self.quality:.2f}"
        numbers = f"confidence {self.confidence:.2f}{quality}"
        return f"{shown_label(self.label, self)}  {numbers}  {width}x{height} at {x},{y}"

    def __repr__(self) -> str:
        return f"<LabelledFace {self}>"

    def _extent(self) -> tuple[int, int, int, int]:
        """Left, top, width and height of what the model saw."""
        if self.size is not None:
            return (0, 0, *self.size)
        return self.box.x, self.box.y, self.box.side, self.box.side


def shown_label(label: str, face: LabelledFace) -> str:
    """A label with its probability, "anger 93.2%", or "unsure: anger 93.2%"."""
    doubt = "" if label == face.top_label else f"{label}: "
    return f"{doubt}{face.top_label} {face.probability:.1%}"


@dataclass(frozen=True, repr=False)
class Faces(Sequence[LabelledFace]):
    """The faces of one image, in the detector's order: the largest first. Empty if it shows none.

    source: path of the image, or of the video; None for an array. frame: number of the video frame from 0, and time:
    its time in seconds; None for images. error: why the image could not be read; None if it could.
    """

    source: str | None
    faces: tuple[LabelledFace, ...]
    frame: int | None = None
    time: float | None = None
    error: EdgefelError | None = None

    @overload
    def __getitem__(self, index: int) -> LabelledFace: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[LabelledFace, ...]: ...

    def __getitem__(self, index: int | slice) -> LabelledFace | tuple[LabelledFace, ...]:
        return self.faces[index]

    def __len__(self) -> int:
        return len(self.faces)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, one line of `edgefel predict --json`; a video's frames also have `frame` and `time`."""
        return self._place() | {"faces": [face.to_dict() for face in self.faces]}

    def to_dicts(self) -> list[dict[str, Any]]:
        """A flat dict for each face, for a table: see `flat_row`."""
        return [flat_row(self._place(), face) for face in self.faces]

    def __str__(self) -> str:
        name = "image" if self.source is None else printable(self.source, lines=False)
        if self.frame is not None:
            name += f" #{self.frame}"
        if self.error is not None:
            return f"{name}: not read"
        return "\n  ".join((f"{name}: {counted(len(self), 'face')}", *map(str, self.faces)))

    def __repr__(self) -> str:
        name, *_ = str(self).split("\n")
        labels = ", ".join(shown_label(face.label, face) for face in self.faces)
        return f"<Faces {name}{' ' * bool(labels)}{labels}>"

    def _place(self) -> dict[str, Any]:
        place: dict[str, Any] = {"source": self.source}
        return place if self.frame is None else place | {"frame": self.frame, "time": self.time}


def flat_row(
    place: Mapping[str, Any], face: LabelledFace, values: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """One row of a table: `place`, then what `to_dict` says of a face, without its nested dicts.

    The box becomes `x`, `y`, `width` and `height`, the eyes `left_eye_x` to `right_eye_y` (the image's left), the
    distributions `p_` and `primary_` with the name of each class, the quality's parts `quality_` with theirs. What is
    not known is None. values: the face as a dict, where it has more than `face.to_dict()`.
    """
    said = dict(face.to_dict() if values is None else values)
    box, parts = said.pop("box"), said.pop("quality_parts")
    probabilities, primary = said.pop("probabilities"), said.pop("primary")
    (left_x, left_y), (right_x, right_y) = face.eyes or ((None, None), (None, None))
    return {
        **place,
        **said,
        **box,
        "left_eye_x": left_x,
        "left_eye_y": left_y,
        "right_eye_x": right_x,
        "right_eye_y": right_y,
        **{f"quality_{name}": value for name, value in (parts or {}).items()},
        **{f"p_{name}": value for name, value in probabilities.items()},
        **{f"primary_{name}": value for name, value in primary.items()},
    }
