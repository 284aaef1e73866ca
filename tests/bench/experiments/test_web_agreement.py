"""The comparison, with faces of the runtime itself in the place of the page's."""

from __future__ import annotations

import copy
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from edgefel.bench.experiments.web_agreement import compare, face_box, labelled_by_page, main, people, turned
from edgefel.runtime.model import load
from edgefel.runtime.shipped import FOLDER

YUNET = Path(__file__).parents[4] / "shared" / "data" / "yunet.onnx"


@pytest.fixture(scope="module")
def found():
    """Two images, and their faces as the page would give them."""
    if not YUNET.is_file():
        pytest.skip("needs YuNet's file, ../shared/data/yunet.onnx")
    images = [people(3), turned(people(4), 20)]
    with load(FOLDER, precision="fp32", backend="onnxruntime", threads=1, detector_model=YUNET) as model:
        results = model(images, channels="rgb")
    return images, [[face.to_dict() | {"eyes": face.eyes} for face in faces] for faces in results]


def test_the_runtime_agrees_with_itself(found):
    images, faces = found
    result = compare("fp32", faces, images, YUNET)
    assert result["faces"] == sum(map(len, faces)) >= 3
    assert result["missed_by_one"] == 0
    for way in ("same_place", "whole_way"):
        assert result[way]["largest"] < 1e-5
        assert result[way]["same_label"] == 1


def test_what_is_off_is_seen(found):
    images, faces = copy.deepcopy(found)
    faces[0][0]["probabilities"]["fear"] += 0.25
    del faces[0][1]
    result = compare("fp32", faces, images, YUNET)
    assert result["missed_by_one"] == 1
    assert result["same_place"]["largest"] == pytest.approx(0.25, abs=1e-4)
    faces[0][0]["box"]["x"] += 6
    moved = compare("fp32", faces, images, YUNET)
    assert moved["whole_way"]["largest"] == pytest.approx(0.25, abs=1e-4)
    assert moved["same_place"] != result["same_place"]


def test_the_page_is_served_and_asked(tmp_path):
    (tmp_path / "index.html").write_text("the page")

    class Page:
        def goto(self, address: str) -> None:
            with urllib.request.urlopen(address) as answer:
                assert answer.read() == b"the page"

        def evaluate(self, script: str, texts: list[str]) -> list[list[str]]:
            return [[text] for text in texts]

    assert labelled_by_page(Page(), tmp_path, [b"one", b"two"]) == [["b25l"], ["dHdv"]]


def test_a_face_of_the_page_as_a_box():
    box = face_box({"box": {"x": 3, "y": -4, "width": 50, "height": 50}, "eyes": [[10.5, 12], [30, 13]]})
    assert (box.x, box.y, box.side, box.eyes) == (3, -4, 50, ((10.5, 12), (30, 13)))
    assert face_box({"box": {"x": 0, "y": 0, "width": 9, "height": 9}, "eyes": None}).eyes is None
    assert not np.array_equal(turned(people(1), 5), people(1))


def test_a_missing_detector_is_one_line(capsys, tmp_path):
    pytest.importorskip("playwright", reason="playwright is not installed")
    assert main(["--images", "1", "--detector-model", str(tmp_path / "none"), "--chromium", "/none"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
