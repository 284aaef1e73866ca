"""Images in, labelled faces out: detection, cropping and one batched call of the session."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from edgefel.data.preprocessing import Image
from edgefel.errors import EdgefelError
from edgefel.runtime.alignment import FaceBox, misframed
from edgefel.runtime.faces import FaceDetector, WholeImage, crops
from edgefel.runtime.levelling import levelling
from edgefel.runtime.quality import Quality, check_least, face_quality
from edgefel.runtime.results import LabelledFace
from edgefel.runtime.session import Predictions, Session


def label_faces(
    image: Image, detector: FaceDetector, session: Session, min_quality: float = 0.0
) -> list[LabelledFace]:
    """Finds and labels every face of an image, uint8 RGB [H, W, 3]; an empty list if there is none.

    Faces are framed, and turned ones brought level, as the bundle's `framing` says; without one, as the detector has
    them. Where YuNet finds none, it searches turned copies of the image. min_quality: faces of a lower quality are not
    sure.

    Raises EdgefelError for a bundle without the output `primary`, which the panel and the JSON show.
    """
    return label_found([find_faces(image, detector, session)], session, Thresholds(min_quality))[0]


@dataclass(frozen=True)
class Thresholds:
    """Quality and confidence, 0 to 1, below which a face is not sure. Raises EdgefelError for other values."""

    min_quality: float = 0.0
    min_confidence: float = 0.0

    def __post_init__(self) -> None:
        check_least(self.min_quality)
        if not 0 <= self.min_confidence <= 1:  # NaN too
            raise EdgefelError(f"min_confidence is {self.min_confidence}; give a number from 0 to 1")

    def reached(self, quality: float, confidence: float) -> bool:
        """Whether a face is sure."""
        return quality >= self.min_quality and confidence >= self.min_confidence


@dataclass(frozen=True)
class FoundFaces:
    """The faces of one image before they are labelled. crops: uint8 RGB [side, side, 3], as the session takes them.
    misframed: of each, as of `LabelledFace`. size: of a whole image that is a face."""

    boxes: Sequence[FaceBox]
    crops: Sequence[Image]
    misframed: Sequence[str | None]
    size: tuple[int, int] | None = None


NO_FACES = FoundFaces((), (), ())


def find_faces(image: Image, detector: FaceDetector, session: Session) -> FoundFaces:
    """The first half of `label_faces`. Raises what that raises."""
    check_labelling(session)
    boxes = levelling(detector, session.manifest.framing, copies=True)(image)
    if isinstance(detector, WholeImage):
        # a crop is resized as it is, as evaluation and training do with it; the square of a box would cut its ends off
        return FoundFaces(boxes, [image], [None], (image.shape[1], image.shape[0]))
    return framed_faces(image, boxes, session)


def framed_faces(image: Image, boxes: Sequence[FaceBox], session: Session) -> FoundFaces:
    """The faces in the boxes of a detector, framed as the bundle says."""
    manifest = session.manifest
    reasons = [why_misframed(image, box, session) for box in boxes]
    return FoundFaces(boxes, crops(image, boxes, manifest.preprocessing.resize, manifest.framing), reasons)


def label_found(
    found: Sequence[FoundFaces], session: Session, thresholds: Thresholds
) -> list[list[LabelledFace]]:
    """The second half of `label_faces`, of several images in one call of the session."""
    boxes = [box for one in found for box in one.boxes]
    faces = [crop for one in found for crop in one.crops]
    labelled = iter(labelled_faces(boxes, faces, session(faces), session, thresholds))
    return [
        [replace(next(labelled), size=one.size, misframed=reason) for reason in one.misframed]
        for one in found
    ]


def labelled_faces(
    boxes: Sequence[FaceBox],
    faces: Sequence[Image],
    predictions: Predictions,
    session: Session,
    thresholds: Thresholds,
) -> list[LabelledFace]:
    """The faces of N boxes, from their crops and what the session predicts for these."""
    assert predictions.primary is not None
    outputs = (predictions.probabilities, predictions.primary, predictions.confidence)
    rows = zip(boxes, faces, *(output.tolist() for output in outputs), strict=True)
    labelled = []
    for box, crop, probabilities, primary, confidence in rows:
        parts = crop_quality(crop, box, session)
        values = probabilities, primary, confidence, parts.overall
        sure = thresholds.reached(parts.overall, confidence)
        labelled.append(labelled_face(box, session.labels, *values, parts, sure=sure))
    return labelled


def crop_quality(crop: Image, box: FaceBox, session: Session) -> Quality:
    """How well a face can be read by the network of a session. crop: as `crops` gives it."""
    return face_quality(crop, box, session.manifest.preprocessing.output_size)


def why_misframed(image: Image, box: FaceBox, session: Session) -> str | None:
    """Why a face cannot be framed as in the training of a session's network; None if it can, or is not framed."""
    framing = session.manifest.framing
    return None if framing is None else misframed(image, box, framing)


def labelled_face(
    box: FaceBox,
    names: Sequence[str],
    probabilities: list[float],
    primary: list[float],
    confidence: float,
    quality: float | None = None,
    parts: Quality | None = None,
    *,
    sure: bool = True,
    misframed: str | None = None,
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
        sure,
        misframed=misframed,
    )


def check_labelling(session: Session) -> None:
    """Raises EdgefelError for a bundle without the output `primary`."""
    if "primary" not in session.manifest.outputs:
        raise EdgefelError(
            f"{session.manifest.folder}: exported without the output primary, which labelling shows; "
            "export it again with it, or read session(crops).probabilities"
        )
