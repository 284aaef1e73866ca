"""Detection and cropping."""

from __future__ import annotations

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tiny_bundle import tiny_model

from edgefel.data.images import read_rgb
from edgefel.errors import EdgefelError
from edgefel.runtime import faces
from edgefel.runtime.alignment import FaceBox
from edgefel.runtime.faces import HaarDetector, WholeImage, YuNetDetector, detect_near, make_detector


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
    with pytest.raises(EdgefelError, match="cannot run it as YuNet"):
        make_detector("yunet", tmp_path / "broken.onnx")
    with pytest.raises(EdgefelError, match="not known"):
        make_detector("dlib")


def test_a_large_plain_background_does_not_hide_faces(portrait):
    wall = np.full((700, 1300, 3), 200, np.uint8)
    small = cv2.resize(portrait, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    for x, y in ((20, 40), (700, 300)):
        wall[y : y + 300, x : x + 256] = small
    assert len(HaarDetector()(wall)) == 2


def test_one_face_found_twice_is_one():
    boxes = [FaceBox(100, 100, 60), FaceBox(90, 90, 100), FaceBox(300, 100, 80), FaceBox(170, 100, 70)]
    kept = [FaceBox(90, 90, 100), FaceBox(300, 100, 80), FaceBox(170, 100, 70)]
    assert faces._largest_first(boxes) == kept


def yunet_like(path, eyes=((-14, -8), (14, -4)), face=(64, 80)):
    """A network with YuNet's outputs: a face of this width and height around the centre of every bright cell, with
    eyes at these places beside the centre."""
    nodes, constants, outputs = [], {}, []
    shape = np.array([1, -1, 0], np.int64)
    for stride in (8, 16, 32):
        for name, channels in (("cls", 1), ("obj", 1), ("bbox", 4), ("kps", 10)):
            weight = np.zeros((channels, 3, stride, stride), np.float32)
            bias = np.zeros(channels, np.float32)
            if name == "cls" and stride == 16:
                weight[:] = 1 / (3 * 255 * stride * stride)  # mean brightness, 0..1
            if name == "obj":
                bias[:] = 0.9
            if name == "bbox":
                bias[:] = (0.5, 0.5, *np.log(np.array(face) / stride))
            if name == "kps":
                bias[:4] = np.ravel(eyes) / stride + 0.5
            key = f"{name}_{stride}"
            constants |= {f"{key}_w": weight, f"{key}_b": bias}
            constants[f"{key}_shape"] = np.array([1, -1, channels], shape.dtype)
            inputs = ["input", f"{key}_w", f"{key}_b"]
            nodes += [
                helper.make_node(
                    "Conv", inputs, [f"{key}_map"], strides=[stride] * 2, kernel_shape=[stride] * 2
                ),
                helper.make_node("Transpose", [f"{key}_map"], [f"{key}_last"], perm=[0, 2, 3, 1]),
                helper.make_node("Reshape", [f"{key}_last", f"{key}_shape"], [key]),
            ]
            outputs.append(helper.make_tensor_value_info(key, TensorProto.FLOAT, [1, None, channels]))
    graph = helper.make_graph(
        nodes,
        "yunet-like",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, 320, 320])],
        outputs,
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=6), path)
    return path


@pytest.mark.parametrize("factor", [1, 5], ids=["as it is", "shrunk first"])
def test_yunet_boxes_are_read_and_scaled_back(tmp_path, factor):
    """A real OpenCV detector on a network of its format; an image longer than 960 is shrunk by `factor`."""
    width, height = (320, 256) if factor == 1 else (4800, 3840)
    scale = max(1.0, width / 960)
    image = np.zeros((height, width, 3), np.uint8)
    cell = slice(round(96 * scale), round(112 * scale)), slice(round(160 * scale), round(176 * scale))
    image[cell] = 255
    (box,) = YuNetDetector(yunet_like(tmp_path / "yunet.onnx"))(image)
    assert box.side == pytest.approx(80 * scale, abs=2 * scale)
    assert box.x + box.side / 2 == pytest.approx(168 * scale, abs=2 * scale)
    assert box.y + box.side / 2 == pytest.approx(104 * scale, abs=2 * scale)
    assert box.score == pytest.approx(0.9**0.5, abs=0.02)
    centre = np.array([168 * scale, 104 * scale])
    np.testing.assert_allclose(box.eyes, centre + scale * np.array([(-14, -8), (14, -4)]), atol=2 * scale)
    assert YuNetDetector(tmp_path / "yunet.onnx", min_share=0.5)(image) == []
    assert YuNetDetector(tmp_path / "yunet.onnx")(np.zeros((256, 320, 3), np.uint8)) == []


@pytest.mark.parametrize(
    ("eyes", "expected"),
    [
        (((14, -4), (-14, -8)), ((-14, -8), (14, -4))),
        (((-4, -8), (4, -8)), None),
        (((-14, 20), (14, 24)), None),
    ],
    ids=["mirrored", "too close", "too low"],
)
def test_yunet_eyes_are_in_order_and_plausible(tmp_path, eyes, expected):
    image = np.zeros((256, 320, 3), np.uint8)
    image[96:112, 160:176] = 255
    (box,) = YuNetDetector(yunet_like(tmp_path / "yunet.onnx", eyes))(image)
    if expected is None:
        assert box.eyes is None
    else:
        np.testing.assert_allclose(box.eyes, np.array([168, 104]) + expected, atol=2)


@pytest.mark.parametrize("side", [150, 300], ids=["as it is", "shrunk first"])
def test_yunet_near(tmp_path, side):
    image = np.zeros((700, 900, 3), np.uint8)
    half = side // 4
    image[300 - half : 300 + half, 500 - half : 500 + half] = 255
    detector = YuNetDetector(yunet_like(tmp_path / "yunet.onnx", face=(120, 150)))
    known = FaceBox(500 - side // 2 + 9, 300 - side // 2 - 7, side)
    (box,) = detector.near(image, [known, known.moved(8, 8)])
    shrunk = min(1, 320 / (1.6 * side))
    assert box.side == pytest.approx(150 / shrunk, abs=3)
    assert box.centre == pytest.approx((500, 300), abs=half)
    assert detector.near(image, [known.moved(-420, 0)]) == []


def test_another_network_is_no_yunet(tmp_path):
    onnx.save(tiny_model(), tmp_path / "other.onnx")
    with pytest.raises(EdgefelError, match="cannot run it as YuNet") as caught:
        YuNetDetector(tmp_path / "other.onnx")(np.zeros((64, 64, 3), np.uint8))
    assert "\n" not in str(caught.value)


def test_a_yunet_file_with_tensors_elsewhere_is_refused(tmp_path):
    path = yunet_like(tmp_path / "yunet.onnx")
    tensor = onnx.TensorProto(name="x", dims=[1], data_type=1, data_location=onnx.TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="../weights.bin")
    more = helper.make_model(helper.make_graph([], "more", [], [], [tensor]))
    path.write_bytes(path.read_bytes() + more.SerializeToString())
    with pytest.raises(EdgefelError, match=r"keeps tensors in another file \('\.\./weights\.bin'\)"):
        make_detector("yunet", path)
