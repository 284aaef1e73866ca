"""Faces of an image with the session's predictions, in the detector's order."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from streams import BLUE, GREEN, RED, SquareDetector, scene

from edgefel.errors import EdgefelError
from edgefel.runtime.alignment import FaceBox
from edgefel.runtime.faces import WholeImage
from edgefel.runtime.labelling import label_faces, labelled_face

SQUARES = [(20, 30, 60, RED), (120, 40, 50, GREEN), (220, 100, 40, BLUE)]


def test_each_face_has_the_predictions_of_its_own_crop(session):
    faces = label_faces(scene(SQUARES), SquareDetector(), session)
    assert [(face.box.x, face.box.y, face.box.side) for face in faces] == [square[:3] for square in SQUARES]
    for face, (*_, colour) in zip(faces, SQUARES, strict=True):
        alone = session([np.full((60, 60, 3), colour, np.uint8)])
        np.testing.assert_allclose(list(face.probabilities.values()), alone.probabilities[0], atol=1e-5)
        np.testing.assert_allclose(list(face.primary.values()), alone.primary[0], atol=1e-5)
        assert face.label == session.labels[alone.probabilities[0].argmax()]
        assert face.primary_label == session.labels[alone.primary[0].argmax()]
        assert face.confidence == pytest.approx(float(alone.confidence[0]), abs=1e-5)
        assert face.probability == max(face.probabilities.values())


def test_an_image_without_a_face(session):
    assert label_faces(scene([]), SquareDetector(), session) == []


def test_a_whole_image_is_seen_whole_and_keeps_its_size(session):
    """Its ends count too: a square in the middle would see one colour only."""
    image = np.full((40, 120, 3), RED, np.uint8)
    image[:, :30] = image[:, 90:] = BLUE
    (face,) = label_faces(image, WholeImage(), session)
    np.testing.assert_allclose(
        list(face.probabilities.values()), session([image]).probabilities[0], atol=1e-6
    )
    assert face.to_dict()["box"] == {"x": 0, "y": 0, "width": 120, "height": 40}


def test_the_json_of_a_face():
    face = labelled_face(
        FaceBox(3, 4, 20, 0.9), ("anger", "fear", "neutral"), [0.2, 0.5, 0.3], [0.6, 0.3, 0.1], 0.25
    )
    assert json.loads(json.dumps(face.to_dict())) == {
        "box": {"x": 3, "y": 4, "width": 20, "height": 20},
        "detection_score": 0.9,
        "label": "fear",
        "top_label": "fear",
        "probability": 0.5,
        "confidence": 0.25,
        "quality": None,
        "quality_parts": None,
        "primary_label": "anger",
        "probabilities": {"anger": 0.2, "fear": 0.5, "neutral": 0.3},
        "primary": {"anger": 0.6, "fear": 0.3, "neutral": 0.1},
    }


def test_a_bundle_without_primary_is_refused(session):
    less = SimpleNamespace(manifest=replace(session.manifest, outputs=("probabilities", "confidence")))
    with pytest.raises(EdgefelError, match=r"without the output primary.*export it again"):
        label_faces(scene(SQUARES), SquareDetector(), less)
