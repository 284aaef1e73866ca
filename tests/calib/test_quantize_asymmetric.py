"""Asymmetric uint8 activations against quantization in float64."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from exported import random_batch, run_onnx, tiny_graph
from onnx import TensorProto, helper, numpy_helper

from edgefel.calib.collect import activation_ends, activation_scales, collect_activations
from edgefel.calib.graph import GraphIndex
from edgefel.calib.placement import ONNXRUNTIME, TENSORRT, place
from edgefel.calib.quantize import affine, quantize, quantize_weight
from edgefel.export.onnx.trace import check_graph, serialize
from edgefel.export.parity.compare import sqnr_db
from edgefel.runtime.backends.onnxruntime_backend import session_options

ODD = 13


def levels(values, low, high):
    """What a range of 256 levels leaves of values, in float64: the levels, and whether a value lies between two."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = np.float64(np.float32((high - low) / 255))
    zero = np.clip(np.rint(-low / scale), 0, 255)
    exact = values.astype(np.float64) / scale
    tie = np.abs(np.abs(exact - np.floor(exact)) - 0.5) < 1e-3
    return np.clip(np.rint(exact) + zero, 0, 255), scale, zero, tie


@pytest.mark.parametrize(
    ("low", "high"), [(-0.17, 5.0), (-3.0, 3.0), (0.0, 7.5), (-6.25, 0.0), (0.5, 2.0), (-1e-3, 9e4)]
)
def test_quantizers_are_those_of_float64(low, high):
    scale, zero = affine(low, high)
    assert (scale.dtype, zero.dtype) == (np.float32, np.uint8)
    rng = np.random.default_rng(0)
    span = max(high, 0) - min(low, 0)
    values = (rng.uniform(min(low, 0), max(high, 0), 4001) * 1.2).astype(np.float32)
    values = np.concatenate([values, np.float32([0, low, high, -span, span])])
    graph = helper.make_graph(
        [
            helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
            helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"]),
        ],
        "pair",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N"])],
        [
            helper.make_tensor_value_info("q", TensorProto.UINT8, ["N"]),
            helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N"]),
        ],
        [numpy_helper.from_array(np.asarray(scale), "s"), numpy_helper.from_array(np.asarray(zero), "z")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    stored, restored = session.run(None, {"x": values})
    expected, step, origin, tie = levels(values, low, high)
    assert np.array_equal(stored[~tie], expected[~tie])
    assert np.abs(stored.astype(int) - expected).max() <= 1
    assert restored[values == 0].tolist() == [0.0] * int((values == 0).sum()), "padding must be exact"
    within = (values >= min(low, 0)) & (values <= max(high, 0))
    assert np.abs(restored[within] - values[within]).max() <= step * 1.01  # the zero point is rounded too
    assert np.allclose(restored, (stored - origin) * step, rtol=1e-6, atol=0)


def test_a_convolution_in_integers_is_that_of_float64():
    """QLinearConv at odd sizes: padding, stride, a skewed input and per-channel weights."""
    rng = np.random.default_rng(1)
    weight = rng.standard_normal((5, 3, 3, 3)).astype(np.float32)
    nodes = [helper.make_node("Conv", ["image", "weight"], ["conv"], "conv", pads=[1] * 4, strides=[2, 2])]
    nodes.append(helper.make_node("Relu", ["conv"], ["out"], "relu"))
    graph = helper.make_graph(
        nodes,
        "one",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, ODD, ODD])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["N", 5, 7, 7])],
        [numpy_helper.from_array(weight, "weight")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    image = (rng.gamma(2.0, 1.0, (3, 3, ODD, ODD)) - 0.4).astype(np.float32)
    placement = place(model, ONNXRUNTIME)
    found = collect_activations(model, placement.activations, [image], workers=1)
    scales, ends = activation_scales(found, "minmax"), activation_ends(found, "minmax")
    quantized = quantize(model, placement, scales, ends)
    actual = _run(quantized, image)

    stored, step, zero, _ = levels(image, *ends["image"])
    inside = (stored - zero) * step
    kernel, kernel_scale = quantize_weight(weight, 0)
    kernel = kernel.astype(np.float64) * kernel_scale[:, None, None, None].astype(np.float64)
    padded = np.pad(inside, ((0, 0), (0, 0), (1, 1), (1, 1)))
    conv = np.zeros((3, 5, 7, 7))
    for y in range(7):
        for x in range(7):
            patch = padded[:, :, 2 * y : 2 * y + 3, 2 * x : 2 * x + 3]
            conv[:, :, y, x] = np.einsum("ncij,ocij->no", patch, kernel)
    kept, step, zero, tie = levels(conv, *ends["conv"])
    expected = np.maximum((kept - zero) * step, 0)
    assert np.abs(actual - expected).max() <= step * 1.001
    assert np.allclose(actual[~tie], expected[~tie], rtol=1e-5, atol=1e-6)


def _run(model, image):
    session = ort.InferenceSession(serialize(model), session_options(), providers=["CPUExecutionProvider"])
    return session.run(None, {"image": image})[0]


@pytest.fixture(scope="module")
def found():
    tensors = [*place(tiny_graph(), ONNXRUNTIME).activations, *place(tiny_graph(), TENSORRT).activations]
    return collect_activations(tiny_graph(), tensors, [random_batch(4, seed) for seed in range(4)])


def test_it_is_closer_than_symmetric_quantization(found):
    """By the extremes, where neither clips anything."""
    scales, ends = activation_scales(found, "minmax"), activation_ends(found, "minmax")
    placement = place(tiny_graph(), ONNXRUNTIME)
    batch = random_batch(16, seed=99)
    reference = run_onnx(tiny_graph(), batch)["logits"]
    whole = quantize(tiny_graph(), placement, scales, ends)
    check_graph(whole)
    symmetric = quantize(tiny_graph(), placement, scales)
    gain = sqnr_db(reference, run_onnx(whole, batch)["logits"]) - sqnr_db(
        reference, run_onnx(symmetric, batch)["logits"]
    )
    assert gain > 0.2


@pytest.mark.parametrize("method", ["minmax", "percentile", "mse", "entropy"])
def test_its_steps_are_never_larger(found, method):
    """The range lies within the symmetric one, and has one level more."""
    scales, ends = activation_scales(found, method), activation_ends(found, method)
    steps = {name: float(affine(*pair)[0]) for name, pair in ends.items()}
    assert all(steps[name] <= scale for name, scale in scales.items())
    assert min(steps[name] / scale for name, scale in scales.items()) < 0.7


def test_only_the_file_for_onnx_runtime_has_zero_points(found):
    """TensorRT refuses them."""
    scales, ends = activation_scales(found, "minmax"), activation_ends(found, "minmax")
    zeros = {}
    for policy in (ONNXRUNTIME, TENSORRT):
        graph = quantize(tiny_graph(), place(tiny_graph(), policy), scales, ends).graph
        index = GraphIndex(graph)
        zeros[policy.name] = [
            numpy_helper.to_array(index.initializers[node.input[2]])
            for node in graph.node
            if node.op_type == "QuantizeLinear"
        ]
    assert all(zero.dtype == np.uint8 for zero in zeros["onnxruntime"])
    assert len({int(zero) for zero in zeros["onnxruntime"]}) > 5
    assert all(zero.dtype == np.int8 and zero == 0 for zero in zeros["tensorrt"])


def test_a_range_too_small_for_float32_has_a_scale_above_zero():
    scale, zero = affine(0.0, 1e-45)
    assert scale > 0
    assert zero == 0
    assert onnx.numpy_helper.from_array(np.asarray(scale)).data_type == TensorProto.FLOAT
