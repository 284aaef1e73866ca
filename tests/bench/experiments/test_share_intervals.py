"""People whose labels alternate by known laws: these hold, and the intervals of the report cover their shares."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from edgefel.bench.experiments.share_intervals import KINDS, METHODS, intervals, judge


@pytest.mark.parametrize("kind", KINDS)
def test_over_hours_the_shares_are_the_true_ones(kind):
    labels, ends, truth = KINDS[kind](12_000, np.random.default_rng(0))
    lengths = np.diff([0.0, *ends])
    assert (lengths > 0).all()
    assert ends[-1] == 12_000
    shares = [lengths[np.array(labels) == number].sum() / ends[-1] for number in range(4)]
    assert shares == pytest.approx(truth, abs=0.05)
    assert sum(truth) == pytest.approx(1)


def test_every_method_gives_an_interval_of_each_label_around_its_share():
    labels, ends, _ = KINDS["by chance, 3 s"](60, np.random.default_rng(1))
    seconds = [0.0] * 4
    for label, (begin, end) in zip(labels, pairwise([0.0, *ends]), strict=True):
        seconds[label] += end - begin
    found = intervals(labels, ends)
    assert tuple(found) == METHODS
    for ranges in found.values():
        for (low, high), part in zip(ranges, seconds, strict=True):
            assert 0 <= low <= part / 60 + 1e-9
            assert part / 60 - 1e-9 <= high <= 1


def test_frames_taken_as_independent_cover_little_and_the_reports_intervals_nearly_all():
    found = judge("by chance, 3 s", 60, 40)
    assert found["coverage"]["frames"] < 0.3
    assert found["coverage"]["block bootstrap"] < 0.85
    assert found["coverage"]["effective sample size"] >= 0.9
    assert found["width"]["effective sample size"] < 0.6
