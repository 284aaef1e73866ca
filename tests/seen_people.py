"""People of a stream as a script says: frames, tracked faces and their results, without a network."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from edgefel.data.preprocessing import Image
from edgefel.runtime.alignment import FaceBox
from edgefel.runtime.labelling import labelled_face
from edgefel.runtime.stream.frames import Frame, FrameResult, TrackedFace

LABELS = ("neutral", "happiness", "anger")
# a person's label over time: (begin, end, label) in seconds; without one, nobody is there
Script = Sequence[tuple[float, float, str]]


def tracked(
    track: int,
    label: str,
    probability: float = 0.8,
    *,
    sure: bool = True,
    quality: float | None = 0.9,
    confidence: float = 0.6,
    box: FaceBox | None = None,
) -> TrackedFace:
    """A face with this label, or with it as the best guess."""
    rest = (1 - probability) / (len(LABELS) - 1)
    shares = [probability if name == label else rest for name in LABELS]
    face = labelled_face(box or FaceBox(10 * track, 20, 40), LABELS, shares, shares, confidence, quality)
    return TrackedFace(track, face, sure, 0.0, face)


def result_at(
    index: int,
    time: float,
    faces: Iterable[TrackedFace] = (),
    *,
    cut: bool = False,
    image: Image | None = None,
) -> FrameResult:
    """One frame."""
    pixels = np.zeros((120, 160, 3), np.uint8) if image is None else image
    return FrameResult(Frame(index, time, pixels, 0.0, None, cut), tuple(faces), 0.01, 10.0, "memory")


def played(
    people: Sequence[Script], seconds: float, fps: float = 10.0, cuts: Sequence[float] = ()
) -> Iterator[FrameResult]:
    """The frames of a script, with person 1, 2, ... in its order; "unsure" is a face that is not sure."""
    marks = {round(cut * fps) for cut in cuts}
    for index in range(round(seconds * fps)):
        time = index / fps
        faces = [
            tracked(number, "happiness" if label == "unsure" else label, sure=label != "unsure")
            for number, script in enumerate(people, 1)
            for begin, end, label in script
            if begin <= time + 1e-9 < end
        ]
        yield result_at(index, time, faces, cut=index in marks)
