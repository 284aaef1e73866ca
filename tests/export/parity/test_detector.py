"""Boxes of two detectors: overlaps against counted pixels, and what falls short."""

from __future__ import annotations

import numpy as np
import pytest

from edgefel.export.parity.detector import DetectorLimits, DetectorParity, compare_detectors, match, overlap

IMAGE = np.zeros((8, 8, 3), np.uint8)


def boxes(*rows: tuple[float, float, float, float]) -> np.ndarray:
    """Rows of a detector with these x, y, width, height."""
    return np.array([(*row, *(0.0,) * 10, 0.9) for row in rows], np.float32).reshape(-1, 15)


def test_overlap_is_what_counting_pixels_gives():
    rng = np.random.default_rng(0)
    for _ in range(50):
        one, other = rng.integers(0, 20, (2, 4))
        masks = np.zeros((2, 50, 50), bool)
        for mask, (x, y, width, height) in zip(masks, (one, other), strict=True):
            mask[y : y + height, x : x + width] = True
        union = (masks[0] | masks[1]).sum()
        expected = (masks[0] & masks[1]).sum() / union if union else 0.0
        assert overlap(boxes(one)[0], boxes(other)[0]) == pytest.approx(expected)


def test_a_box_counts_for_one_face_and_the_nearest():
    known = boxes((0, 0, 10, 10), (2, 0, 10, 10), (100, 0, 10, 10))
    assert match(known, boxes((2, 0, 10, 10))) == [1.0]
    found = match(known, boxes((2, 0, 10, 10), (1, 0, 10, 10)))
    assert found == [1.0, pytest.approx(9 / 11)]
    assert match(known, boxes()) == match(boxes(), known) == []
    assert match(boxes((0, 0, 10, 10)), boxes((6, 0, 10, 10))) == []


def test_counts_over_images_and_what_falls_short():
    known = [boxes(*((20 * i, 0, 10, 10) for i in range(10)))] * 3
    seen = [known[0], known[0][:9], np.concatenate([known[0], boxes((0, 50, 5, 5))])]
    first, second = iter(known), iter(seen)
    found = compare_detectors(lambda image: next(first), lambda image: next(second), [IMAGE] * 3)
    assert found == DetectorParity(images=3, faces=30, found=29, extra=1, mean_iou=1.0)
    assert found.recall == 29 / 30
    assert found.reasons(DetectorLimits()) == (
        "finds 96.7% of the faces, below 99.0%",
        "finds 1 face more than FP32, above 2%",
    )
    assert found.to_dict(DetectorLimits(recall=0.9, extra=0.1))["verdict"] == "pass"
    moved = DetectorParity(images=3, faces=30, found=30, extra=0, mean_iou=0.94)
    assert moved.reasons(DetectorLimits()) == ("mean IoU of the boxes is 0.940, below 0.95",)


@pytest.mark.parametrize("faces", [0, 19])
def test_too_few_faces_pass_nothing(faces):
    found = DetectorParity(images=9, faces=faces, found=faces, extra=0, mean_iou=1.0)
    (reason,) = found.reasons(DetectorLimits())
    assert reason.startswith(f"{faces} faces to compare is too few")
    assert found.to_dict(DetectorLimits())["verdict"] == "fail"
