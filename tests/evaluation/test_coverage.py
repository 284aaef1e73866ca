"""Accuracy against coverage, on cases whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgefel.evaluation.coverage import STEPS, compute_coverage
from edgefel.runtime.confidence import entropy_confidence


def rows(tops: list[float], classes: int = 3) -> np.ndarray:
    """Distributions whose class 0 has the given probability, the rest spread evenly: surer with a higher one."""
    return np.array([[top, *[(1 - top) / (classes - 1)] * (classes - 1)] for top in tops])


def test_thresholds_keep_the_confident():
    probabilities = rows([0.99, 0.9, 0.7, 0.5])
    coverage = compute_coverage(probabilities, np.array([0, 0, 1, 1]))
    confidence = entropy_confidence(probabilities)
    assert len(coverage.thresholds) == STEPS + 1
    for threshold in coverage.thresholds:
        kept = confidence >= threshold.min_confidence
        assert threshold.coverage == kept.mean()
        if kept.any():
            assert threshold.accuracy == np.array([1, 1, 0, 0])[kept].mean()
        else:
            assert threshold.accuracy is None
    assert coverage.reaching(1.0).coverage == 0.5
    assert coverage.reaching(0.5).min_confidence == 0


def test_each_class_has_its_own_coverage():
    coverage = compute_coverage(rows([0.99, 0.5, 0.5, 0.99]), np.array([0, 0, 1, 1]))
    middle = coverage.thresholds[STEPS // 2]
    assert middle.class_coverage == (0.5, 0.5, None)


def test_the_curve_and_its_areas():
    # ranked: hit, miss, hit, miss
    coverage = compute_coverage(rows([0.99, 0.9, 0.8, 0.7]), np.array([0, 1, 0, 1]))
    expected = np.array([(0.25, 1), (0.5, 0.5), (0.75, 2 / 3), (1, 0.5)])
    assert np.array(coverage.curve) == pytest.approx(expected)
    assert coverage.risk_area == pytest.approx((0 + 1 / 2 + 1 / 3 + 1 / 2) / 4)
    assert coverage.best_risk_area == pytest.approx((0 + 0 + 1 / 3 + 1 / 2) / 4)
    assert coverage.auroc == pytest.approx(3 / 4)


def test_a_confidence_that_tells_nothing_is_no_better_than_chance():
    """Equal confidences: the order of the images in the data must not matter."""
    for targets in ([0, 0, 1, 1], [1, 1, 0, 0]):
        coverage = compute_coverage(rows([0.8] * 4), np.array(targets))
        assert [accuracy for _, accuracy in coverage.curve] == pytest.approx([0.5] * 4)
        assert coverage.risk_area == pytest.approx(0.5)
        assert coverage.auroc == 0.5


@pytest.mark.parametrize("targets", [[0, 0], [1, 1]])
def test_all_right_or_all_wrong(targets):
    coverage = compute_coverage(rows([0.9, 0.8]), np.array(targets))
    assert coverage.auroc is None
    assert coverage.risk_area == coverage.best_risk_area == targets[0]
    assert coverage.reaching(0.5) is (coverage.thresholds[0] if targets[0] == 0 else None)


def test_a_certain_image_reaches_the_highest_threshold():
    assert compute_coverage(np.eye(3)[:1], np.array([0])).thresholds[-1].coverage == 1


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 300), st.integers(0, 10**6))
def test_what_holds_for_any_predictions(count, seed):
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.ones(5), count)
    targets = rng.integers(0, 5, count)
    coverage = compute_coverage(probabilities, targets)
    shares = [threshold.coverage for threshold in coverage.thresholds]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] == 1
    accuracy = float((probabilities.argmax(1) == targets).mean())
    assert coverage.thresholds[0].accuracy == pytest.approx(accuracy)
    assert coverage.curve[-1] == pytest.approx((1, accuracy))
    assert coverage.best_risk_area <= coverage.risk_area + 1e-12
