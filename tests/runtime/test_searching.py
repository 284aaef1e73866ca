"""What face detectors share."""

from __future__ import annotations

from edgefel.runtime.alignment import FaceBox
from edgefel.runtime.searching import largest_first


def test_one_face_found_twice_is_one():
    boxes = [FaceBox(100, 100, 60), FaceBox(90, 90, 100), FaceBox(300, 100, 80), FaceBox(170, 100, 70)]
    kept = [FaceBox(90, 90, 100), FaceBox(300, 100, 80), FaceBox(170, 100, 70)]
    assert largest_first(boxes) == kept
