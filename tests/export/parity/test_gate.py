"""The gate on real files: PyTorch and ONNX Runtime on the same images."""

from __future__ import annotations

import numpy as np
import pytest
from exported import colour_batch, random_batch, tiny_graph, tiny_model, varied_int8, varied_model

from edgefel.errors import EdgefelError
from edgefel.export.onnx.trace import save_onnx, serialize
from edgefel.export.parity.compare import compare
from edgefel.export.parity.gate import onnx_outputs, reference_outputs
from edgefel.export.parity.limits import LIMITS, ParityLimits


def test_the_exported_file_passes_and_every_image_counts(tmp_path):
    save_onnx(tiny_graph(), tmp_path / "model.onnx")
    batches = [random_batch(3, 1), random_batch(2, 2)]
    expected = reference_outputs(tiny_model(), batches, threads=1)
    actual = onnx_outputs(tmp_path / "model.onnx", batches, threads=1)
    parity = compare(expected, actual, LIMITS["fp32"])
    assert parity.verdict == "pass"
    assert parity.images == 5
    from_bytes = onnx_outputs(serialize(tiny_graph()), batches, threads=1)
    assert all(np.array_equal(actual[name], from_bytes[name]) for name in actual)


def test_a_broken_model_is_one_line(tmp_path):
    with pytest.raises(EdgefelError, match="the model: ONNX Runtime cannot load it"):
        onnx_outputs(b"nothing", [random_batch(1)])
    save_onnx(tiny_graph(), tmp_path / "model.onnx")
    with pytest.raises(EdgefelError, match=r"model\.onnx: ONNX Runtime cannot run it on \[1, 3, 64, 64\]"):
        onnx_outputs(tmp_path / "model.onnx", [random_batch(1, size=64)])


def test_a_quantization_with_one_wrong_scale_is_caught():
    """An honest INT8 graph passes on images whose labels the network knows; one layer's scale times 8 fails."""
    batches = [colour_batch(8, seed) for seed in range(6)]
    reference = reference_outputs(varied_model(), batches)
    targets = reference["probabilities"].argmax(axis=1)
    targets[::10] = (targets[::10] + 1) % 8
    limits = ParityLimits(min_sqnr_db=10.0, min_agreement=0.85, min_images=40)

    def judged(factor: float):
        actual = onnx_outputs(serialize(varied_int8(factor)), batches)
        return compare(reference, actual, limits, targets=targets)

    assert judged(1).verdict == "pass"
    broken = judged(8)
    assert broken.verdict == "fail"
    assert any("of the labels agree" in reason for reason in broken.reasons)
