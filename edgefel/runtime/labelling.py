"""Images in, labelled faces out: detection, cropping and one batched call of the session."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from edgefel.data.preprocessing import Image
from edgefel.errors import EdgefelError
from edgefel.runtime.alignment import FaceBox
from edgefel.runtime.faces import FaceDetector, WholeImage, crops
from edgefel.runtime.levelling import levelling
from edgefel.runtime.quality import Quality, face_quality
from edgefel.runtime.session import Predictions, Session

UNSURE = "unsure"


@dataclass(frozen=True)
class LabelledFace:
    """One face and its predictions.

    label: the most probable class after correction. probabilities, primary: by class name, after and
    before correction. confidence: 1 - normalized entropy of `probabilities`. quality: of the face, 0 to 1, and its
    parts; None where it was not measured. sure: whether the quality reaches the threshold. size: width and height of a
    whole image that is a face; None where the model saw the box.
    """

    box: FaceBox
    label: str
    primary_label: str
    confidence: float
    probabilities: Mapping[str, float]
    primary: Mapping[str, float]
    quality: float | None = None
    quality_parts: Quality | None = None
    sure: bool = True
    size: tuple[int, int] | None = None

    @property
    def probability(self) -> float:
        """Of the label."""
        return self.probabilities[self.label]

    @property
    def shown(self) -> str:
        """The label, or "unsure"."""
        return self.label if self.sure else UNSURE

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        x, y, width, height = (self.box.x, self.box.y, self.box.side, self.box.side)
        if self.size is not None:
            x, y, width, height = (0, 0, *self.size)
        return {
            "box": {"x": x, "y": y, "width": width, "height": height},
            "detection_score": self.box.score,
            "label": self.shown,
            "top_label": self.label,
            "probability": self.probability,
            "confidence": self.confidence,
            "quality": None if self.quality is None else round(self.quality, 3),
            "quality_parts": None if self.quality_parts is None else self.quality_parts.to_dict(),
            "primary_label": self.primary_label,
            "probabilities": dict(self.probabilities),
            "primary": dict(self.primary),
        }


def label_faces(
    image: Image, detector: FaceDetector, session: Session, min_quality: float = 0.0
) -> list[LabelledFace]:
    """Finds and labels every face of an image, uint8 RGB [H, W, 3]; an empty list if there is none.

    Faces are framed, and turned ones brought level, as the bundle's `framing` says; without one, as the detector has
    them. Where YuNet finds none, it searches turned copies of the image. min_quality: faces of a lower quality are not
    sure.

    Raises EdgefelError for a bundle without the output `primary`, which the panel and the JSON show.
    """
    return label_found([find_faces(image, detector, session)], session, min_quality)[0]


@dataclass(frozen=True)
class FoundFaces:
    """The faces of one image before they are labelled. crops: uint8 RGB [side, side, 3], as the session takes them.
    size: of a whole image that is a face."""

    boxes: Sequence[FaceBox]
    crops: Sequence[Image]
    size: tuple[int, int] | None = None


def find_faces(image: Image, detector: FaceDetector, session: Session) -> FoundFaces:
    """The first half of `label_faces`. Raises what that raises."""
    check_labelling(session)
    manifest = session.manifest
    boxes = levelling(detector, manifest.framing, copies=True)(image)
    if isinstance(detector, WholeImage):
        # a crop is resized as it is, as evaluation and training do with it; the square of a box would cut its ends off
        return FoundFaces(boxes, [image], (image.shape[1], image.shape[0]))
    return FoundFaces(boxes, crops(image, boxes, manifest.preprocessing.resize, manifest.framing))


def label_found(
    found: Sequence[FoundFaces], session: Session, min_quality: float = 0.0
) -> list[list[LabelledFace]]:
    """The second half of `label_faces`, of several images in one call of the session."""
    boxes = [box for one in found for box in one.boxes]
    faces = [crop for one in found for crop in one.crops]
    labelled = iter(labelled_faces(boxes, faces, session(faces), session, min_quality))
    return [[replace(next(labelled), size=one.size) for _ in one.boxes] for one in found]


def labelled_faces(
    boxes: Sequence[FaceBox],
    faces: Sequence[Image],
    predictions: Predictions,
    session: Session,
    min_quality: float = 0.0,
) -> list[LabelledFace]:
    """The faces of N boxes, from their crops and what the session predicts for these."""
    assert predictions.primary is not None
    outputs = (predictions.probabilities, predictions.primary, predictions.confidence)
    rows = zip(boxes, faces, *(output.tolist() for output in outputs), strict=True)
    labelled = []
    for box, crop, probabilities, primary, confidence in rows:
        parts = crop_quality(crop, box, session)
        values = probabilities, primary, confidence, parts.overall
        face = labelled_face(box, session.labels, *values, parts)
        labelled.append(replace(face, sure=parts.overall >= min_quality))
    return labelled


def crop_quality(crop: Image, box: FaceBox, session: Session) -> Quality:
    """How well a face can be read by the network of a session. crop: as `crops` gives it."""
    return face_quality(crop, box, session.manifest.preprocessing.output_size)


def labelled_face(
    box: FaceBox,
    names: Sequence[str],
    probabilities: list[float],
    primary: list[float],
    confidence: float,
    quality: float | None = None,
    parts: Quality | None = None,
) -> LabelledFace:
    """The face of a box from the model's distributions, [C] each, in the order of `names`.

    Lists, since NumPy's calls take longer than the search among a handful of numbers.
    """
    return LabelledFace(
        box,
        names[probabilities.index(max(probabilities))],
        names[primary.index(max(primary))],
        confidence,
        dict(zip(names, probabilities, strict=True)),
        dict(zip(names, primary, strict=True)),
        quality,
        parts,
    )


def check_labelling(session: Session) -> None:
    """Raises EdgefelError for a bundle without the output `primary`."""
    if "primary" not in session.manifest.outputs:
        raise EdgefelError(
            f"{session.manifest.folder}: exported without the output primary, which labelling shows; "
            "export it again with it, or read session(crops).probabilities"
        )
