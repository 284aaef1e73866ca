"""The parts of framing.py: canvases, turns, agreement; its committed result is whole."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from edgefel.bench.experiments.framing import DEGREES, GREY, TURNED_SIDES, agreement, canvas, central, turned
from edgefel.runtime.alignment import FaceBox

ROOT = Path(__file__).resolve().parents[3]


def test_a_canvas_has_the_face_in_its_middle():
    face = np.full((48, 48, 3), 200, np.uint8)
    image = canvas(face, 101, 33)
    assert image.shape == (167, 167, 3)
    assert (image[33:134, 33:134] == 200).all()
    assert (image[:33] == GREY).all()


def test_a_turn_is_clockwise_and_about_the_middle():
    image = np.zeros((101, 101, 3), np.uint8)
    image[50, 90] = 255  # right of the middle
    down = turned(image, 90)
    assert down[90, 50].min() > 200


def test_the_central_face_is_taken():
    image = np.zeros((200, 200, 3), np.uint8)
    boxes = [FaceBox(0, 0, 100), FaceBox(52, 50, 98), FaceBox(95, 95, 10)]
    assert central(boxes, image, 100) is boxes[1]
    assert central(boxes[::2], image, 100) is None


def test_agreement_counts_labels_and_distances():
    first = np.array([[0.9, 0.1], [0.6, 0.4]], np.float32)
    second = np.array([[0.7, 0.3], [0.4, 0.6]], np.float32)
    assert agreement(first, second) == {
        "same_label": 0.5,
        "distance_mean": pytest.approx(0.2),
        "distance_p90": pytest.approx(0.2),
    }


def test_the_committed_result_is_whole_and_levelling_works():
    document = json.loads((ROOT / "docs/results/framing.json").read_text())
    assert [(row["side"], row["degrees"]) for row in document["turned"]] == [
        (side, degrees) for side in TURNED_SIDES for degrees in DEGREES
    ]
    for row in document["turned"]:
        if row["degrees"] in (20, 30, 40):
            assert row["after"]["rest_median"] < 6 < row["before"]["rest_median"] + 3
