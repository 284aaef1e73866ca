"""The comparison itself: what passes, what warns, what fails, and what it refuses to judge."""

from __future__ import annotations

import json

import numpy as np
import pytest
from exported import random_batch, run_torch, tiny_graph, tiny_model

from edgefel.errors import EdgefelError
from edgefel.export.onnx_graph import save_onnx
from edgefel.export.parity import (
    LIMITS,
    MAX_SQNR_DB,
    ParityLimits,
    compare,
    onnx_outputs,
    reference_outputs,
    sqnr_db,
)


@pytest.fixture
def reference():
    return run_torch(tiny_model(), random_batch(6))


def changed(reference, **changes):
    return {**reference, **changes}


def test_equal_outputs_pass(reference):
    parity = compare(reference, reference, LIMITS["fp32"])
    assert parity.status == "pass"
    assert (parity.images, parity.largest_deviation, parity.top1_agreement) == (6, 0.0, 1.0)
    assert parity.logits_sqnr_db == MAX_SQNR_DB
    json.dumps(parity.to_dict(), allow_nan=False)


def test_a_small_deviation_in_any_output_fails_float32(reference):
    for name in ("logits", "primary", "probabilities", "confidence", "embedding"):
        off = reference[name].copy()
        off.flat[3] += 2e-4
        parity = compare(reference, changed(reference, **{name: off}), LIMITS["fp32"])
        assert parity.status == "fail"
        assert parity.reasons[0].startswith(name)
        assert parity.max_abs[name] == pytest.approx(2e-4, rel=0.1)


def test_reduced_precision_warns_and_says_why(reference):
    rolled = np.roll(reference["probabilities"], 1, axis=-1)
    noisy = reference["logits"] + 0.9 * np.abs(reference["logits"]).mean()
    parity = compare(reference, changed(reference, probabilities=rolled, logits=noisy), LIMITS["int8"])
    assert parity.status == "warn"
    assert len(parity.reasons) == 2
    assert "0.0% of the labels agree" in parity.reasons[1]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_fail_whatever_the_limits(reference, bad):
    broken = reference["confidence"].copy()
    broken[0] = bad
    parity = compare(reference, changed(reference, confidence=broken), ParityLimits())
    assert parity.status == "fail"
    assert "confidence" in parity.reasons[0]


def test_an_empty_comparison_is_refused(reference):
    empty = {name: value[:0] for name, value in reference.items()}
    with pytest.raises(EdgefelError, match="no images were compared"):
        compare(empty, empty, LIMITS["fp32"])
    with pytest.raises(EdgefelError, match="no images were compared"):
        reference_outputs(tiny_model(), [])
    with pytest.raises(EdgefelError, match="'embedding' is missing"):
        compare(reference, {k: v for k, v in reference.items() if k != "embedding"}, LIMITS["fp32"])


def test_shapes_must_agree(reference):
    with pytest.raises(EdgefelError, match="logits has shape"):
        compare(reference, changed(reference, logits=reference["logits"][:, :7]), LIMITS["fp32"])


def test_sqnr():
    signal = np.ones(1000, dtype=np.float32)
    assert sqnr_db(signal, signal + np.float32(0.1)) == pytest.approx(20.0, abs=0.01)
    assert sqnr_db(signal, signal) == MAX_SQNR_DB
    assert sqnr_db(np.zeros(3, np.float32), np.ones(3, np.float32)) == -MAX_SQNR_DB


def test_the_exported_file_passes_and_every_image_counts(tmp_path):
    save_onnx(tiny_graph(), tmp_path / "model.onnx")
    batches = [random_batch(3, 1), random_batch(2, 2)]
    expected = reference_outputs(tiny_model(), batches)
    parity = compare(expected, onnx_outputs(tmp_path / "model.onnx", batches), LIMITS["fp32"])
    assert parity.status == "pass"
    assert parity.images == 5
