"""Shares with intervals; bench/experiments/share_intervals.py measures how often they hold the truth."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgefel.runtime.stream.report.shares import label_shares, redraws, uncorrelated, wilson


@pytest.mark.parametrize(
    ("hits", "count", "low", "high"),
    [
        (0, 1, 0.0, 0.7934506856227626),
        (0, 20, 0.0, 0.16112515805281935),
        (7, 20, 0.1811918241010821, 0.5671457233147637),
        (20, 20, 0.8388748419471808, 1.0),
        (399, 1000, 0.3690912514553691, 0.42968175375871304),
    ],
)
def test_wilson_is_that_of_a_share_of_independent_observations(hits, count, low, high):
    """As scipy.stats.binomtest(hits, count).proportion_ci(0.95, "wilson") has it."""
    assert wilson(hits / count, count) == pytest.approx((low, high), abs=1e-9)


def simulated(rate: float, values: tuple[float, ...], seconds: float, dt: float, rng) -> np.ndarray:
    """Labels [N] that are drawn anew at `rate` per second."""
    drawn = rng.choice(len(values), size=round(seconds / dt), p=values)
    anew = rng.random(len(drawn)) < -math.expm1(-rate * dt)
    anew[0] = True
    return drawn[np.maximum.accumulate(np.where(anew, np.arange(len(drawn)), 0))]


def test_both_sizes_are_those_by_which_the_mean_varies():
    """The variance of the share over many recordings, against the two sizes that one recording gives."""
    rng, values, seconds, dt = np.random.default_rng(0), (0.6, 0.3, 0.1), 200.0, 0.1
    means, by_changes, by_correlation = [], [], []
    for _ in range(300):
        labels = simulated(0.4, values, seconds, dt, rng)
        part = (labels == 0).astype(np.float64)
        shares = [float((labels == number).mean()) for number in range(3)]
        means.append(part.mean())
        by_changes.append(redraws(int((np.diff(labels) != 0).sum()), shares))
        by_correlation.append(uncorrelated(part, part.mean()))
    size = 0.6 * 0.4 / np.var(means)
    assert size == pytest.approx(0.4 * seconds / 2, rel=0.2)
    assert np.median(by_changes) == pytest.approx(size, rel=0.2)
    assert np.median(by_correlation) == pytest.approx(size, rel=0.25)


def test_a_flicker_does_not_hide_what_changes_slowly():
    """Every tenth of a second the label changes, but a whole mood lasts 25 s."""
    mood = np.tile(np.repeat((0, 2), 250), 4)
    labels = mood + np.arange(len(mood)) % 2
    values = [float((labels == number).mean()) for number in range(4)]
    assert redraws(int((np.diff(labels) != 0).sum()), values) > 1000
    seconds = [0.1 * (labels == number).sum() for number in range(4)]
    series = 0.1 * np.eye(4)[labels]
    shares = label_shares("abcd", seconds, len(labels) - 1, series)
    assert max(share.size for share in shares) < 40


def test_a_regular_turn_is_not_taken_for_more_than_its_changes():
    """Every 3 s: what is on at one time is off 3 s later, so that the mean hardly varies, if this goes on for ever."""
    labels = np.arange(600) // 30 % 2
    series = 0.1 * np.eye(2)[labels]
    assert uncorrelated(np.eye(2)[labels][:, 0], 0.5) > 30
    for share in label_shares("ab", series.sum(0).tolist(), 19, series):
        assert share.size == redraws(19, (0.5, 0.5)) < 20


def test_what_never_changed_is_one_observation():
    series = np.zeros((600, 3))
    series[:, 1] = 0.1
    shares = label_shares("abc", [0.0, 60.0, 0.0], 0, series)
    assert [share.value for share in shares] == [0, 1, 0]
    assert {share.size for share in shares} == {1.0}
    assert (shares[1].low, shares[1].high) == (pytest.approx(0.2065, abs=1e-3), 1.0)
    assert shares[0].high == pytest.approx(1 - shares[1].low)


def test_bins_without_the_person_do_not_count():
    labels = simulated(0.5, (0.5, 0.5), 100, 0.1, np.random.default_rng(3))
    series = 0.1 * np.eye(2)[labels]
    seconds, changes = series.sum(0).tolist(), int((np.diff(labels) != 0).sum())
    gap = np.insert(series, 400, np.zeros((300, 2)), axis=0)
    assert label_shares("ab", seconds, changes, gap) == label_shares("ab", seconds, changes, series)


def test_of_nothing_there_is_no_share_and_of_little_no_certainty():
    (share,) = label_shares("a", [0.0], 0, np.zeros((0, 1)))
    assert (share.value, share.size) == (0.0, 1.0)
    for count in (1, 2, 3, 4, 5):
        series = np.zeros((count, 2))
        series[: count // 2 + 1, 0] = series[count // 2 + 1 :, 1] = 0.1
        seconds = series.sum(0).tolist()
        for share in label_shares("ab", seconds, int(count > 1), series):
            assert 0 <= share.low <= share.value <= share.high <= 1
            assert share.size < 3
