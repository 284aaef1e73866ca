"""Detection and cropping."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from matplotlib import cbook

from edgefel.errors import EdgefelError
from edgefel.runtime.faces import FaceBox, HaarDetector, WholePicture, make_detector
from edgefel.runtime.sources import read_image


@pytest.fixture(scope="module")
def portrait():
    return read_image(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False))


def test_haar_finds_the_one_face_framed_as_in_training(portrait):
    (box,) = HaarDetector()(portrait)
    # the eyes in this picture are at (227, 186) and (309, 186)
    left, right, height = (227 - box.x) / box.side, (309 - box.x) / box.side, (186 - box.y) / box.side
    assert 0.33 < right - left < 0.41
    assert 0.36 < height < 0.44
    assert abs((left + right) / 2 - 0.5) < 0.06


def test_haar_finds_every_face_in_a_larger_picture(portrait):
    both = cv2.resize(np.hstack([portrait, portrait[:, ::-1]]), None, fx=2, fy=2)
    boxes = HaarDetector()(both)
    assert len(boxes) == 2
    assert boxes[0].side >= boxes[1].side
    assert {box.x > both.shape[1] // 2 for box in boxes} == {True, False}


def test_no_face_is_an_empty_list():
    rng = np.random.default_rng(0)
    assert HaarDetector()(rng.integers(0, 256, (200, 300, 3), dtype=np.uint8)) == []


def test_crops_inside_and_beyond_the_border():
    picture = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    assert np.array_equal(FaceBox(5, 6, 20).crop(picture), picture[6:26, 5:25])
    beyond = FaceBox(-4, 30, 20).crop(picture)
    assert beyond.shape == (20, 20, 3)
    assert np.array_equal(beyond[:10, 4:], picture[30:, :16])
    assert np.array_equal(beyond[:10, 0], picture[30:, 0])  # repeats the left border
    assert np.array_equal(beyond[-1, 4:], picture[-1, :16])  # and the bottom one


def test_the_whole_picture_is_its_central_square():
    (box,) = WholePicture()(np.zeros((60, 100, 3), np.uint8))
    assert (box.x, box.y, box.side) == (20, 0, 60)


def test_detectors_by_name(tmp_path):
    assert isinstance(make_detector("haar"), HaarDetector)
    assert isinstance(make_detector("none"), WholePicture)
    with pytest.raises(EdgefelError, match="--detector-model"):
        make_detector("yunet")
    with pytest.raises(EdgefelError, match="no such file"):
        make_detector("yunet", tmp_path / "absent.onnx")
    (tmp_path / "broken.onnx").write_bytes(b"nothing")
    with pytest.raises(EdgefelError, match="cannot run it as YuNet"):
        make_detector("yunet", tmp_path / "broken.onnx")
    with pytest.raises(EdgefelError, match="not known"):
        make_detector("dlib")
