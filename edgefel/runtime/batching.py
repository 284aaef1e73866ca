"""Labels the faces of several images in one call of the network."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, replace

from edgefel.runtime.faces import FaceDetector
from edgefel.runtime.labelling import NO_FACES, FoundFaces, Thresholds, find_faces, label_found
from edgefel.runtime.results import Faces
from edgefel.runtime.session import Session
from edgefel.runtime.stream.sources import NO_PIXELS, SourceImage

# Images whose faces wait for a batch to fill, and the bytes of their pixels
MOST_WAITING, MOST_BYTES = 32, 256 << 20


@dataclass(frozen=True)
class _Waiting:
    """An image whose faces are found and not labelled. of: without its pixels unless they are kept."""

    of: SourceImage
    found: FoundFaces


def label_in_batches(
    images: Iterable[SourceImage],
    detector: FaceDetector,
    session: Session,
    thresholds: Thresholds,
    *,
    keep: bool = False,
) -> Generator[tuple[SourceImage, Faces], None, None]:
    """Each image with its faces, in order.

    As many faces go through the network in one call as `session.max_batch`; results come once they are labelled, and
    those of images without faces at once, unless others wait. keep: the pixels too; else images come with NO_PIXELS.
    """
    waiting: list[_Waiting] = []
    for image in images:
        found = NO_FACES if image.error is not None else find_faces(image.image, detector, session)
        waiting.append(_Waiting(image if keep else replace(image, image=NO_PIXELS), found))
        if _enough(waiting, session.max_batch):
            yield from _labelled(waiting, session, thresholds)
            waiting = []
    if waiting:
        yield from _labelled(waiting, session, thresholds)


def _labelled(
    waiting: Sequence[_Waiting], session: Session, thresholds: Thresholds
) -> Iterable[tuple[SourceImage, Faces]]:
    labelled = label_found([one.found for one in waiting], session, thresholds)
    for one, faces in zip(waiting, labelled, strict=True):
        of = one.of
        yield of, Faces(of.name, tuple(faces), of.frame, of.time, of.error)


def _enough(waiting: Sequence[_Waiting], faces: int) -> bool:
    """Whether to label: a full batch, a first image without faces, or as much as may be kept in memory."""
    found = sum(len(one.found.boxes) for one in waiting)
    kept = sum(crop.size for one in waiting for crop in (one.of.image, *one.found.crops))
    return found == 0 or found >= faces or len(waiting) >= MOST_WAITING or kept >= MOST_BYTES
