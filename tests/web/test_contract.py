from __future__ import annotations

import json

import numpy as np
import pytest
from tiny_bundle import rewritten
from yunet_like import yunet_like

from edgefel.errors import EdgefelError
from edgefel.runtime.session import Session
from edgefel.runtime.shipped import FOLDER
from edgefel.web import contract
from edgefel.web.contract import check_image, make_contract, reference, uses_webgpu


@pytest.fixture(scope="module")
def shipped_session():
    with Session.open(FOLDER, "fp32", "onnxruntime", threads=1) as session:
        yield session


def test_the_contract_says_what_the_page_has_to_do(shipped_session, yunet):
    document, image = make_contract(shipped_session, yunet)
    manifest = shipped_session.manifest
    assert json.loads(json.dumps(document)) == document
    assert document["labels"] == list(manifest.labels)
    assert document["preprocessing"] == manifest.preprocessing.to_dict()
    assert document["framing"] == manifest.framing.to_dict()
    assert document["outputs"] == ["primary", "probabilities", "confidence", "embedding"]
    assert document["network"] == {"file": "models/network.onnx", "precision": "fp32", "tolerance": 1e-3}
    assert document["detector"] == {"file": "models/detector.onnx", "name": "YuNet", "sides": None}
    assert document["webgpu"]
    np.testing.assert_array_equal(image, check_image())
    check = document["check"]
    assert len(check["found"]) == len(check["faces"]) == 2
    for face in check["faces"]:
        assert sum(face["probabilities"]) == pytest.approx(1, abs=1e-5)
        assert face["probabilities"] != face["primary"]
        assert len(face["box"]["landmarks"]) == 5


def test_the_reference_is_the_sessions_own_file(shipped_session):
    crops = [np.random.default_rng(0).integers(0, 256, (97, 97, 3), np.uint8)]
    probabilities, primary = reference(shipped_session, crops)
    expected = shipped_session(crops)
    np.testing.assert_allclose(probabilities, expected.probabilities, atol=1e-5)
    np.testing.assert_allclose(primary, expected.primary, atol=1e-5)


def test_the_reference_takes_a_file_that_normalises_itself(tmp_path):
    bundle = rewritten(tmp_path / "bundle", uint8=True)
    crops = [np.full((40, 40, 3), 200, np.uint8)] * 2
    with Session.open(bundle, backend="onnxruntime", threads=1) as session:
        assert session.manifest.input_type == "uint8"
        probabilities, _ = reference(session, crops)
        np.testing.assert_allclose(probabilities, session(crops).probabilities, atol=1e-5)


def test_a_detector_that_finds_nothing_is_refused(shipped_session, tmp_path, monkeypatch):
    monkeypatch.setattr(contract, "check_image", lambda: np.zeros((64, 96, 3), np.uint8))
    blind = yunet_like(tmp_path / "blind.onnx")
    with pytest.raises(EdgefelError, match="blind.onnx: finds no face in a synthetic image"):
        make_contract(shipped_session, blind)


def test_int8_runs_on_wasm_alone():
    assert uses_webgpu("fp32")
    assert not uses_webgpu("int8")
