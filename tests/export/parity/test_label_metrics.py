"""What labels show: recall changes with honest intervals, divergence, agreement, and the test against chance."""

from __future__ import annotations

import numpy as np
import pytest

from edgefel.export.parity.label_metrics import chance_p_value, kl_divergence, recall_change, share_interval


def one_hot(labels: np.ndarray, classes: int) -> np.ndarray:
    return np.eye(classes, dtype=np.float32)[labels]


def test_the_change_of_recall_has_the_sign_of_what_happened():
    targets = np.repeat([0, 1, 2], 40)
    before, after = targets.copy(), targets.copy()
    before[40:44] = 0  # four of class 1 wrong before, right after
    after[80:90] = 1  # ten of class 2 right before, wrong after
    found = recall_change(one_hot(before, 4), one_hot(after, 4), targets, "abcd")
    assert [row.label for row in found] == list("abcd")
    assert [row.images for row in found] == [40, 40, 40, 0]
    assert [row.recall_reference for row in found] == [1.0, 0.9, 1.0, None]
    assert [row.recall for row in found] == [1.0, 1.0, 0.75, None]
    assert [row.change for row in found] == [0.0, 10.0, -25.0, None]
    assert found[2].interval[0] < -25 < found[2].interval[1] < 0
    assert found[0].interval[0] < 0 < found[0].interval[1]
    assert found[3].interval is None


def test_the_interval_is_seeded_and_shrinks_with_images():
    def interval(copies: int, seed: int = 0, resamples: int = 4000) -> tuple[float, float]:
        targets = np.zeros(50 * copies, dtype=np.int64)
        after = np.tile(np.repeat([0, 1], [45, 5]), copies)
        found = recall_change(
            one_hot(targets, 2), one_hot(after, 2), targets, "ab", seed=seed, resamples=resamples
        )
        return found[0].interval

    assert interval(1) == interval(1)
    assert len({interval(16, seed, resamples=20) for seed in range(5)}) > 1
    few, many = (high - low for low, high in (interval(1), interval(16)))
    assert many == pytest.approx(few / 4, rel=0.15)


@pytest.mark.parametrize(
    ("count", "lost", "won"), [(40, 0.15, 0.02), (300, 0.1, 0.03), (36, 0.03, 0.0), (100, 0.01, 0.005)]
)
def test_intervals_cover_the_true_change(count, lost, won):
    """400 experiments with a known change: at least 92 % of the intervals hold it. In the last two cases changes
    are so rare that a plain bootstrap often sees none and is certain: it holds 66 % and 62 % there."""
    rng = np.random.default_rng(3)
    truth, covered = 100 * (won - lost), 0
    targets = np.zeros(count, dtype=np.int64)
    for run in range(400):
        kind = rng.choice(3, size=count, p=[lost, won, 1 - lost - won])
        before, after = np.where(kind == 1, 1, 0), np.where(kind == 0, 1, 0)
        found = recall_change(one_hot(before, 2), one_hot(after, 2), targets, "ab", resamples=800, seed=run)
        low, high = found[0].interval
        covered += low <= truth <= high
    assert covered / 400 >= 0.92


def test_divergence_is_the_textbooks_and_survives_zeros():
    p = np.array([[0.7, 0.2, 0.1], [0.5, 0.5, 0.0], [1.0, 0.0, 0.0]])
    q = np.array([[0.6, 0.3, 0.1], [0.25, 0.5, 0.25], [0.0, 0.5, 0.5]])
    found = kl_divergence(p, q)
    assert found[0] == pytest.approx(0.7 * np.log(0.7 / 0.6) + 0.2 * np.log(0.2 / 0.3))
    assert found[1] == pytest.approx(0.5 * np.log(2.0))
    assert np.isfinite(found[2])
    assert found[2] > 20
    assert kl_divergence(p, (p * 1.01).astype(np.float16)).max() < 1e-6
    assert kl_divergence(p.astype(np.float32), p.astype(np.float32)).tolist() == [0.0, 0.0, 0.0]


def test_the_interval_of_a_share():
    assert share_interval(8, 10) == pytest.approx(
        (0.4902, 0.9433), abs=1e-4
    )  # Wilson's, from statistics tables
    assert share_interval(100, 100) == pytest.approx((0.9630, 1.0), abs=1e-4)


def test_chance_is_the_largest_class_and_luck_is_not_skill():
    rng = np.random.default_rng(0)
    balanced = np.repeat(np.arange(4), 50)
    assert chance_p_value(one_hot(rng.integers(0, 4, 200), 4), balanced) > 0.05
    skilled = np.where(rng.random(200) < 0.2, balanced, rng.integers(0, 4, 200))
    assert chance_p_value(one_hot(skilled, 4), balanced) < 0.01
    skewed = np.repeat([0, 1, 2, 3], [170, 10, 10, 10])
    always = one_hot(np.zeros(200, dtype=np.int64), 4)
    assert chance_p_value(always, skewed) > 0.4  # 85 % right, and knows nothing
    assert chance_p_value(one_hot(skewed, 4), skewed) < 1e-10


def test_the_p_value_is_the_binomial_tail():
    targets = np.array([0, 1] * 5)
    right = np.array([0, 1] * 4 + [1, 0])
    assert chance_p_value(one_hot(right, 2), targets) == pytest.approx((45 + 10 + 1) / 1024)
