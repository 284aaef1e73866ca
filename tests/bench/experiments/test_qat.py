"""Intervals of the experiment on training for INT8."""

from __future__ import annotations

import numpy as np
import pytest

from edgefel.bench.experiments.qat import mean_interval


def test_an_interval_is_over_seeds_and_images():
    rng = np.random.default_rng(1)
    # three seeds that differ by more than the images do
    values = rng.normal(0.0, 0.01, (3, 500)) + np.array([[1.0], [2.0], [3.0]])
    found = mean_interval(values)
    assert found.value == pytest.approx(values.mean())
    assert found.low == pytest.approx(1.33, abs=0.35)
    assert found.high == pytest.approx(2.67, abs=0.35)
    # one seed: what remains is the error of the mean over images, 0.01 / sqrt(500)
    alone = mean_interval(values[:1])
    assert alone.high - alone.low == pytest.approx(4 * 0.01 / np.sqrt(500), rel=0.25)


def test_equal_values_have_no_width():
    found = mean_interval(np.full((2, 7), 0.25))
    assert (found.value, found.low, found.high) == pytest.approx((0.25, 0.25, 0.25))
