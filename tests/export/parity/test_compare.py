"""The verdict: what passes, what warns, what fails, and what is refused to be judged."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from exported import (
    random_batch,
    run_torch,
    tiny_model,
)

from edgefel.errors import EdgefelError
from edgefel.export.parity.compare import MAX_SQNR_DB, compare, sqnr_db
from edgefel.export.parity.gate import reference_outputs
from edgefel.export.parity.limits import LIMITS, ParityLimits

CLASSES = 4
LABELS = ("neutral", "happiness", "sadness", "fear")


@pytest.fixture
def reference():
    return run_torch(tiny_model(), random_batch(6))


def changed(reference, **changes):
    return {**reference, **changes}


def drawn(targets: np.ndarray, accuracy: float = 0.8, seed: int = 0) -> dict[str, np.ndarray]:
    """Outputs of a network that is right about a share of the images, never by a narrow margin."""
    rng = np.random.default_rng(seed)
    count = len(targets)
    wrong = (targets + rng.integers(1, CLASSES, count)) % CLASSES
    named = np.where(np.arange(count) % 100 < 100 * accuracy, targets, wrong)
    logits = rng.standard_normal((count, CLASSES)).astype(np.float32) * 0.2
    logits[np.arange(count), named] += 2.0
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return {
        "logits": logits,
        "primary": probabilities,
        "probabilities": probabilities,
        "confidence": probabilities.max(axis=1),
        "embedding": rng.standard_normal((count, 5)).astype(np.float32),
    }


def mislabel(outputs: dict[str, np.ndarray], images: np.ndarray, label: int) -> dict[str, np.ndarray]:
    """A copy that calls the images `label` and differs in nothing else."""
    probabilities = outputs["probabilities"].copy()
    top = probabilities[images].argmax(axis=1)
    swapped = probabilities[images].copy()
    rows = np.arange(len(images))
    swapped[rows, top], swapped[rows, label] = probabilities[images, label], probabilities[images, top]
    probabilities[images] = swapped
    return changed(outputs, probabilities=probabilities)


def balanced(per_class: int = 100) -> np.ndarray:
    return np.tile(np.arange(CLASSES), per_class)


def right_about(outputs: dict[str, np.ndarray], targets: np.ndarray, label: int) -> np.ndarray:
    """Images of a class that the network gets right."""
    return np.flatnonzero((targets == label) & (outputs["probabilities"].argmax(axis=1) == label))


def test_equal_outputs_pass(reference):
    parity = compare(reference, reference, LIMITS["fp32"])
    assert parity.verdict == "pass"
    assert (parity.images, parity.largest_deviation, parity.top1_agreement) == (6, 0.0, 1.0)
    assert (parity.kl_mean, parity.kl_max) == (0.0, 0.0)
    assert parity.logits_sqnr_db == MAX_SQNR_DB
    json.dumps(parity.to_dict(), allow_nan=False)


def test_a_small_deviation_in_any_output_fails_float32(reference):
    for name in ("logits", "primary", "probabilities", "confidence", "embedding"):
        # as a share of outputs above 1: a float of 100 is only exact to 1e-5
        scale = max(1.0, float(np.abs(reference[name]).max()))
        for deviation, verdict in ((0.5e-4, "pass"), (2e-4, "fail")):
            off = reference[name].copy()
            off.flat[3] += deviation * scale
            limits = dataclasses.replace(LIMITS["fp32"], min_images=1)
            parity = compare(reference, changed(reference, **{name: off}), limits)
            assert parity.verdict == verdict
            assert parity.max_abs[name] == pytest.approx(deviation * scale, rel=0.1)
        assert parity.reasons[0].startswith(f"{name} deviates by")


def test_what_a_deviation_is_of_is_said(reference):
    large = changed(reference, logits=np.full_like(reference["logits"], 100.0))
    off = changed(large, logits=large["logits"] + np.float32(0.02))
    (reason,) = compare(large, off, LIMITS["fp32"]).reasons
    assert reason == "logits deviates by 0.02 of 100, limit 0.01"


def test_labelled_images_that_agree_pass_and_everything_is_measured():
    targets = balanced()
    outputs = drawn(targets)
    parity = compare(outputs, outputs, LIMITS["int8"], targets=targets, labels=LABELS)
    assert (parity.verdict, parity.reasons) == ("pass", ())
    assert parity.labels.accuracy == parity.labels.accuracy_reference == pytest.approx(0.8)
    assert [row.label for row in parity.labels.classes] == list(LABELS)
    assert {row.images for row in parity.labels.classes} == {100}
    assert parity.to_dict()["limits"]["min_agreement"] == 0.98
    assert json.loads(json.dumps(parity.to_dict())) == parity.to_dict()


def test_a_class_that_loses_too_much_fails_although_few_labels_change():
    """Six of 400 labels change, which every other limit allows: all of them happy faces."""
    targets = balanced()
    outputs = drawn(targets)
    lost = right_about(outputs, targets, 1)[:6]
    limits = dataclasses.replace(LIMITS["int8"], max_f1_loss=5.0)
    parity = compare(outputs, mislabel(outputs, lost, 2), limits, targets=targets, labels=LABELS)
    assert parity.verdict == "fail"
    assert parity.top1_agreement == 0.985
    assert len(parity.reasons) == 1
    assert parity.reasons[0].startswith("recall of happiness falls by 6.0 points (95 % interval -")
    rows = {row.label: row for row in parity.labels.classes}
    assert rows["happiness"].change == -6.0
    assert rows["happiness"].recall == pytest.approx(rows["happiness"].recall_reference - 0.06)
    back = compare(mislabel(outputs, lost, 2), outputs, limits, targets=targets, labels=LABELS)
    assert back.verdict == "pass"
    assert {row.label: row.change for row in back.labels.classes}["happiness"] == 6.0


def test_a_loss_that_few_images_cannot_show_is_said_and_does_not_fail():
    """Two images of a hundred are 2 points, and two that change by chance are too."""
    targets = balanced()
    outputs = drawn(targets)
    lost = right_about(outputs, targets, 1)[:2]
    parity = compare(outputs, mislabel(outputs, lost, 2), LIMITS["int8"], targets=targets, labels=LABELS)
    assert parity.verdict == "warn"
    assert len(parity.reasons) == 1
    assert parity.reasons[0].startswith("recall of happiness falls by 2.0 points (95 % interval -")
    assert parity.reasons[0].endswith("100 images), limit 1.5: too few to tell")


def test_exactly_at_a_limit_is_within_it():
    targets = balanced(50)
    outputs = drawn(targets)
    limits = ParityLimits(min_agreement=0.98, max_recall_loss=2.0)
    lost = [right_about(outputs, targets, label)[0] for label in range(CLASSES)]
    at = compare(outputs, mislabel(outputs, np.array(lost), 1), limits, targets=targets)
    # three of 200: class 1 keeps its own
    assert at.top1_agreement == 0.985
    wrong = np.array([*lost, right_about(outputs, targets, 0)[1]])
    exact = compare(
        outputs,
        mislabel(outputs, wrong, 1),
        dataclasses.replace(limits, max_recall_loss=4.0),
        targets=targets,
    )
    assert exact.top1_agreement == 0.98
    assert exact.labels.classes[0].change == -4.0
    assert (exact.verdict, exact.reasons) == ("pass", ())
    tighter = dataclasses.replace(limits, min_agreement=0.9801, max_recall_loss=3.99)
    beyond = compare(outputs, mislabel(outputs, wrong, 1), tighter, targets=targets)
    assert beyond.verdict == "fail"
    assert "98.00% of the labels agree, limit 98.01%" in beyond.reasons[0]
    assert "class 0" in beyond.reasons[1]


def test_confidence_that_rises_without_reason_fails_by_calibration():
    targets = balanced()
    outputs = drawn(targets)
    sharper = outputs["probabilities"] ** 4
    sharper /= sharper.sum(axis=1, keepdims=True)
    parity = compare(outputs, changed(outputs, probabilities=sharper), LIMITS["int8"], targets=targets)
    assert parity.verdict == "fail"
    assert len(parity.reasons) == 1
    assert parity.reasons[0].startswith("the calibration error rises by")
    assert parity.kl_mean > 0.01


def test_a_small_class_is_not_judged_by_its_recall_and_it_is_said():
    targets = np.concatenate([balanced(), np.full(12, 3)])[: 400 + 12]
    targets[(targets == 3) & (np.arange(412) < 400)] = 0
    outputs = drawn(targets)
    lost = right_about(outputs, targets, 3)[:6]
    limits = dataclasses.replace(LIMITS["int8"], max_f1_loss=None)
    parity = compare(outputs, mislabel(outputs, lost, 1), limits, targets=targets, labels=LABELS)
    assert parity.verdict == "warn"
    assert parity.reasons == ("12 images of fear are too few to judge its recall by (at least 30)",)
    strict = dataclasses.replace(limits, min_per_class=12)
    assert compare(outputs, mislabel(outputs, lost, 1), strict, targets=targets).verdict == "fail"


def test_few_images_are_judged_by_deviations_only():
    targets = balanced(24)
    outputs = drawn(targets)
    other = mislabel(outputs, np.arange(0, 96, 2), 1)
    parity = compare(outputs, other, LIMITS["int8"], targets=targets)
    assert parity.verdict == "warn"
    assert "96 images are too few to judge labels by" in parity.reasons[0]
    noisy = changed(other, logits=outputs["logits"] * -1)
    assert compare(outputs, noisy, LIMITS["int8"], targets=targets).verdict == "fail"


def test_a_reference_at_chance_says_nothing_about_labels():
    targets = balanced()
    guessing = drawn(np.random.default_rng(1).permutation(targets))
    other = mislabel(guessing, np.arange(0, 400, 3), 1)
    parity = compare(guessing, other, LIMITS["int8"], targets=targets)
    assert parity.verdict == "warn"
    assert "PyTorch itself is at chance here" in parity.reasons[0]
    assert parity.labels.chance_p_value > 0.01


def test_without_labels_deviations_and_sqnr_decide(reference):
    rolled = np.roll(reference["probabilities"], 1, axis=-1)
    parity = compare(reference, changed(reference, probabilities=rolled), LIMITS["int8"])
    assert parity.verdict == "warn"
    assert "no labelled images" in parity.reasons[0]
    noisy = reference["logits"] + 0.9 * np.abs(reference["logits"]).mean()
    parity = compare(reference, changed(reference, logits=noisy), LIMITS["int8"])
    assert parity.verdict == "fail"
    assert parity.reasons[0].startswith("SQNR of the logits is")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_fail_whatever_the_limits(reference, bad):
    broken = reference["confidence"].copy()
    broken[0] = bad
    parity = compare(reference, changed(reference, confidence=broken), ParityLimits())
    assert parity.verdict == "fail"
    assert "confidence" in parity.reasons[0]
    json.dumps(parity.to_dict(), allow_nan=False)


def test_a_file_without_logits_is_compared_by_what_it_has(reference):
    outputs = ("probabilities", "confidence")
    few = {name: reference[name] for name in outputs}
    assert compare(reference, few, LIMITS["fp32"], outputs=outputs).verdict == "pass"
    parity = compare(reference, few, LIMITS["fp16"], outputs=outputs)
    assert parity.verdict == "warn"
    assert "no logits" in parity.reasons[0]


def test_an_empty_comparison_is_refused(reference):
    empty = {name: value[:0] for name, value in reference.items()}
    with pytest.raises(EdgefelError, match="no images were compared"):
        compare(empty, empty, LIMITS["fp32"])
    with pytest.raises(EdgefelError, match="no images were compared"):
        reference_outputs(tiny_model(), [])
    with pytest.raises(EdgefelError, match="'embedding' is missing"):
        compare(reference, {k: v for k, v in reference.items() if k != "embedding"}, LIMITS["fp32"])
    with pytest.raises(EdgefelError, match="5 targets for 6 images"):
        compare(reference, reference, LIMITS["int8"], targets=np.zeros(5, dtype=np.int64))


def test_shapes_must_agree(reference):
    with pytest.raises(EdgefelError, match="logits has shape"):
        compare(reference, changed(reference, logits=reference["logits"][:, :7]), LIMITS["fp32"])


def test_sqnr():
    signal = np.ones(1000, dtype=np.float32)
    assert sqnr_db(signal, signal + np.float32(0.1)) == pytest.approx(20.0, abs=0.01)
    assert sqnr_db(signal, signal) == MAX_SQNR_DB
    assert sqnr_db(np.zeros(3, np.float32), np.ones(3, np.float32)) == -MAX_SQNR_DB
