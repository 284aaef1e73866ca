"""Detection and cropping."""

from __future__ import annotations

import cv2
import numpy as np
import onnx
import pytest
from matplotlib import cbook
from onnx import TensorProto, helper, numpy_helper
from tiny_bundle import tiny_model

from edgefel.errors import EdgefelError
from edgefel.runtime import faces
from edgefel.runtime.faces import FaceBox, HaarDetector, WholePicture, YuNetDetector, make_detector
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


@pytest.mark.parametrize(
    "box", [FaceBox(-7, -3, 30), FaceBox(30, 25, 30), FaceBox(-5, -5, 70), FaceBox(60, 9, 8)]
)
def test_beyond_the_border_the_border_is_repeated(box):
    picture = np.random.default_rng(1).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    padded = np.pad(picture, ((70, 70), (70, 70), (0, 0)), mode="edge")
    expected = padded[box.y + 70 : box.y + 70 + box.side, box.x + 70 : box.x + 70 + box.side]
    np.testing.assert_array_equal(box.crop(picture), expected)


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


def yunet_like(path):
    """A network with YuNet's outputs: a face, 64 wide and 80 high, around the centre of every bright cell."""
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
                bias[:] = (0.5, 0.5, np.log(64 / stride), np.log(80 / stride))
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
    """A real OpenCV detector on a network of its format; a picture longer than 960 is shrunk by `factor`."""
    width, height = (320, 256) if factor == 1 else (4800, 3840)
    scale = max(1.0, width / 960)
    picture = np.zeros((height, width, 3), np.uint8)
    cell = slice(round(96 * scale), round(112 * scale)), slice(round(160 * scale), round(176 * scale))
    picture[cell] = 255
    (box,) = YuNetDetector(yunet_like(tmp_path / "yunet.onnx"))(picture)
    assert box.side == pytest.approx(80 * scale, abs=2 * scale)
    assert box.x + box.side / 2 == pytest.approx(168 * scale, abs=2 * scale)
    assert box.y + box.side / 2 == pytest.approx(104 * scale, abs=2 * scale)
    assert box.score == pytest.approx(0.9**0.5, abs=0.02)
    assert YuNetDetector(tmp_path / "yunet.onnx")(np.zeros((256, 320, 3), np.uint8)) == []


def test_another_network_is_no_yunet(tmp_path):
    onnx.save(tiny_model(), tmp_path / "other.onnx")
    with pytest.raises(EdgefelError, match="cannot run it as YuNet") as caught:
        YuNetDetector(tmp_path / "other.onnx")(np.zeros((64, 64, 3), np.uint8))
    assert "\n" not in str(caught.value)
