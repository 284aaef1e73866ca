"""The histogram of an activation depends on its values alone."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgefel.calib.histogram import BINS, ActivationHistogram
from edgefel.errors import EdgefelError


def histogram_of(*parts: np.ndarray) -> ActivationHistogram:
    histogram = ActivationHistogram("x")
    for part in parts:
        histogram.collect(np.asarray(part, dtype=np.float32))
    return histogram


def assert_same(one: ActivationHistogram, other: ActivationHistogram) -> None:
    assert (one.limit, one.low, one.high, one.shape) == (other.limit, other.low, other.high, other.shape)
    assert np.array_equal(one.counts, other.counts)


def test_counts_are_those_of_numpy_in_double_precision():
    values = (np.random.default_rng(0).standard_normal(100_003) * 5).astype(np.float32)
    histogram = histogram_of(values[None])
    assert histogram.limit == 32.0, "the largest of these is between 16 and 32"
    expected, _ = np.histogram(np.abs(values.astype(np.float64)), BINS, (0.0, 32.0))
    assert np.array_equal(histogram.counts, expected)
    assert (histogram.low, histogram.high) == (values.min(), values.max())


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=40),
    cuts=st.lists(st.integers(0, 40), max_size=4),
    seed=st.integers(0, 99),
)
def test_order_and_batches_do_not_matter(values, cuts, seed):
    values = np.asarray(values, dtype=np.float32)
    shuffled = np.random.default_rng(seed).permutation(values)
    parts = [part for part in np.split(shuffled, sorted(min(cut, len(values)) for cut in cuts)) if part.size]
    whole = histogram_of(values)
    assert whole.counts.sum() == values.size
    assert_same(histogram_of(*parts), whole)
    merged = histogram_of(parts[-1])
    for part in parts[:-1]:
        merged.merge(histogram_of(part))
    assert_same(merged, whole)


def test_values_on_the_edges_of_bins_and_limits():
    # an edge belongs to the bin above it, also where a later value moves the limit
    edges = np.asarray([0.0, 1.0, 2.0, -4.0, 8.0 / BINS, 1e-3], dtype=np.float32)
    assert_same(histogram_of(*[[edge] for edge in edges]), histogram_of(edges))
    histogram = histogram_of(edges)
    assert histogram.limit == 8.0
    assert np.flatnonzero(histogram.counts).tolist() == [0, 1, BINS // 8, BINS // 4, BINS // 2]


def test_the_extremes_of_float32_fit():
    top = np.finfo(np.float32).max
    histogram = histogram_of([1e-45, 1e-30], [top], [-top])
    assert histogram.maximum == top
    assert math.isfinite(histogram.limit)
    assert histogram.counts.tolist() == [2, *[0] * (BINS - 2), 2]


@pytest.mark.parametrize("parts", [1, 3])
def test_counts_of_negative_values_survive_growth_and_merging(parts):
    rng = np.random.default_rng(3)
    values = (rng.standard_normal(6000) * np.geomspace(1e-3, 50, 6000)).astype(np.float32)
    values[::7] = 0.0
    whole = ActivationHistogram("x")
    for piece in np.array_split(values, parts):
        own = ActivationHistogram("x")
        for batch in np.array_split(piece, 4):
            own.collect(batch[None])
        whole.merge(own)
    width = whole.limit / BINS
    below = values[values < 0].astype(np.float64)
    assert np.array_equal(whole.negative, np.bincount((-below / width).astype(int), minlength=BINS))
    assert whole.counts.sum() == values.size


def test_the_ends_of_an_asymmetric_range_leave_a_share_on_each_side():
    rng = np.random.default_rng(4)
    values = np.concatenate([rng.gamma(2.0, 1.0, 200_000), -rng.uniform(0, 0.3, 100_000), [400.0, -90.0]])
    histogram = ActivationHistogram("x")
    histogram.collect(values.astype(np.float32)[None])
    assert histogram.ends("minmax") == (-90.0, 400.0)
    low, high = histogram.ends("percentile")
    width = histogram.limit / BINS
    assert low == pytest.approx(np.quantile(values, 5e-5), abs=width)
    assert min(histogram.compute("percentile"), np.quantile(values, 1 - 5e-5)) == pytest.approx(
        high, abs=width
    )
    for method in ("mse", "entropy", "percentile"):
        low, high = histogram.ends(method)
        assert -90.0 <= low <= 0 <= high <= min(400.0, histogram.compute(method))


@pytest.mark.parametrize("sign", [1, -1])
def test_a_side_without_values_has_its_end_at_zero(sign):
    histogram = ActivationHistogram("x")
    histogram.collect((sign * np.linspace(0.5, 3.0, 101)).astype(np.float32)[None])
    for method in ("minmax", "percentile", "mse"):
        low, high = histogram.ends(method)
        assert (low if sign == 1 else high) == 0
        assert (high if sign == 1 else -low) > 2


def test_merging_nothing_changes_nothing():
    histogram = histogram_of([1.0, -3.0])
    histogram.merge(ActivationHistogram("x"))
    assert_same(histogram, histogram_of([1.0, -3.0]))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_name_the_tensor(bad):
    with pytest.raises(EdgefelError, match="'x' is not finite"):
        histogram_of([1.0, bad])
    # behind the first block, too
    with pytest.raises(EdgefelError, match="'x' is not finite"):
        histogram_of(np.append(np.zeros(100_000), bad)[None])


def test_only_the_first_dimension_may_change():
    histogram = histogram_of(np.ones((2, 3, 4)), np.zeros((5, 3, 4)))
    for shape in ((2, 3, 5), (2, 4, 4), (2, 3), (2, 3, 4, 1)):
        with pytest.raises(EdgefelError, match=r"'x' changed its shape from \[N, 3, 4\] to \[N"):
            histogram.collect(np.ones(shape, dtype=np.float32))
    other = ActivationHistogram("x")
    other.collect(np.ones((2, 5), dtype=np.float32))
    with pytest.raises(EdgefelError, match="changed its shape"):
        histogram.merge(other)


@pytest.mark.parametrize("value", [0.0, -0.0, 2.5, -1e-3])
def test_a_constant_has_no_range(value):
    histogram = histogram_of(np.full((4, 7), value), np.full((1, 7), value))
    with pytest.raises(EdgefelError, match="'x' is .* everywhere.*dead layer"):
        histogram.compute("minmax")
    histogram.collect(np.full((1, 7), 2.75, dtype=np.float32))
    assert histogram.compute("minmax") == 2.75


def test_an_all_zero_channel_is_no_constant():
    values = np.random.default_rng(0).standard_normal((2, 3, 8)).astype(np.float32)
    values[:, 1] = 0.0
    assert histogram_of(values).compute("minmax") == np.abs(values).max()


def test_nothing_collected_is_an_error():
    with pytest.raises(EdgefelError, match="nothing was collected of the activation 'x'"):
        ActivationHistogram("x").compute("mse")


def test_reset_forgets():
    histogram = histogram_of([[5.0, 1.0]])
    histogram.reset()
    assert_same(histogram, ActivationHistogram("x"))
    histogram.collect(np.asarray([1.0, 0.5], dtype=np.float32))
    assert_same(histogram, histogram_of([1.0, 0.5]))
