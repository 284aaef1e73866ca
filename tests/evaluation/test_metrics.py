from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import calinski_harabasz_score, davies_bouldin_score

from edgefel.errors import EdgefelError
from edgefel.evaluation.metrics import (
    compute_metrics,
    draw_stratified,
    expected_calibration_error,
    judge_clusters,
    reliability_bins,
    spread,
)


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


def test_spread_per_image_and_pooled():
    found = spread(np.array([[0.9, 0.1], [0.5, 0.5]]))
    assert found.std == pytest.approx((0.4 + 0) / 2)
    assert found.highest == pytest.approx(0.7)
    assert found.lowest == pytest.approx(0.3)
    assert found.pooled_std == pytest.approx(np.sqrt((0.16 + 0.16 + 0 + 0) / 4))
    assert (found.pooled_highest, found.pooled_lowest, found.images) == (0.9, 0.1, 2)


def test_reliability_bins_add_up_to_the_ece():
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.full(4, 0.5), 300)
    targets = rng.integers(0, 4, 300)
    bins = reliability_bins(probabilities, targets)
    assert sum(part.images for part in bins) == 300
    top, hit = probabilities.max(1), probabilities.argmax(1) == targets
    total = 0.0
    for part in bins:
        inside = (top > part.low) & (top <= part.high)
        assert part.images == inside.sum()
        if not inside.any():
            assert part.accuracy is part.confidence is None
            continue
        assert part.accuracy == pytest.approx(hit[inside].mean())
        assert part.confidence == pytest.approx(top[inside].mean())
        total += inside.mean() * abs(hit[inside].mean() - top[inside].mean())
    assert expected_calibration_error(probabilities, targets) == pytest.approx(total)


def test_clusters_on_a_known_arrangement():
    """Two pairs, each spread 1 about its centre, 10 apart."""
    features = np.array([[-1.0, 0], [1, 0], [9, 0], [11, 0]])
    targets = np.array([0, 0, 1, 1])
    found = judge_clusters(features, targets)
    assert found.width == 2
    assert found.davies_bouldin == pytest.approx((1 + 1) / 10)
    assert found.calinski_harabasz == pytest.approx((4 * 25 / 1) / (4 / 2))
    assert found.davies_bouldin == pytest.approx(davies_bouldin_score(features, targets))
    assert found.calinski_harabasz == pytest.approx(calinski_harabasz_score(features, targets))
    assert judge_clusters(features, np.zeros(4, int)) is None
    assert judge_clusters(features, np.arange(4)) is None


def test_a_stratified_draw_keeps_the_shares():
    targets = np.repeat([0, 1, 2], [60, 30, 11])
    drawn = draw_stratified(targets, 20)
    assert len(set(drawn.tolist())) == 20
    assert np.bincount(targets[drawn]).tolist() == [12, 6, 2]
    assert np.array_equal(drawn, draw_stratified(targets, 20))
    assert not np.array_equal(drawn, draw_stratified(targets, 20, seed=1))
    assert np.array_equal(draw_stratified(targets, 101), np.arange(101))
