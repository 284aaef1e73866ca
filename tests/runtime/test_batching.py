"""The faces of several images go through the network together; images come back in order, with what they show."""

from __future__ import annotations

import numpy as np
import pytest
from streams import BLUE, RED, SquareDetector, scene

from edgefel.data.images import UnreadableImageError
from edgefel.runtime import batching
from edgefel.runtime.batching import label_in_batches
from edgefel.runtime.labelling import Thresholds, label_faces
from edgefel.runtime.stream.sources import NO_PIXELS, SourceImage

SQUARES = [
    (x, y, 30 + 4 * x // 70, colour)
    for x, y, colour in ((5, 10, RED), (75, 90, BLUE), (150, 20, RED), (230, 100, BLUE))
]
ALBUM = [SourceImage(f"{number}.png", scene(SQUARES[: (3 * number) % 5])) for number in range(12)]


@pytest.mark.parametrize("most", [batching.MOST_WAITING, 3])
def test_faces_of_several_images_are_labelled_in_one_call(session, monkeypatch, most):
    monkeypatch.setattr(batching, "MOST_WAITING", most)
    calls, read, results = [], [], []
    called = type(session).__call__

    def call(self, crops, *rest):
        calls.append(len(crops))
        return called(self, crops, *rest)

    def images():
        for image in ALBUM:
            read.append(image)
            yield image

    with monkeypatch.context() as patched:
        patched.setattr(type(session), "__call__", call)
        for image, faces in label_in_batches(images(), SquareDetector(), session, Thresholds()):
            results.append(faces)
            assert image.image is NO_PIXELS
            assert len(read) - len(results) < most
    assert [faces.source for faces in results] == [image.name for image in ALBUM]
    assert sum(calls) == sum(map(len, results)) > 20
    assert len(calls) < 9 if most == 3 else len(calls) <= 4
    for image, faces in zip(ALBUM, results, strict=True):
        alone = label_faces(image.image, SquareDetector(), session)
        assert [face.box for face in faces] == [face.box for face in alone]
        for one, other in zip(faces, alone, strict=True):
            assert one.top_label == other.top_label
            assert list(one.probabilities.values()) == pytest.approx(
                list(other.probabilities.values()), abs=1e-6
            )


@pytest.mark.parametrize("keep", [True, False])
def test_images_that_wait_are_bounded_by_their_bytes(session, monkeypatch, keep):
    size = 240 * 320 * 3
    kept = []
    waits = batching._enough

    def enough(waiting, faces):
        kept.append(sum(one.of.image.size for one in waiting))
        return waits(waiting, faces)

    monkeypatch.setattr(batching, "_enough", enough)
    monkeypatch.setattr(batching, "MOST_BYTES", 2 * size)
    given = list(label_in_batches(ALBUM, SquareDetector(), session, Thresholds(), keep=keep))
    assert max(kept) == (2 * size if keep else 0)
    if keep:
        assert all(image is one for (image, _), one in zip(given, ALBUM, strict=True))


def test_an_image_that_could_not_be_read_keeps_its_place_and_is_not_searched(session):
    error = UnreadableImageError("broken.png", "is cut off")
    images = [ALBUM[1], SourceImage("broken.png", NO_PIXELS, error=error), ALBUM[2]]
    detector = SquareDetector()
    results = [faces for _, faces in label_in_batches(images, detector, session, Thresholds())]
    assert [(faces.source, len(faces), faces.error) for faces in results] == [
        ("1.png", 3, None),
        ("broken.png", 0, error),
        ("2.png", 1, None),
    ]
    assert detector.calls == 2


def test_a_frame_keeps_its_number_and_time(session):
    frames = [SourceImage("clip.mp4", np.zeros((20, 20, 3), np.uint8), 7, 0.28)]
    ((_, faces),) = label_in_batches(frames, SquareDetector(), session, Thresholds())
    assert faces.to_dict() == {"source": "clip.mp4", "frame": 7, "time": 0.28, "faces": []}


def test_nothing_is_nothing(session):
    assert list(label_in_batches([], SquareDetector(), session, Thresholds())) == []
