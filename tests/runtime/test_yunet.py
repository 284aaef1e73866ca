"""YuNet by edgefel's backends, box by box against OpenCV's own implementation."""

from __future__ import annotations

import zipfile
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from onnx import helper
from tiny_bundle import tiny_model
from yunet_like import yunet_like

from edgefel.data.images import read_rgb
from edgefel.errors import EdgefelError
from edgefel.runtime.alignment import FaceBox
from edgefel.runtime.faces import make_detector
from edgefel.runtime.yunet import YuNetDetector, decode, suppress

YUNET = Path(__file__).parents[3] / "shared" / "data" / "yunet.onnx"
FER_PLUS = YUNET.with_name("fer-plus.zip")
BACKENDS = ["onnxruntime", "openvino"]


@pytest.fixture(params=BACKENDS)
def backend(request):
    if request.param != "onnxruntime":
        pytest.importorskip(request.param, reason="the backend is not installed")
    return request.param


@pytest.fixture(scope="module")
def portrait():
    cbook = pytest.importorskip("matplotlib.cbook", reason="has the photograph")
    return read_rgb(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False))


@pytest.fixture(scope="module")
def real():
    if not YUNET.is_file():
        pytest.skip(f"no {YUNET.name} in ../shared/data")
    return YUNET


def opencv_rows(model, image, score=0.7):
    """What OpenCV finds: rows of 15 numbers."""
    height, width = image.shape[:2]
    detector = cv2.FaceDetectorYN.create(str(model), "", (width, height), score)
    _, found = detector.detect(np.ascontiguousarray(image[..., ::-1]))
    return np.zeros((0, 15), np.float32) if found is None else found


def canvas(portrait, size, faces, seed=0):
    """The portrait's head at these widths in pixels, side by side, on noise; size: (height, width)."""
    image = np.random.default_rng(seed).integers(90, 130, (*size, 3), dtype=np.uint8)
    head, x = portrait[60:380, 130:420], 3
    for number, width in enumerate(faces):
        height = round(width * head.shape[0] / head.shape[1])
        small = cv2.resize(head, (width, height), interpolation=cv2.INTER_AREA)
        small = small[:, ::-1] if number % 2 else small
        y = min(5 + 11 * number, size[0] - 1)
        part = image[y : y + height, x : x + width]
        part[:] = small[: part.shape[0], : part.shape[1]]
        x += width + 7
    return image


CANVASES = [
    ((600, 512), (290,)),
    ((480, 640), (150, 90, 61, 130, 40, 77)),
    ((333, 517), (64, 120, 200)),
    ((97, 411), (60, 70, 80, 33)),
    ((159, 161), (100,)),
    ((65, 63), (40,)),
    ((720, 959), (250, 310, 20, 16, 24, 28)),
    ((480, 640), ()),
]


@pytest.mark.parametrize(("size", "widths"), CANVASES)
def test_rows_are_those_of_opencv(real, portrait, backend, size, widths):
    image = canvas(portrait, size, widths)
    detector = YuNetDetector(real, backend=backend, threads=1)
    for low in (0.7, 0.3):
        expected, detector._score = opencv_rows(real, image, low), low
        found = detector.rows(image)
        assert found.shape == expected.shape
        np.testing.assert_allclose(found[:, :14], expected[:, :14], atol=0.5)
        np.testing.assert_allclose(found[:, 14], expected[:, 14], atol=1e-3)
    assert (len(expected) >= len(widths) - 2) if widths else True


def test_rows_of_many_people_are_those_of_opencv(real, backend):
    """Faces of FER+ pasted on canvases of odd sides, upright and turned."""
    if not FER_PLUS.is_file():
        pytest.skip(f"no {FER_PLUS.name} in ../shared/data")
    rng, found = np.random.default_rng(5), 0
    detector = YuNetDetector(real, backend=backend, threads=1)
    with zipfile.ZipFile(FER_PLUS) as archive:
        names = sorted(name for name in archive.namelist() if "FER2013Test" in name and name.endswith(".png"))
        for _ in range(25):
            height, width = (int(side) for side in rng.integers(90, 500, 2))
            image = np.full((height, width, 3), rng.integers(60, 200, 3), np.uint8)
            for name in rng.choice(names, 4):
                face = cv2.imdecode(np.frombuffer(archive.read(str(name)), np.uint8), cv2.IMREAD_COLOR)
                side = int(rng.integers(40, min(height, width)))
                face = np.rot90(cv2.resize(face, (side, side)), int(rng.integers(0, 4) == 0))
                x, y = (int(rng.integers(0, room - side + 1)) for room in (width, height))
                image[y : y + side, x : x + side] = face
            expected, rows = opencv_rows(real, image), detector.rows(image)
            assert rows.shape == expected.shape
            np.testing.assert_allclose(rows[:, :14], expected[:, :14], atol=0.5)
            np.testing.assert_allclose(rows[:, 14], expected[:, 14], atol=1e-3)
            found += len(rows)
    assert found > 25


def test_a_buffer_keeps_nothing_of_the_image_before(real, portrait):
    """Two images of one padded size after each other: what the larger one had beyond the smaller is gone."""
    large, small = canvas(portrait, (191, 191), (180,)), canvas(portrait, (170, 165), (100,))
    detector = YuNetDetector(real, threads=1)
    detector.rows(large)
    np.testing.assert_array_equal(detector.rows(small), YuNetDetector(real, threads=1).rows(small))


@pytest.mark.parametrize("seed", range(20))
def test_suppression_is_that_of_opencv(seed):
    rng = np.random.default_rng(seed)
    rows = np.zeros((200, 15), np.float32)
    rows[:, :2] = rng.uniform(-20, 200, (200, 2))
    rows[:, 2:4] = rng.uniform(0, 90, (200, 2))
    rows[:, 14] = rng.permutation(200) / 400 + 0.5
    expected = cv2.dnn.NMSBoxes(rows[:, :4].astype(int).tolist(), rows[:, 14].tolist(), 0.1, 0.3)
    np.testing.assert_array_equal(suppress(rows), rows[np.ravel(expected)])


def test_nothing_is_suppressed_to_nothing():
    assert suppress(np.zeros((0, 15), np.float32)).shape == (0, 15)


def test_decoding_in_float64():
    """Against the formula, cell by cell."""
    rng, (height, width) = np.random.default_rng(3), (64, 96)
    outputs, expected = {}, []
    for stride in (8, 16, 32):
        cells = height // stride * (width // stride)
        values = {name: rng.uniform(-0.2, 1.2, (1, cells, 1)).astype(np.float32) for name in ("cls", "obj")}
        values["bbox"] = rng.normal(size=(1, cells, 4)).astype(np.float32)
        values["kps"] = rng.normal(size=(1, cells, 10)).astype(np.float32)
        outputs |= {f"{name}_{stride}": value for name, value in values.items()}
        for cell in range(cells):
            row, column = divmod(cell, width // stride)
            one = {name: value[0, cell].astype(float) for name, value in values.items()}
            score = np.sqrt(np.clip(one["cls"], 0, 1) * np.clip(one["obj"], 0, 1))[0]
            if score < 0.6:
                continue
            x, y, log_w, log_h = one["bbox"]
            w, h = np.exp(log_w) * stride, np.exp(log_h) * stride
            points = (one["kps"].reshape(5, 2) + np.array((column, row))) * stride
            box = ((column + x) * stride - w / 2, (row + y) * stride - h / 2, w, h)
            expected.append((*box, *points.ravel(), score))
    np.testing.assert_allclose(decode(outputs, (height, width), 0.6), expected, rtol=1e-5, atol=1e-4)
    rows = decode(outputs, (height, width), 0.6)
    outputs["bbox_32"][:] = 1e6  # overflows
    left = decode(outputs, (height, width), 0.6)
    assert 0 < len(left) < len(rows)
    np.testing.assert_array_equal(left, rows[: len(left)])
    assert decode(outputs, (height, width), 1.0).shape[1] == 15
    with pytest.raises(ValueError, match="reshape"):
        decode(outputs, (height, width + 32), 0.6)


@pytest.mark.parametrize("factor", [1, 5], ids=["as it is", "shrunk first"])
def test_boxes_are_read_and_scaled_back(tmp_path, factor):
    """A network of YuNet's format; an image longer than 960 is shrunk by `factor`."""
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
def test_eyes_are_in_order_and_plausible(tmp_path, eyes, expected):
    image = np.zeros((256, 320, 3), np.uint8)
    image[96:112, 160:176] = 255
    (box,) = YuNetDetector(yunet_like(tmp_path / "yunet.onnx", eyes))(image)
    if expected is None:
        assert box.eyes is None
    else:
        np.testing.assert_allclose(box.eyes, np.array([168, 104]) + expected, atol=2)


@pytest.mark.parametrize("side", [150, 300], ids=["as it is", "shrunk first"])
def test_near(tmp_path, side):
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


@pytest.mark.parametrize(
    ("content", "reason"),
    [(tiny_model().SerializeToString(), "it has no output"), (b"\xff\xd8", "cannot load it")],
)
def test_another_file_is_no_yunet_and_one_backend_says_so(tmp_path, content, reason, capfd):
    (tmp_path / "other.onnx").write_bytes(content)
    with pytest.raises(EdgefelError, match=rf"run it as YuNet \(.*{reason}") as caught:
        YuNetDetector(tmp_path / "other.onnx")(np.zeros((64, 64, 3), np.uint8))
    assert "\n" not in str(caught.value)
    assert "cuda" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_a_file_with_tensors_elsewhere_is_refused(tmp_path):
    path = yunet_like(tmp_path / "yunet.onnx")
    tensor = onnx.TensorProto(name="x", dims=[1], data_type=1, data_location=onnx.TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="../weights.bin")
    more = helper.make_model(helper.make_graph([], "more", [], [], [tensor]))
    path.write_bytes(path.read_bytes() + more.SerializeToString())
    with pytest.raises(EdgefelError, match=r"keeps tensors in another file \('\.\./weights\.bin'\)"):
        make_detector("yunet", path)


def test_a_file_of_one_size_gets_images_of_that_size(tmp_path, backend):
    """Such as OpenCV's of 2023: larger images are shrunk to it, smaller ones are padded."""
    model = yunet_like(tmp_path / "fixed.onnx", sides=(320, 320))
    for scale in (1, 2):
        image = np.zeros((500 * scale, 200 * scale, 3), np.uint8)
        factor = min(1, 320 / (500 * scale))
        row, column = round(96 / factor), round(112 / factor)
        cell = round(16 / factor)
        image[row : row + cell, column : column + cell] = 255
        (box,) = YuNetDetector(model, backend=backend, threads=1)(image)
        assert box.side == pytest.approx(80 / factor, abs=3)
        assert box.centre == pytest.approx((column + cell / 2, row + cell / 2), abs=6 / factor)


def test_backends_by_name(tmp_path):
    model = yunet_like(tmp_path / "yunet.onnx")
    assert YuNetDetector(model).backend in ("onnxruntime-cuda", "onnxruntime")
    for name, message in (("tensorrt", "edgefel detector engine"), ("tvm", "not known")):
        with pytest.raises(EdgefelError, match=message):
            YuNetDetector(model, backend=name)


@pytest.mark.parametrize("share", [0.1, 0.25])
def test_a_smaller_image_is_searched_for_large_faces(real, portrait, share, monkeypatch):
    """As large as the smallest face asked for needs, and such faces are found."""
    image = canvas(portrait, (720, 1280), (round(720 * share * 1.7), 60))
    detector, sizes = make_detector("yunet", real, min_share=share), []
    rows = YuNetDetector.rows
    monkeypatch.setattr(
        YuNetDetector, "rows", lambda self, small: sizes.append(small.shape) or rows(self, small)
    )
    (box,) = detector(image)
    assert box.side >= 720 * share
    ((height, width, _),) = sizes
    assert width < 960
    assert height * share == pytest.approx(32, abs=0.5)


def test_many_known_faces_are_found_by_one_search_of_the_whole_image(real, portrait, monkeypatch):
    image = canvas(portrait, (480, 640), (150, 90, 61, 130, 40, 77))
    detector, sizes = YuNetDetector(real, threads=1), []
    known = detector(image)
    rows = YuNetDetector.rows
    monkeypatch.setattr(
        YuNetDetector, "rows", lambda self, small: sizes.append(small.shape) or rows(self, small)
    )
    assert detector.near(image, known * 9) == known
    assert sizes == [image.shape]
    sizes.clear()
    assert len(detector.near(image, known[:1])) == 1
    assert sizes[0][0] < 480
