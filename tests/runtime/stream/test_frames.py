"""What a result says as JSON."""

from __future__ import annotations

import numpy as np
import pytest

from edgefel.runtime.alignment import FaceBox
from edgefel.runtime.results import LabelledFace
from edgefel.runtime.stream.frames import Frame, FrameResult, TrackedFace


def labelled(label: str, probability: float, confidence: float) -> LabelledFace:
    probabilities = {"neutral": 1 - probability, "anger": 1 - probability} | {label: probability}
    return LabelledFace(FaceBox(3, 5, 40, 12.5), label, "neutral", confidence, probabilities, probabilities)


def tracked(*, sure: bool) -> TrackedFace:
    return TrackedFace(7, labelled("anger", 0.75, 0.5), sure, 1.23456, labelled("neutral", 0.625, 0.25))


@pytest.mark.parametrize(("sure", "label"), [(True, "anger"), (False, "unsure")])
def test_a_face_has_its_average_and_what_the_frame_alone_shows(sure, label):
    face = tracked(sure=sure)
    document = face.to_dict()
    assert (face.label, document["label"], document["top_label"]) == (label, label, "anger")
    assert (document["track"], document["age"]) == (7, 1.235)
    assert (document["probability"], document["confidence"]) == (0.75, 0.5)
    assert document["probabilities"] == {"neutral": 0.25, "anger": 0.75}
    assert document["raw_label"] == "neutral"
    assert (document["raw_probability"], document["raw_confidence"]) == (0.625, 0.25)
    assert document["box"] == {"x": 3, "y": 5, "width": 40, "height": 40}


@pytest.mark.parametrize(("name", "source"), [(None, "camera 0"), ("faces/a.png", "faces/a.png")])
def test_a_line_names_the_image_or_else_the_source(name, source):
    frame = Frame(12, 0.123456, np.zeros((4, 4, 3), np.uint8), 0.0, name)
    document = FrameResult(frame, (tracked(sure=True),), 0.0123456, 30.0, "camera 0").to_dict()
    assert document == {
        "source": source,
        "frame": 12,
        "time": 0.1235,
        "latency_ms": 12.35,
        "cut": False,
        "faces": [tracked(sure=True).to_dict()],
    }
