"""Thumbnails: the clearest face of each label, small, and no other."""

from __future__ import annotations

import base64
from dataclasses import replace

import cv2
import numpy as np
from seen_people import tracked

from edgefel.runtime.alignment import FaceBox
from edgefel.runtime.stream.report.thumbnails import SIDE, Thumbnails

BOX = FaceBox(40, 20, 60)


def image_of(shade: int) -> np.ndarray:
    """Red of this shade where the face is."""
    image = np.zeros((120, 160, 3), np.uint8)
    image[20:80, 40:100, 0] = shade
    return image


def pixel(jpeg: bytes) -> np.ndarray:
    image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert image.shape == (SIDE, SIDE, 3)
    return image[SIDE // 2, SIDE // 2, ::-1]


def test_the_clearest_face_of_each_label_is_kept():
    found = Thumbnails()
    for time, (label, shade, confidence, quality) in enumerate(
        (
            ("anger", 60, 0.5, 0.8),
            ("anger", 120, 0.9, 0.8),
            ("anger", 180, 0.95, 0.5),  # more confident, but blurred
            ("neutral", 240, 0.2, 0.2),
        )
    ):
        face = tracked(1, label, confidence=confidence, quality=quality, box=BOX)
        found.see(float(time), face, image_of(shade))
    assert {label: one.time for label, one in found.by_label.items()} == {"anger": 1.0, "neutral": 3.0}
    red, green, blue = pixel(found.by_label["anger"].jpeg).tolist()
    assert abs(red - 120) < 12
    assert max(green, blue) < 12
    url = found.by_label["anger"].url
    assert base64.b64decode(url.removeprefix("data:image/jpeg;base64,")) == found.by_label["anger"].jpeg


def test_a_face_that_has_changed_already_is_not_one_of_the_label_that_is_still_shown():
    face = tracked(1, "anger", box=BOX)
    late = replace(face, raw=tracked(1, "neutral", box=BOX).face)
    found = Thumbnails()
    found.see(0.0, late, image_of(99))
    assert not found.by_label
    found.see(0.1, face, image_of(99))
    assert list(found.by_label) == ["anger"]


def test_an_unsure_face_is_shown_as_that():
    found = Thumbnails()
    found.see(0.0, tracked(1, "anger", sure=False, box=BOX), image_of(99))
    assert list(found.by_label) == ["unsure"]


def test_a_face_at_the_border_has_a_thumbnail_too():
    found = Thumbnails()
    found.see(0.0, tracked(1, "anger", box=FaceBox(-30, 90, 60)), image_of(99))
    assert pixel(found.by_label["anger"].jpeg).shape == (3,)
