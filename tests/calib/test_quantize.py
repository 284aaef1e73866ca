"""Q/DQ nodes in the graph: where they are, what they hold, and what they cost."""

from __future__ import annotations

import dataclasses

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from exported import random_batch, run_onnx, tiny_graph
from onnx import TensorProto, numpy_helper

from edgefel.calib.collect import activation_scales, collect_activations
from edgefel.calib.graph import GraphIndex
from edgefel.calib.placement import ONNXRUNTIME, TENSORRT, place
from edgefel.calib.quantize import quantize, quantize_weight
from edgefel.export.onnx.trace import check_graph, serialize
from edgefel.export.parity.compare import sqnr_db

POLICIES = {"onnxruntime": ONNXRUNTIME, "tensorrt": TENSORRT}


@pytest.fixture(scope="module")
def scales():
    tensors = dict.fromkeys(
        t for policy in POLICIES.values() for t in place(tiny_graph(), policy).activations
    )
    batches = [random_batch(4, seed) for seed in range(4)]
    return activation_scales(collect_activations(tiny_graph(), list(tensors), batches), "minmax")


@pytest.fixture(scope="module", params=list(POLICIES))
def quantized(request, scales):
    placement = place(tiny_graph(), POLICIES[request.param])
    return placement, quantize(tiny_graph(), placement, scales)


def test_exactly_the_placed_nodes_read_dequantized_operands(quantized):
    placement, model = quantized
    index = GraphIndex(model.graph)
    for node in model.graph.node:
        if node.op_type not in ("Conv", "Gemm", "MatMul"):
            continue
        from_dq = [
            name in index.producers and index.producers[name].op_type == "DequantizeLinear"
            for name in node.input[:2]
        ]
        assert from_dq == [node.name in placement.nodes] * 2, node.name


def test_softmax_layernorm_and_sigmoid_read_float(quantized):
    _, model = quantized
    index = GraphIndex(model.graph)
    for node in model.graph.node:
        if node.op_type in ("Softmax", "LayerNormalization", "Sigmoid"):
            producer = index.producers[node.input[0]]
            assert producer.op_type != "DequantizeLinear", node.name


def test_biases_stay_float_and_everything_is_symmetric(quantized):
    placement, model = quantized
    index = GraphIndex(model.graph)
    stored = {f"{name}.int8" for name in placement.weights}
    zeros = 0
    for node in model.graph.node:
        if node.op_type == "Conv" and len(node.input) > 2:
            assert index.initializers[node.input[2]].data_type == TensorProto.FLOAT
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            zero = numpy_helper.to_array(index.initializers[node.input[2]])
            unsigned = placement.policy is ONNXRUNTIME and node.input[0] not in stored
            assert zero.dtype == (np.uint8 if unsigned else np.int8)
            assert set(zero.ravel().tolist()) == {128 if unsigned else 0}
            zeros += 1
    assert zeros > 50


def test_weights_are_int8_with_a_scale_per_channel(quantized):
    placement, model = quantized
    index = GraphIndex(model.graph)
    before = GraphIndex(tiny_graph().graph).initializers
    for weight, axis in placement.weights.items():
        assert weight not in index.initializers, "the float weight is still in the file"
        original = numpy_helper.to_array(before[weight])
        stored = index.initializers[f"{weight}.int8"]
        scale = numpy_helper.to_array(index.initializers[f"{weight}.scale"])
        assert stored.data_type == TensorProto.INT8
        assert scale.shape == (original.shape[axis],)
        shape = [1] * original.ndim
        shape[axis] = -1
        restored = numpy_helper.to_array(stored) * scale.reshape(shape)
        assert np.abs(restored - original).max() <= scale.max() * 0.5001


def test_each_activation_has_a_quantizer_with_its_own_scale(quantized, scales):
    placement, model = quantized
    index = GraphIndex(model.graph)
    found: dict[str, list[float]] = {}
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear":
            scale = numpy_helper.to_array(index.initializers[node.input[1]])
            found.setdefault(node.input[0], []).append(float(scale))
    assert set(found) == set(placement.activations)
    assert all(values == [float(scales[name])] for name, values in found.items())


def test_onnx_runtime_computes_every_conv_in_int8(scales, tmp_path):
    """What unsigned activations are for. With signed ones, Convs beside a fork stay in float."""
    convolutions = sum(node.op_type == "Conv" for node in place_nodes(ONNXRUNTIME))
    signed = dataclasses.replace(ONNXRUNTIME, unsigned=False)
    assert count_int8_convs(ONNXRUNTIME, scales, tmp_path) == convolutions
    assert count_int8_convs(signed, scales, tmp_path) < convolutions


def place_nodes(policy):
    nodes = GraphIndex(tiny_graph().graph).nodes
    return [nodes[name] for name in place(tiny_graph(), policy).nodes]


def count_int8_convs(policy, scales, folder) -> int:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    model = quantize(tiny_graph(), place(tiny_graph(), policy), scales)
    ort.InferenceSession(serialize(model), options, providers=["CPUExecutionProvider"])
    return sum(n.op_type == "QLinearConv" for n in onnx.load(options.optimized_model_filepath).graph.node)


def test_unsigned_with_the_zero_point_128_changes_no_bit(scales):
    """The same levels, counted from another one."""
    signed = dataclasses.replace(ONNXRUNTIME, unsigned=False)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    results = []
    for policy in (ONNXRUNTIME, signed):
        model = quantize(tiny_graph(), place(tiny_graph(), policy), scales)
        session = ort.InferenceSession(serialize(model), options, providers=["CPUExecutionProvider"])
        results.append(session.run(None, {"image": random_batch(2, seed=7)}))
    for one, other in zip(*results, strict=True):
        assert np.array_equal(one, other)


def test_a_residual_is_read_in_int8_by_the_sum_alone(scales):
    placement = place(tiny_graph(), TENSORRT)
    index = GraphIndex(quantize(tiny_graph(), placement, scales).graph)
    for add, skip in placement.residuals.items():
        kinds = [index.producers[name].op_type for name in index.nodes[add].input]
        assert sorted(kinds) == ["Conv", "DequantizeLinear"], add
        quantizer = index.producers[
            index.producers[index.nodes[add].input[kinds.index("DequantizeLinear")]].input[0]
        ]
        assert quantizer.input[0] == skip


def test_the_file_is_valid_close_and_the_same_every_time(quantized, scales):
    placement, model = quantized
    check_graph(model)
    batch = random_batch(16, seed=99)
    reference, actual = run_onnx(tiny_graph(), batch), run_onnx(model, batch)
    assert sqnr_db(reference["logits"], actual["logits"]) > 20
    assert serialize(quantize(tiny_graph(), placement, scales)) == serialize(model)
    assert not any(n.op_type == "QuantizeLinear" for n in tiny_graph().graph.node), "the float graph changed"


def test_a_wrong_scale_is_seen(quantized, scales):
    placement, model = quantized
    broken = dict(scales)
    broken["image"] = np.float32(scales["image"] / 8)  # clips all but the smallest values
    batch = random_batch(8, seed=99)
    reference = run_onnx(tiny_graph(), batch)["logits"]
    good = sqnr_db(reference, run_onnx(model, batch)["logits"])
    assert sqnr_db(reference, run_onnx(quantize(tiny_graph(), placement, broken), batch)["logits"]) < good - 6


def test_a_missing_scale_is_refused(scales):
    placement = place(tiny_graph(), TENSORRT)
    with pytest.raises(KeyError):
        quantize(tiny_graph(), placement, {k: v for k, v in scales.items() if k != "image"})


@pytest.mark.parametrize("axis", [0, 1])
def test_weight_rounding(axis):
    weight = np.random.default_rng(0).standard_normal((5, 7)).astype(np.float32)
    weight[2, :] = 0.0
    weight[:, 3] = 0.0
    values, scale = quantize_weight(weight, axis)
    assert values.min() >= -127
    assert np.abs(values).max() == 127
    assert scale[2 if axis == 0 else 3] == 1.0
    expanded = scale[:, None] if axis == 0 else scale[None, :]
    assert np.abs(values * expanded - weight).max() <= scale[scale < 1].max() / 2 * 1.001


def test_graphs_with_subgraphs_are_refused():
    body = onnx.helper.make_graph([], "body", [], [])
    node = onnx.helper.make_node("If", ["c"], ["y"], "choice", then_branch=body, else_branch=body)
    with pytest.raises(ValueError, match="'choice'"):
        GraphIndex(onnx.helper.make_graph([node], "g", [], []))
