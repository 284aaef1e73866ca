"""Measures against scikit-learn, and intervals against what they promise."""

from __future__ import annotations

import numpy as np
import pytest

from edgefel.bench.experiments.calibration.intervals import (
    FileOutcome,
    HeldOut,
    Interval,
    TwoLevelBootstrap,
    measures,
)
from edgefel.evaluation.metrics import compute_metrics
from edgefel.export.parity.compare import MAX_SQNR_DB, sqnr_db

LABELS = ("a", "b", "c", "d")


def judged(count=60, seed=0):
    """FP32 and "INT8" logits of random images: the reference, one outcome with tail c, d, and the raw arrays."""
    rng = np.random.default_rng(seed)
    targets = np.concatenate([np.arange(4), rng.integers(4, size=count - 4)])
    fp32 = np.eye(4)[targets] * 1.5 + rng.standard_normal((count, 4))
    int8 = fp32 + 0.7 * rng.standard_normal((count, 4))
    held_out = HeldOut(LABELS, targets, fp32.argmax(1), np.square(fp32).sum(1))
    outcome = FileOutcome(int8.argmax(1), np.square(int8 - fp32).sum(1), ("c", "d"))
    return held_out, outcome, fp32, int8


def test_measures_are_those_of_scikit_learn_and_of_the_parity_check():
    held_out, outcome, fp32, int8 = judged()
    found = {name: value[0] for name, value in measures(held_out, outcome, np.ones((1, 60))).items()}
    expected = compute_metrics(np.exp(int8) / np.exp(int8).sum(1, keepdims=True), held_out.targets)
    assert found["accuracy"] == pytest.approx(expected.accuracy)
    assert found["macro_f1"] == pytest.approx(expected.macro_f1)
    assert [found[f"recall_{label}"] for label in LABELS] == pytest.approx(expected.recall)
    assert found["agreement"] == pytest.approx((fp32.argmax(1) == int8.argmax(1)).mean())
    assert found["sqnr_db"] == pytest.approx(sqnr_db(fp32, int8))
    tail = held_out.targets >= 2
    assert found["tail_accuracy"] == pytest.approx((int8.argmax(1) == held_out.targets)[tail].mean())
    assert found["tail_agreement"] == pytest.approx((fp32.argmax(1) == int8.argmax(1))[tail].mean())
    assert found["tail_sqnr_db"] == pytest.approx(sqnr_db(fp32[tail], int8[tail]))
    assert found["tail_macro_f1"] == pytest.approx(_f1_of(held_out.targets, int8.argmax(1), (2, 3)))


def _f1_of(targets, predicted, classes):
    from sklearn.metrics import f1_score

    return f1_score(targets, predicted, labels=list(classes), average="macro")


def test_a_weight_of_two_counts_a_image_twice():
    held_out, outcome, _, _ = judged()
    repeats = np.random.default_rng(3).integers(0, 3, size=60)
    index = np.repeat(np.arange(60), repeats)
    longer = HeldOut(LABELS, held_out.targets[index], held_out.predicted[index], held_out.signal[index])
    expected = measures(
        longer,
        FileOutcome(outcome.predicted[index], outcome.noise[index], outcome.tail),
        np.ones((1, len(index))),
    )
    for name, value in measures(held_out, outcome, repeats[None].astype(float)).items():
        assert value == pytest.approx(expected[name]), name


def test_a_class_that_does_not_occur_counts_nowhere():
    held_out, outcome, _, _ = judged()
    weights = (held_out.targets < 2).astype(float)[None]
    found = measures(held_out, outcome, weights)
    assert np.isnan([found["recall_c"][0], found["tail_accuracy"][0], found["tail_macro_f1"][0]]).all()
    assert np.isfinite([found["accuracy"][0], found["macro_f1"][0]]).all()
    same = measures(held_out, FileOutcome(held_out.predicted, np.zeros(60), ("c",)), np.ones((1, 60)))
    assert same["sqnr_db"][0] == MAX_SQNR_DB


def wrong_on(held_out, share, seed):
    """An outcome that is right except on a random share of the images."""
    rng = np.random.default_rng(seed)
    wrong = rng.random(len(held_out.targets)) < share
    return FileOutcome(
        np.where(wrong, (held_out.targets + 1) % 4, held_out.targets),
        np.full(len(wrong), 0.1 + share),
        ("d",),
    )


def test_the_sign_of_a_difference_and_its_verdict():
    held_out = judged(400)[0]
    files = [wrong_on(held_out, share, seed) for share in (0.1, 0.3) for seed in range(4)]
    bootstrap = TwoLevelBootstrap(held_out, files, 4, 500, 0)
    good, bad = range(4), range(4, 8)
    gain = bootstrap.differences(good, bad)
    for name in ("accuracy", "macro_f1", "sqnr_db", "tail_accuracy"):
        assert gain[name].low > 0, name
        assert gain[name].low <= gain[name].value <= gain[name].high
        assert gain[name].verdict == "better"
    assert gain["accuracy"].value == pytest.approx(0.2, abs=0.05)
    loss = bootstrap.differences(bad, good)
    assert loss["macro_f1"].verdict == "worse"
    assert loss["macro_f1"].low == pytest.approx(-gain["macro_f1"].high)
    nothing = bootstrap.differences(good, good)["macro_f1"]
    assert (nothing.low, nothing.high, nothing.verdict) == (0, 0, "no difference shown")
    assert bootstrap.means(good)["accuracy"].value == pytest.approx(0.9, abs=0.03)


def test_the_same_seed_gives_the_same_intervals():
    held_out = judged()[0]
    files = [wrong_on(held_out, 0.3, seed) for seed in range(3)]
    first = TwoLevelBootstrap(held_out, files, 3, 300, 7).means(range(3))
    assert first == TwoLevelBootstrap(held_out, files, 3, 300, 7).means(range(3))
    assert first != TwoLevelBootstrap(held_out, files, 3, 300, 8).means(range(3))


def test_differences_are_paired_in_seeds_and_in_images():
    """Files that differ from seed to seed but not from each other: unpaired, the interval would be wide."""
    held_out = judged(200)[0]
    files = [wrong_on(held_out, share, seed) for seed, share in enumerate((0.1, 0.2, 0.3, 0.4, 0.5))]
    slightly = [
        FileOutcome(np.where(np.arange(200) == 5, 3 - f.predicted, f.predicted), f.noise, f.tail)
        for f in files
    ]
    bootstrap = TwoLevelBootstrap(held_out, [*files, *slightly], 5, 500, 0)
    difference = bootstrap.differences(range(5), range(5, 10))["accuracy"]
    mean = bootstrap.means(range(5))["accuracy"]
    assert difference.high - difference.low < 0.2 * (mean.high - mean.low)


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    """Seeds and images both vary; the true accuracy is known. 7 seeds cost a few of the 95 %."""
    covered = 0
    trials = 120
    for trial in range(trials):
        rng = np.random.default_rng(trial)
        targets = np.concatenate([np.arange(4), rng.integers(4, size=146)])
        difficulty = rng.normal(0, 0.1, size=150)
        held_out = HeldOut(LABELS, targets, targets, np.ones(150))
        files = []
        for _ in range(7):
            right = rng.random(150) < np.clip(0.7 + rng.normal(0, 0.05) + difficulty, 0, 1)
            files.append(FileOutcome(np.where(right, targets, (targets + 1) % 4), np.ones(150), ("d",)))
        interval = TwoLevelBootstrap(held_out, files, 7, 200, trial).means(range(7))["accuracy"]
        covered += interval.low <= 0.7 <= interval.high
    assert 0.85 <= covered / trials <= 1.0


def test_nothing_known_is_no_verdict():
    assert Interval(None, None, None).verdict == "no difference shown"
