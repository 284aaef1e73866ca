"""Ranges by the mean SQNR of the images: against double precision, and where a few images are far out."""

from __future__ import annotations

import math

import numpy as np
import onnx
import pytest
from exported import random_batch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edgefel.calib.collect import activation_scales, collect_activations
from edgefel.calib.histogram import ActivationHistogram
from edgefel.calib.image_sqnr import STEPS, ImageSqnr
from edgefel.calib.placement import ONNXRUNTIME, place
from edgefel.calib.quantize import quantize
from edgefel.calib.thresholds import DEFAULT_METHOD
from edgefel.export.parity.compare import sqnr_db
from edgefel.export.parity.gate import onnx_outputs


def histogram_of(images: np.ndarray) -> ActivationHistogram:
    histogram = ActivationHistogram("x")
    histogram.collect(images.astype(np.float32))
    return histogram


def image_sqnr(images: np.ndarray, threshold: float) -> np.ndarray:
    """dB of each image, from the values themselves in double precision."""
    values, step = images.astype(np.float64), threshold / 127
    errors = np.clip(np.rint(values / step), -127, 127) * step - values
    return 10 * np.log10(np.square(values).sum(axis=1) / np.square(errors).sum(axis=1))


def some_images(seed: int, count: int = 12, size: int = 4000) -> np.ndarray:
    """Of several distributions and scales, unlike each other."""
    rng = np.random.default_rng(seed)
    kinds = (
        rng.standard_normal,
        rng.standard_cauchy,
        lambda n: rng.laplace(size=n),
        lambda n: rng.uniform(-1, 1, n),
    )
    rows = [np.clip(kinds[i % 4](size), -300, 300) * 2.0 ** rng.uniform(-3, 3) for i in range(count)]
    rows[0] = np.maximum(rows[0], 0.0)
    return np.stack(rows)


@pytest.mark.parametrize("seed", range(4))
def test_the_threshold_is_that_of_a_search_in_double_precision(seed):
    images = some_images(seed)
    candidates = 2.0 ** (np.arange(-8 * STEPS, 10 * STEPS) / STEPS)
    means = np.array([image_sqnr(images, threshold).mean() for threshold in candidates])
    found = histogram_of(images).compute("sqnr")
    assert image_sqnr(images, found).mean() > means.max() - 0.02
    assert abs(np.log2(found / candidates[means.argmax()])) <= 1 / STEPS + 1e-6


@pytest.mark.parametrize("seed", range(3))
def test_the_sums_are_decibels_of_the_images(seed):
    for image in some_images(seed):
        histogram = histogram_of(image[None])
        for octave, row in histogram.sqnr._sums.items():
            for step, value in enumerate(row):
                exact = image_sqnr(image[None], 2.0 ** (octave + step / STEPS)).item()
                assert value * 2.0**-20 == pytest.approx(exact, abs=0.5), (octave, step)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 999), cuts=st.lists(st.integers(1, 11), max_size=3))
def test_order_batches_and_merging_do_not_matter(seed, cuts):
    images = some_images(seed, size=50)
    whole = histogram_of(images)
    shuffled = np.random.default_rng(seed).permutation(images)
    parts = [part for part in np.split(shuffled, sorted(set(cuts))) if len(part)]
    merged = histogram_of(parts[-1])
    for part in parts[:-1]:
        merged.merge(histogram_of(part))
    assert merged.sqnr._sums.keys() == whole.sqnr._sums.keys()
    assert all(np.array_equal(merged.sqnr._sums[key], row) for key, row in whole.sqnr._sums.items())


def test_the_range_of_a_single_image_is_that_of_least_squared_error():
    for image in some_images(7):
        histogram = histogram_of(image[None])
        error = image_sqnr(image[None], histogram.compute("mse"))
        assert image_sqnr(image[None], histogram.compute("sqnr")) == pytest.approx(error, abs=0.2)


def test_images_of_zeros_say_nothing():
    image = np.random.default_rng(0).standard_normal((1, 500))
    alone = histogram_of(image).compute("sqnr")
    assert histogram_of(np.concatenate([image, np.zeros((40, 500))])).compute("sqnr") == alone
    assert ImageSqnr().best() == math.inf


def test_a_few_images_far_out_move_the_range_of_mse_and_not_this_one():
    images = np.random.default_rng(1).standard_normal((400, 600))
    without = {method: histogram_of(images).compute(method) for method in ("mse", "sqnr")}
    images[::80] *= 40.0
    usual = np.arange(400) % 80 > 0
    found = {method: histogram_of(images).compute(method) for method in without}
    assert found["mse"] > 8 * without["mse"]
    assert found["sqnr"] == pytest.approx(without["sqnr"], rel=0.1)
    lost = {
        name: (image_sqnr(images, without[name]) - image_sqnr(images, found[name]))[usual].mean()
        for name in found
    }
    assert lost["mse"] > 15
    assert lost["sqnr"] < 0.5
    # where half of the images are as large, they count
    images[1::2] *= 40.0
    assert histogram_of(images).compute("sqnr") > 4 * without["sqnr"]


def normalizing_graph() -> onnx.ModelProto:
    """image [N, 3, 8, 8] -> Conv -> LayerNormalization -> MatMul, `logits` [N, 4, 6, 5]: images of any contrast look
    alike behind the normalization."""
    rng = np.random.default_rng(0)
    constants = {
        "weight": rng.standard_normal((4, 3, 3, 3)),
        "scale": np.ones((4, 6, 6)),
        "matrix": rng.standard_normal((6, 5)),
    }
    nodes = [
        helper.make_node("Conv", ["image", "weight"], ["conv"], "conv"),
        helper.make_node("LayerNormalization", ["conv", "scale"], ["normal"], "norm", axis=1, epsilon=1e-9),
        helper.make_node("MatMul", ["normal", "matrix"], ["logits"], "matmul"),
    ]
    graph = helper.make_graph(
        nodes,
        "normalizing",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 4, 6, 5])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def test_a_network_calibrated_on_outliers_too_computes_as_well_as_without_them():
    graph = normalizing_graph()
    placement = place(graph, ONNXRUNTIME)
    images = random_batch(200, 1, size=8)
    unseen = random_batch(100, 2, size=8)
    planted = images.copy()
    planted[::40] *= 60.0

    def output_sqnr(calibrating: np.ndarray, method: str) -> float:
        histograms = collect_activations(graph, placement.activations, [calibrating])
        model = quantize(graph, placement, activation_scales(histograms, method))
        reference, actual = (
            onnx_outputs(one.SerializeToString(), [unseen], outputs=("logits",), threads=1)["logits"]
            for one in (graph, model)
        )
        return sqnr_db(reference, actual)

    clean = output_sqnr(images, DEFAULT_METHOD)
    assert clean > 30
    assert output_sqnr(planted, DEFAULT_METHOD) > clean - 1
    # what least squared error over all images makes of them
    assert output_sqnr(planted, "mse") < clean - 10
