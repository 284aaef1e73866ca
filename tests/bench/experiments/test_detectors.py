"""Detectors timed against the Haar cascade: what they see, and that nothing is timed that finds other faces."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgefel.bench.experiments import detectors
from edgefel.bench.timer import TimingPlan
from edgefel.errors import EdgefelError
from edgefel.runtime.faces import HaarDetector
from edgefel.runtime.yunet import YuNetDetector

ROOT = Path(__file__).parents[3]
YUNET = ROOT.parent / "shared" / "data" / "yunet.onnx"
NANO = ROOT / "tests" / "bundles" / "nano-synthetic"


@pytest.fixture
def real():
    if not YUNET.is_file():
        pytest.skip(f"no {YUNET.name} in ../shared/data")
    return YUNET


@pytest.mark.parametrize("faces", [1, 3, 6])
def test_haar_finds_the_faces_of_the_images(faces):
    image = detectors.scene(faces)
    assert image.shape == (480, 640, 3)
    assert len(HaarDetector()(image)) == faces


def test_opencv_sees_the_same(real):
    image = detectors.scene(3)
    ours, theirs = YuNetDetector(real, threads=1), detectors.OpenCvYuNet(real)
    np.testing.assert_allclose(ours.rows(image), theirs.rows(image), atol=0.5)
    assert theirs.rows(np.zeros((64, 64, 3), np.uint8)).shape == (0, 15)


def test_a_row_for_each_number_of_faces(real, monkeypatch):
    pytest.importorskip("openvino", reason="is one of the backends")
    monkeypatch.setattr(detectors, "PLACES", {faces: detectors.PLACES[faces] for faces in (1, 3)})
    brief = TimingPlan(warmup=0, settle_seconds=0, min_runs=1, seconds=0, max_runs=1)
    monkeypatch.setattr(TimingPlan, "exactly", lambda runs: brief)
    found = detectors.document(real, NANO, 1)
    assert [row["faces"] for row in found["rows"]] == [1, 3]
    for row in found["rows"]:
        for what in ("detection", "labels"):
            ms = row[what]["ms_p50"]
            assert set(ms) == {"haar", "yunet, opencv", "yunet, onnxruntime", "yunet, openvino"}
            for name, ratio in row[what]["times_as_fast"].items():
                assert ratio["value"] == pytest.approx(ms["haar"] / ms[name])


def test_nothing_is_timed_where_faces_are_missing(real, monkeypatch):
    monkeypatch.setattr(detectors, "scene", lambda faces: np.zeros((480, 640, 3), np.uint8))
    with pytest.raises(EdgefelError, match="haar finds 0 of 1 face; nothing is timed"):
        detectors.document(real, NANO, 1)
