"""A file of YuNet in fewer bits: written with its record where it finds the same faces, else not at all."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
from yunet_like import yunet_like

from edgefel.errors import EdgefelError
from edgefel.export.detector import quantize_detector, spread
from edgefel.export.parity.detector import DetectorLimits
from edgefel.files.write import sha256
from edgefel.runtime.yunet import YuNetDetector
from edgefel.runtime.yunet_backend import variant_path, variant_record

FEW = DetectorLimits(least_faces=4)


@pytest.fixture
def photos(tmp_path):
    """Nine images with a bright cell each, which `yunet_like` takes for a face, and a broken one."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(9):
        image = np.zeros((256, 320, 3), np.uint8)
        image[96 : 96 + 16, 160 + 16 * (number % 3) :][:, :16] = 255
        cv2.imwrite(str(folder / f"{number}.png"), image)
    (folder / "9.png").write_bytes(b"\x89PNG")
    return folder


@pytest.fixture
def model(tmp_path):
    return yunet_like(tmp_path / "yunet.onnx")


def test_a_file_that_finds_the_same_is_written_with_its_record(model, photos):
    record = quantize_detector(model, photos, "fp16", limits=FEW)
    path = variant_path(model, "fp16")
    assert path.name == "yunet.fp16.onnx"
    assert json.loads(variant_record(path).read_text()) == json.loads(json.dumps(record))
    assert (record["sha256"], record["source_sha256"]) == (sha256(path), sha256(model))
    parity = record["parity"]
    assert (parity["images"], parity["faces"], parity["recall"], parity["extra"]) == (4, 4, 1.0, 0)
    assert parity["mean_iou"] > 0.99
    assert (parity["verdict"], record["skipped"]) == ("pass", ["9.png"])
    image = cv2.imread(str(photos / "1.png"))
    ours, theirs = (YuNetDetector(one, backend="onnxruntime")(image) for one in (path, model))
    assert len(ours) == len(theirs) == 1


def test_one_that_falls_short_is_not_written_unless_forced(model, photos):
    path = variant_path(model, "fp16")
    with pytest.raises(EdgefelError, match=r"yunet\.fp16\.onnx: 4 faces to compare is too few.*--force"):
        quantize_detector(model, photos, "fp16")
    assert not path.exists()
    assert not variant_record(path).exists()
    record = quantize_detector(model, photos, "fp16", force=True)
    assert record["parity"]["verdict"] == "fail"
    assert path.is_file()
    kept = path.read_bytes(), variant_record(path).read_bytes()
    with pytest.raises(EdgefelError):
        quantize_detector(model, photos, "fp16")
    assert (path.read_bytes(), variant_record(path).read_bytes()) == kept


def test_bad_input(model, photos, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(EdgefelError, match="0 images in it; give a folder of photographs"):
        quantize_detector(model, tmp_path / "empty", "fp16")
    with pytest.raises(EdgefelError, match=r"absent\.onnx"):
        quantize_detector(tmp_path / "absent.onnx", photos, "fp16")


def test_few_images_are_spread_over_all():
    assert spread(list(range(10)), 4) == [0, 2, 5, 7]
    assert spread([1, 2], 4) == [1, 2]
