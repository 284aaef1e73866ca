"""Detection and cropping."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from edgefel.data.images import read_rgb
from edgefel.errors import EdgefelError
from edgefel.runtime import faces
from edgefel.runtime.alignment import FaceBox
from edgefel.runtime.faces import HaarDetector, WholeImage, choose_detector, detect_near, make_detector


@pytest.fixture(scope="module")
def portrait():
    cbook = pytest.importorskip("matplotlib.cbook", reason="has the photograph")
    return read_rgb(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False))


def test_haar_finds_the_one_face_framed_as_in_training(portrait):
    (box,) = HaarDetector()(portrait)
    # the eyes in this image are at (227, 186) and (309, 186)
    left, right, height = (227 - box.x) / box.side, (309 - box.x) / box.side, (186 - box.y) / box.side
    assert 0.33 < right - left < 0.41
    assert 0.36 < height < 0.44
    assert abs((left + right) / 2 - 0.5) < 0.06


def test_small_faces_are_left_out_on_request(portrait):
    assert HaarDetector(0.7)(portrait) == []  # its face is half as long as the shorter side
    assert len(HaarDetector(0.3)(portrait)) == 1
    assert make_detector("haar", min_share=0.7)(portrait) == []
    for share in (0.0, 1.5, float("nan")):
        with pytest.raises(EdgefelError, match="above 0 and up to 1"):
            make_detector("haar", min_share=share)
    with pytest.raises(EdgefelError, match="ratio above 1"):
        HaarDetector(step=1.0)


def side_by_side(portrait, apart: int = 512):
    """Two copies of the portrait on a wall, `apart` pixels from each other: faces at 268 and 268 + apart."""
    wall = np.full((600, 512 + apart, 3), 200, np.uint8)
    wall[:, :512] = portrait
    wall[:, apart:][:, :512] = portrait
    return wall


def test_near_finds_faces_again_after_they_moved(portrait):
    detector = HaarDetector(0.2)
    image = side_by_side(portrait)
    known = detector(image)
    assert len(known) == 2
    moved = np.roll(image, (12, -20), axis=(0, 1))
    again = detector.near(moved, known)
    assert len(again) == 2
    for box in again:
        (before,) = [old for old in known if abs(old.x - box.x) < 100]
        assert (box.x - before.x, box.y - before.y) == pytest.approx((-20, 12), abs=0.06 * before.side)
        assert box.side == pytest.approx(before.side, rel=0.12)


def test_near_looks_for_known_faces_alone_and_gives_each_once(portrait):
    detector = HaarDetector(0.2)
    image = side_by_side(portrait)
    left, right = sorted(detector(image), key=lambda box: box.x)
    assert [abs(box.x - left.x) < 20 for box in detector.near(image, [left])] == [True]
    # both patches show the face on the left
    twice = [left, left.moved(40, 10)]
    assert len(detector.near(image, twice)) == 1
    # nothing where nothing is, and no face that is half or twice as large
    assert detector.near(image, [FaceBox(0, 380, 150), FaceBox(5000, 0, 90), FaceBox(-900, 0, 90)]) == []
    for factor in (0.45, 2.2):
        side = round(factor * right.side)
        centre = (right.x + right.side // 2, right.y + right.side // 2)
        assert detector.near(image, [FaceBox(centre[0] - side // 2, centre[1] - side // 2, side)]) == []


def bright_square(image):
    """A detector without a search of its own: the box of the pixels above 100, if there are any."""
    rows, columns = np.nonzero(image[:, :, 0] > 100)
    if not len(rows):
        return []
    return [FaceBox(int(columns.min()), int(rows.min()), int(np.ptp(columns)) + 1)]


def test_any_detector_searches_near():
    image = np.zeros((200, 300, 3), np.uint8)
    image[50:90, 60:100] = image[120:150, 230:260] = 255
    known = [FaceBox(52, 55, 42), FaceBox(235, 118, 30), FaceBox(150, 20, 30)]
    assert detect_near(bright_square, image, known) == [FaceBox(60, 50, 40), FaceBox(230, 120, 30)]
    assert detect_near(WholeImage(), image, known) == WholeImage()(image)
    assert detect_near(HaarDetector(), image, []) == []


def test_a_moved_box_takes_its_eyes_along():
    box = FaceBox(10, 20, 30, 0.5, ((15.0, 30.5), (26.0, 31.0)))
    assert box.moved(-12, 5) == FaceBox(-2, 25, 30, 0.5, ((3.0, 35.5), (14.0, 36.0)))
    assert FaceBox(1, 2, 3).moved(1, 1) == FaceBox(2, 3, 3)
    assert box.centre == (25, 35)


def test_haar_finds_every_face_in_a_larger_image(portrait):
    both = cv2.resize(np.hstack([portrait, portrait[:, ::-1]]), None, fx=2, fy=2)
    boxes = HaarDetector()(both)
    assert len(boxes) == 2
    assert boxes[0].side >= boxes[1].side
    assert {box.x > both.shape[1] // 2 for box in boxes} == {True, False}


def test_no_face_is_an_empty_list():
    rng = np.random.default_rng(0)
    assert HaarDetector()(rng.integers(0, 256, (200, 300, 3), dtype=np.uint8)) == []


def test_crops_inside_and_beyond_the_border():
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    assert np.array_equal(FaceBox(5, 6, 20).crop(image), image[6:26, 5:25])
    beyond = FaceBox(-4, 30, 20).crop(image)
    assert beyond.shape == (20, 20, 3)
    assert np.array_equal(beyond[:10, 4:], image[30:, :16])
    assert np.array_equal(beyond[:10, 0], image[30:, 0])  # repeats the left border
    assert np.array_equal(beyond[-1, 4:], image[-1, :16])  # and the bottom one


@pytest.mark.parametrize(
    "box", [FaceBox(-7, -3, 30), FaceBox(30, 25, 30), FaceBox(-5, -5, 70), FaceBox(60, 9, 8)]
)
def test_beyond_the_border_the_border_is_repeated(box):
    image = np.random.default_rng(1).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    padded = np.pad(image, ((70, 70), (70, 70), (0, 0)), mode="edge")
    expected = padded[box.y + 70 : box.y + 70 + box.side, box.x + 70 : box.x + 70 + box.side]
    np.testing.assert_array_equal(box.crop(image), expected)


def test_the_whole_image_is_its_central_square():
    (box,) = WholeImage()(np.zeros((60, 100, 3), np.uint8))
    assert (box.x, box.y, box.side) == (20, 0, 60)


def test_detectors_by_name(tmp_path):
    assert isinstance(make_detector("haar"), HaarDetector)
    assert isinstance(make_detector("none"), WholeImage)
    with pytest.raises(EdgefelError, match="--detector-model"):
        make_detector("yunet")
    with pytest.raises(EdgefelError, match="no such file"):
        make_detector("yunet", tmp_path / "absent.onnx")
    (tmp_path / "broken.onnx").write_bytes(b"nothing")
    with pytest.raises(EdgefelError, match="run it as YuNet"):
        make_detector("yunet", tmp_path / "broken.onnx")
    with pytest.raises(EdgefelError, match="not known"):
        make_detector("dlib")
    for name in ("haar", "none"):
        with pytest.raises(EdgefelError, match="is for --detector yunet"):
            make_detector(name, tmp_path / "broken.onnx")


def test_yunet_is_the_default_where_its_file_is(tmp_path, monkeypatch):
    assert choose_detector() == ("haar", None)
    assert choose_detector(None, tmp_path / "other.onnx") == ("yunet", tmp_path / "other.onnx")
    there = tmp_path / "yunet.onnx"
    monkeypatch.setattr(faces, "installed_detector", lambda: there)
    assert choose_detector() == choose_detector("yunet") == ("yunet", there)
    assert choose_detector("yunet", "other.onnx") == ("yunet", Path("other.onnx"))
    assert choose_detector("haar") == ("haar", None)
    assert choose_detector("none") == ("none", None)


def test_a_large_plain_background_does_not_hide_faces(portrait):
    wall = np.full((700, 1300, 3), 200, np.uint8)
    small = cv2.resize(portrait, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    for x, y in ((20, 40), (700, 300)):
        wall[y : y + 300, x : x + 256] = small
    assert len(HaarDetector()(wall)) == 2
