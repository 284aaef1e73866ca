"""Streaming histograms of activations, and the thresholds taken from them."""

from __future__ import annotations

import numpy as np
import pytest
from exported import random_batch, tiny_graph

from edgefel.calib.collect import (
    METHODS,
    PERCENTILE,
    ActivationHistogram,
    activation_scales,
    collect_activations,
)
from edgefel.errors import EdgefelError


def histogram_of(*parts: np.ndarray) -> ActivationHistogram:
    histogram = ActivationHistogram("x")
    for part in parts:
        histogram.collect(part.astype(np.float32))
    return histogram


def test_the_histogram_does_not_depend_on_the_batches():
    values = np.random.default_rng(0).standard_normal(10_001).astype(np.float32) * 7
    whole = histogram_of(values)
    rising = histogram_of(*np.array_split(values[np.argsort(np.abs(values))], 13))
    assert whole.maximum == rising.maximum
    assert whole.limit == rising.limit
    assert whole.counts.sum() == values.size
    # merging neighbours is exact; only a value on the edge of a bin may round either way
    assert np.abs(whole.counts - rising.counts).sum() <= 4


def test_minmax_is_the_largest_magnitude():
    assert histogram_of(np.array([0.5, -3.0]), np.array([2.0])).threshold("minmax") == 3.0


def test_percentile_ignores_a_lone_outlier():
    values = np.random.default_rng(1).uniform(-1, 1, 1_000_000)
    histogram = histogram_of(values, np.array([100.0]))
    exact = np.percentile(np.abs(values), PERCENTILE)
    assert abs(histogram.threshold("percentile") - exact) <= histogram.limit / 2048
    assert histogram.threshold("minmax") == 100.0


def test_mse_clips_a_lone_outlier_and_keeps_a_uniform_range():
    uniform = np.random.default_rng(2).uniform(-1, 1, 200_000)
    assert histogram_of(uniform).threshold("mse") > 0.97
    normal = np.random.default_rng(3).standard_normal(200_000)
    assert 3.0 < histogram_of(normal, np.array([8.0])).threshold("mse") < 7.0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_name_the_tensor(bad):
    with pytest.raises(EdgefelError, match="'x' is not finite"):
        histogram_of(np.array([1.0, bad]))


def test_reset_forgets():
    histogram = histogram_of(np.array([5.0]))
    histogram.reset()
    histogram.collect(np.array([1.0], dtype=np.float32))
    assert histogram.maximum == 1.0
    assert histogram.counts.sum() == 1


def test_a_zero_activation_gets_scale_one():
    histograms = {"dead": histogram_of(np.zeros(5)), "live": histogram_of(np.array([-2.54]))}
    for method in METHODS:
        assert activation_scales(histograms, method)["dead"] == 1.0
    assert activation_scales(histograms, "minmax")["live"] == pytest.approx(0.02)


def test_graph_activations_are_those_of_the_graph():
    batches = [random_batch(2, seed) for seed in range(3)]
    seen = []
    found = collect_activations(tiny_graph(), ["image", "embedding"], batches, seen.append)
    assert seen == [2, 2, 2]
    assert found["image"].maximum == np.abs(np.concatenate(batches)).max()
    assert found["embedding"].counts.sum() == 6 * 64


def test_no_images_is_an_error():
    with pytest.raises(EdgefelError, match="no images"):
        collect_activations(tiny_graph(), ["image"], [])
