"""The check of an engine of TensorRT for RTX: it builds here, and a wrong output is told from a close one."""

from __future__ import annotations

import importlib.util
import json

import gpu_engine
import numpy as np
import pytest
from gpu_engine import MOST_DIFFERENCE, compare, run_reference

from edgefel.errors import EdgefelError


def outputs(images=4):
    rng = np.random.default_rng(1)
    p = rng.random((images, 7)).astype(np.float32)
    return {
        "logits": rng.random((images, 7)).astype(np.float32),
        "probabilities": p / p.sum(1, keepdims=True),
    }


def test_outputs_that_differ_by_rounding_are_close_and_others_are_not():
    expected = outputs()
    near = {name: value + 1e-3 for name, value in expected.items()}
    found = compare(near, expected)
    assert (found["close"], found["same expression"]) == (True, 4)
    assert found["largest difference"] == pytest.approx({"logits": 1e-3, "probabilities": 1e-3}, rel=1e-3)
    for change in (2 * MOST_DIFFERENCE, np.nan):
        wrong = {**expected, "probabilities": expected["probabilities"] + np.float32(change)}
        assert not compare(wrong, expected)["close"]
    rolled = {**expected, "probabilities": np.roll(expected["probabilities"], 1, axis=1)}
    assert compare(rolled, expected)["same expression"] == 0


def test_the_reference_gives_probabilities():
    found = run_reference(np.zeros((2, 3, 112, 112), np.float32))
    np.testing.assert_allclose(found["probabilities"].sum(1), 1, rtol=1e-5)


def test_an_engine_that_does_not_load_is_an_error_in_the_file(tmp_path, monkeypatch, capsys):
    def refuse(build_only):
        raise EdgefelError("the engine does not load on this GPU: no")

    monkeypatch.setattr(gpu_engine, "check", refuse)
    assert gpu_engine.main(["-o", str(tmp_path / "rtx.json")]) == 1
    assert json.loads((tmp_path / "rtx.json").read_text())["error"].endswith("GPU: no")
    monkeypatch.setattr(gpu_engine, "check", lambda build_only: {"close": False})
    assert gpu_engine.main(["-o", str(tmp_path / "rtx.json")]) == 1


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx") is None, reason="TensorRT for RTX is not installed"
)
def test_the_engine_is_built_without_a_gpu(tmp_path):
    assert gpu_engine.main(["-o", str(tmp_path / "rtx.json"), "--build-only"]) == 0
    found = json.loads((tmp_path / "rtx.json").read_text())
    assert found["package"] == "tensorrt_rtx"
    assert found["bytes"] > 100_000
