"""Pictures in, labelled faces out: detection, cropping and one batched call of the session."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgefel.errors import EdgefelError
from edgefel.runtime.faces import FaceBox, FaceDetector, crops
from edgefel.runtime.preprocessing import Image
from edgefel.runtime.session import Session


@dataclass(frozen=True)
class LabelledFace:
    """One face and what the model says of it.

    label: the most probable class after correction. probabilities, primary: by class name, after and
    before correction. confidence: 1 - normalized entropy of `probabilities`.
    """

    box: FaceBox
    label: str
    primary_label: str
    confidence: float
    probabilities: Mapping[str, float]
    primary: Mapping[str, float]

    @property
    def probability(self) -> float:
        """Of the label."""
        return self.probabilities[self.label]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "box": {"x": self.box.x, "y": self.box.y, "width": self.box.side, "height": self.box.side},
            "detection_score": self.box.score,
            "label": self.label,
            "probability": self.probability,
            "confidence": self.confidence,
            "primary_label": self.primary_label,
            "probabilities": dict(self.probabilities),
            "primary": dict(self.primary),
        }


def label_faces(picture: Image, detector: FaceDetector, session: Session) -> list[LabelledFace]:
    """Finds and labels every face of a picture, uint8 RGB [H, W, 3]; an empty list if there is none.

    Raises EdgefelError for a bundle without the output `primary`, which the panel and the JSON show.
    """
    boxes = detector(picture)
    predictions = session(crops(picture, boxes))
    if predictions.primary is None:
        raise EdgefelError(
            f"{session.manifest.folder}: exported without the output primary, which labelling shows; "
            "export it again with it, or read session(crops).probabilities"
        )
    names = session.labels
    faces = []
    for row, box in enumerate(boxes):
        probabilities = {
            name: float(p) for name, p in zip(names, predictions.probabilities[row], strict=True)
        }
        primary = {name: float(p) for name, p in zip(names, predictions.primary[row], strict=True)}
        faces.append(
            LabelledFace(
                box,
                max(probabilities, key=probabilities.__getitem__),
                max(primary, key=primary.__getitem__),
                float(predictions.confidence[row]),
                probabilities,
                primary,
            )
        )
    return faces
