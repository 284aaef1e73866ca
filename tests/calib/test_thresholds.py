"""Thresholds against their definitions, and against NVIDIA's and ONNX Runtime's calibrators."""

from __future__ import annotations

import time

import numpy as np
import onnx
import pytest
from exported import random_batch, tiny_graph
from onnxruntime.quantization import calibrate as ort_calibrate

from edgefel.calib.collect import collect_activations
from edgefel.calib.histogram import BINS, ActivationHistogram
from edgefel.calib.thresholds import (
    ENTROPY_LEVELS,
    METHODS,
    PERCENTILE,
    entropy_divergences,
    entropy_threshold,
    threshold,
)


def histogram_of(*parts: np.ndarray) -> ActivationHistogram:
    histogram = ActivationHistogram("x")
    for part in parts:
        histogram.collect(part.astype(np.float32)[None])
    return histogram


def test_minmax_is_the_largest_magnitude():
    assert histogram_of(np.array([0.5, -3.0]), np.array([2.0])).compute("minmax") == 3.0


def test_percentile_ignores_a_lone_outlier():
    values = np.random.default_rng(1).uniform(-1, 1, 1_000_000)
    histogram = histogram_of(values, np.array([100.0]))
    exact = np.percentile(np.abs(values), PERCENTILE)
    assert abs(histogram.compute("percentile") - exact) <= histogram.limit / BINS
    assert histogram.compute("minmax") == 100.0


@pytest.mark.parametrize("method", ["mse", "entropy"])
def test_a_lone_outlier_is_clipped_and_a_uniform_range_kept(method):
    uniform = np.random.default_rng(2).uniform(-1, 1, 200_000)
    assert histogram_of(uniform).compute(method) > 0.97
    normal = np.random.default_rng(3).standard_normal(200_000)
    assert 3.0 < histogram_of(normal, np.array([8.0])).compute(method) < 7.0


@pytest.mark.parametrize("method", METHODS)
def test_no_threshold_exceeds_the_largest_value(method):
    for values in ([1.0, 1.5], [1e-40, -3e-40], [3e38, 0.0], [1023.9, 1024.1]):
        histogram = histogram_of(np.array(values))
        assert 0 < histogram.compute(method) <= histogram.maximum


def test_entropy_is_tensorrts():
    counts = np.bincount(
        np.minimum(np.random.default_rng(4).laplace(0, 30, 40_000).__abs__().astype(int), 299), minlength=300
    )
    counts[[40, 41, 250, 297]] = 0
    counts[299] = 3
    kept, divergences = tensorrt_divergences(counts)
    used = counts.astype(np.float64)
    used[0] = used[1]
    assert kept[0] == ENTROPY_LEVELS
    assert np.isinf(divergences).any(), "an empty last bin should be among the candidates"
    np.testing.assert_allclose(entropy_divergences(used), divergences, rtol=1e-9, atol=1e-12)
    assert entropy_threshold(counts) == kept[np.argmin(divergences)]


def test_zeros_have_no_say_in_entropy():
    counts = histogram_of(np.random.default_rng(7).laplace(size=50_000)).counts
    many = counts.copy()
    many[0] += 10**8
    assert entropy_threshold(many) == entropy_threshold(counts) < np.flatnonzero(counts)[-1]


def tensorrt_divergences(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """KL divergence of every candidate, bin by bin as pytorch-quantization defines it."""
    bins = counts.astype(np.float64)
    bins[0] = bins[1]
    kept = np.arange(ENTROPY_LEVELS, len(bins) + 1)
    divergences = []
    for i in kept:
        p = bins[:i].copy()
        p[-1] += bins[i:].sum()
        level = np.digitize(np.arange(i), np.linspace(0, i, ENTROPY_LEVELS + 1)) - 1
        q = np.zeros(i)
        for one in range(ENTROPY_LEVELS):
            inside = (level == one) & (bins[:i] > 0)
            q[inside] = bins[:i][inside].mean() if inside.any() else 0.0
        with np.errstate(divide="ignore", invalid="ignore"):
            terms = p / p.sum() * np.log((p / p.sum()) / (q / q.sum()))
        divergences.append(terms[p > 0].sum())
    return kept, np.asarray(divergences)


@pytest.mark.parametrize("width", [1, 2, 3])
def test_entropy_agrees_with_onnxruntime_where_its_levels_divide_the_bins(width):
    """The best range is 128 levels of `width` bins, each with a height of its own. ONNX Runtime cuts levels of
    floor(bins / levels) bins and leaves the bins that remain empty in Q, so that it finds little but such
    multiples; its candidates have one bin more on the right of 0, hence the bin of difference."""
    edge = width * ENTROPY_LEVELS
    counts = np.zeros(512, dtype=np.int64)
    counts[:edge] = np.random.default_rng(6).integers(500, 1500, ENTROPY_LEVELS).repeat(width)
    counts[0] = counts[1]  # zeros have no say here, and have one there
    counts[-1] = 1
    mirrored = np.concatenate([counts[::-1], counts])
    edges = np.linspace(-512, 512, 1025, dtype=np.float32)
    collector = ort_calibrate.HistogramCollector("entropy", True, 1024, 2 * ENTROPY_LEVELS, 99.99, "same")
    low, high = collector.get_entropy_threshold((mirrored, edges, edges[0], edges[-1]), 2 * ENTROPY_LEVELS)
    assert entropy_threshold(counts) == edge
    assert (-low, high) == (edge, edge + 1)


def test_all_candidates_of_a_tensor_are_fast():
    counts = histogram_of(np.random.default_rng(5).standard_normal(100_000)).counts
    start = time.process_time()
    entropy_threshold(counts)
    # a loop over the candidates takes seconds, this about ten milliseconds; the limit leaves room for a busy machine
    assert time.process_time() - start < 0.5


BATCHES = [random_batch(3, seed) for seed in range(3)]


class Reader(ort_calibrate.CalibrationDataReader):
    """ONNX Runtime's interface to the batches."""

    def __init__(self) -> None:
        self.batches = iter(BATCHES)

    def get_next(self):
        batch = next(self.batches, None)
        return None if batch is None else {"image": batch}


@pytest.fixture(scope="module")
def onnxruntime_ranges(tmp_path_factory):
    """Ranges of what Conv nodes of the tiny graph read and write, by ONNX Runtime's own calibrators."""
    folder = tmp_path_factory.mktemp("calibrators")
    onnx.save(tiny_graph(), folder / "model.onnx")

    def compute(method, **options):
        calibrator = ort_calibrate.create_calibrator(
            folder / "model.onnx",
            ["Conv"],
            augmented_model_path=str(folder / f"{method.name}.onnx"),
            calibrate_method=method,
            extra_options=options,
        )
        calibrator.collect_data(Reader())
        found = calibrator.compute_data()
        return {name: found[name] for name in found.keys() if not name.endswith("weight")}  # noqa: SIM118

    return compute


def test_minmax_is_onnxruntimes(onnxruntime_ranges):
    expected = onnxruntime_ranges(ort_calibrate.CalibrationMethod.MinMax, symmetric=False)
    found = collect_activations(tiny_graph(), list(expected), BATCHES)
    assert len(expected) > 20
    for name, data in expected.items():
        low, high = (float(np.squeeze(value)) for value in data.range_value)
        # batches of three go through other kernels of ONNX Runtime than images one by one
        assert (found[name].low, found[name].high) == pytest.approx((low, high), rel=1e-5, abs=1e-6), name


def test_percentile_is_onnxruntimes_within_a_bin(onnxruntime_ranges):
    """ONNX Runtime's bins are an even share of the largest value and it takes the bin's lower edge; ours are of a
    power of two, and we take the upper edge. It also cuts each side of its range at the signed extremes, so that
    only the larger side is the percentile."""
    expected = onnxruntime_ranges(
        ort_calibrate.CalibrationMethod.Percentile, symmetric=True, num_bins=BINS, percentile=PERCENTILE
    )
    found = collect_activations(tiny_graph(), list(expected), BATCHES)
    assert len(expected) > 20
    for name, data in expected.items():
        theirs = max(abs(float(np.squeeze(value))) for value in data.range_value)
        bins = found[name].limit / BINS + found[name].maximum / BINS
        assert abs(found[name].compute("percentile") - theirs) <= bins, name


def test_an_unknown_method_is_refused():
    with pytest.raises(KeyError, match="median"):
        threshold("median", np.ones(BINS, dtype=np.int64), 1.0, 0.9)  # type: ignore[arg-type]
