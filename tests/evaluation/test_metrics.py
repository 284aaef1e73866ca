from __future__ import annotations

import numpy as np
import pytest

from edgefel.errors import EdgefelError
from edgefel.evaluation.metrics import compute_metrics, expected_calibration_error


def one_hot_ish(predicted: list[int], classes: int = 3, top: float = 0.8) -> np.ndarray:
    rows = np.full((len(predicted), classes), (1 - top) / (classes - 1))
    rows[np.arange(len(predicted)), predicted] = top
    return rows


def test_known_confusion():
    targets = np.array([0, 0, 0, 1, 1, 2])
    metrics = compute_metrics(one_hot_ish([0, 0, 1, 1, 2, 2]), targets)
    assert metrics.confusion == ((2, 1, 0), (0, 1, 1), (0, 0, 1))
    assert metrics.accuracy == pytest.approx(4 / 6)
    assert metrics.recall == pytest.approx((2 / 3, 1 / 2, 1.0))
    # F1 of each class: 2 tp / (2 tp + fp + fn)
    assert metrics.macro_f1 == pytest.approx((4 / 5 + 2 / 4 + 2 / 3) / 3)


def test_a_class_that_does_not_occur_has_no_recall_and_no_share_in_f1():
    metrics = compute_metrics(one_hot_ish([0, 1]), np.array([0, 1]))
    assert metrics.recall == (1.0, 1.0, None)
    assert metrics.macro_f1 == 1.0
    assert len(metrics.confusion) == 3


@pytest.mark.parametrize("bins", [1, 4, 15])
def test_calibration_error_equals_a_loop_over_bins(bins):
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.full(7, 0.4), 500)
    targets = rng.integers(0, 7, 500)
    expected = 0.0
    for b in range(bins):
        low, high = b / bins, (b + 1) / bins
        inside = [
            (row.max(), row.argmax() == t)
            for row, t in zip(probabilities, targets, strict=True)
            if low < row.max() <= high
        ]
        if inside:
            confidence = sum(c for c, _ in inside) / len(inside)
            accuracy = sum(hit for _, hit in inside) / len(inside)
            expected += len(inside) / 500 * abs(accuracy - confidence)
    assert expected_calibration_error(probabilities, targets, bins) == pytest.approx(expected)


def test_calibration_error_of_a_calibrated_and_an_overconfident_model():
    targets = np.array([0, 0, 0, 0, 1])
    assert expected_calibration_error(one_hot_ish([0] * 5, top=0.8), targets) == pytest.approx(0.0)
    assert expected_calibration_error(one_hot_ish([0] * 5, top=1.0), targets) == pytest.approx(0.2)


def test_nothing_to_judge_is_an_error():
    with pytest.raises(EdgefelError, match="no images"):
        compute_metrics(np.empty((0, 7)), np.empty(0, int))
    with pytest.raises(ValueError, match="do not fit"):
        compute_metrics(np.ones((2, 7)), np.zeros(3, int))
