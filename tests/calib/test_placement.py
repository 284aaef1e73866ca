"""Which nodes get Q/DQ and which do not."""

from __future__ import annotations

import dataclasses

import numpy as np
import onnx
import pytest
from exported import tiny_graph

from edgefel.calib.graph import GraphIndex
from edgefel.calib.placement import ONNXRUNTIME, TENSORRT, place
from edgefel.errors import EdgefelError

POLICIES = pytest.mark.parametrize("policy", [ONNXRUNTIME, TENSORRT], ids=lambda policy: policy.name)


@POLICIES
def test_every_weighted_layer_of_the_encoder_is_quantized(policy):
    placement = place(tiny_graph(), policy)
    index = GraphIndex(tiny_graph().graph)
    expected = {
        node.name
        for node in tiny_graph().graph.node
        if node.op_type in ("Conv", "Gemm", "MatMul")
        and node.input[1] in index.initializers
        and node.name.startswith("encoder.")
        and not node.name.startswith("encoder.gate")
    }
    assert set(placement.nodes) == expected
    assert "encoder.image_stream.stem.0/Conv" in expected
    assert "encoder.levels.0.attention.kv/MatMul" in expected
    assert "encoder.blocks.0.mlp.fc2/MatMul" in expected
    assert len(placement.weights) == len(expected)


@POLICIES
def test_attention_products_gate_and_head_stay_float(policy):
    placement = place(tiny_graph(), policy)
    reasons = placement.kept_float
    assert reasons["encoder.levels.0.attention/MatMul"] == "both operands are activations"  # q k^T
    assert reasons["encoder.levels.0.attention/MatMul_2"] == "both operands are activations"  # attention v
    assert reasons["encoder.blocks.0.attention/MatMul"] == "both operands are activations"
    assert "encoder.gate" in reasons["encoder.gate.fc1/Gemm"]
    assert "head" in reasons["head.classifier.0/Gemm"]
    assert "head" in reasons["head.reduce/Gemm"]
    weighted = {n.name for n in tiny_graph().graph.node if n.op_type in ("Conv", "Gemm", "MatMul")}
    assert set(reasons) | set(placement.nodes) == weighted
    assert not set(reasons) & set(placement.nodes)


def test_only_the_onnxruntime_policy_quantizes_behind_a_conv():
    convolutions = [n for n in tiny_graph().graph.node if n.op_type == "Conv"]
    assert set(place(tiny_graph(), ONNXRUNTIME).outputs) == {n.output[0] for n in convolutions}
    assert place(tiny_graph(), TENSORRT).outputs == ()


@POLICIES
def test_no_activation_is_listed_twice(policy):
    placement = place(tiny_graph(), policy)
    assert not set(placement.inputs) & set(placement.outputs)
    assert len(set(placement.activations)) == len(placement.activations)


def test_channel_axes():
    placement = place(tiny_graph(), TENSORRT)
    index = GraphIndex(tiny_graph().graph)
    nodes = index.nodes
    for name, (weight, axis) in zip(placement.nodes, placement.weights.items(), strict=True):
        shape = tuple(index.initializers[weight].dims)
        # Conv weights are [O, I, kH, kW], MatMul constants [I, O]
        assert axis == (0 if nodes[name].op_type == "Conv" else 1), (name, shape)


def test_float_scopes_are_configurable_and_must_leave_something():
    narrow = dataclasses.replace(TENSORRT, name="streams only", float_scopes=("encoder.levels", "head"))
    placement = place(tiny_graph(), narrow)
    assert "encoder.gate.fc1/Gemm" in placement.nodes
    assert not any(name.startswith("encoder.levels.") for name in placement.nodes)
    with pytest.raises(EdgefelError, match="no Conv, Gemm or MatMul"):
        place(tiny_graph(), dataclasses.replace(TENSORRT, float_scopes=("encoder", "head")))


def test_gemm_axis_follows_its_transposition():
    from edgefel.calib.placement import _channel_axis

    plain = onnx.helper.make_node("Gemm", ["x", "w"], ["y"])
    transposed = onnx.helper.make_node("Gemm", ["x", "w"], ["y"], transB=1)
    assert (_channel_axis(plain), _channel_axis(transposed)) == (1, 0)


def test_tensorrt_sums_a_residual_inside_the_conv():
    graph = GraphIndex(tiny_graph().graph)
    residuals = place(tiny_graph(), TENSORRT).residuals
    streams = ("encoder.image_stream", "encoder.landmark_stream")
    sums = [n.name for n in tiny_graph().graph.node if n.op_type == "Add" and n.name.startswith(streams)]
    assert set(residuals) == set(sums)
    assert len(sums) >= 3
    for add, skip in residuals.items():
        node = graph.nodes[add]
        (other,) = set(node.input) - {skip}
        assert graph.producers[other].op_type == "Conv"
        # the branch that is summed inside the Conv stays as it is: no Q/DQ between the two
        assert other not in place(tiny_graph(), TENSORRT).activations
    assert place(tiny_graph(), ONNXRUNTIME).residuals == {}


def sum_of(*branches: onnx.NodeProto, reads: tuple[str, str]) -> onnx.ModelProto:
    """z = reads[0] + reads[1] over the nodes given."""
    nodes = [*branches, onnx.helper.make_node("Add", list(reads), ["z"], "scope/Add")]
    values = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["N", 2, 4, 4])
        for name in ("x", "z")
    ]
    weights = [
        onnx.numpy_helper.from_array(np.ones((2, 2, 1, 1), np.float32), name) for name in ("w1", "w2", "c")
    ]
    return onnx.helper.make_model(onnx.helper.make_graph(nodes, "g", values[:1], values[1:], weights))


def conv(data: str, weight: str, result: str) -> onnx.NodeProto:
    return onnx.helper.make_node("Conv", [data, weight], [result], f"{result}/Conv")


def test_of_two_convs_the_later_one_takes_the_sum():
    both = (conv("x", "w1", "a"), conv("x", "w2", "b"))
    assert place(sum_of(*both, reads=("a", "b")), TENSORRT).residuals == {"scope/Add": "a"}
    assert place(sum_of(*both, reads=("b", "a")), TENSORRT).residuals == {"scope/Add": "a"}


def test_sums_that_cannot_be_fused_are_left_alone():
    first = conv("x", "w1", "a")
    # read elsewhere too: its result is needed on its own
    assert place(sum_of(first, conv("a", "w2", "b"), reads=("a", "x")), TENSORRT).residuals == {}
    assert place(sum_of(first, reads=("a", "c")), TENSORRT).residuals == {}, "a bias is no residual"
    assert place(sum_of(first, reads=("a", "a")), TENSORRT).residuals == {}
    kept = {"a/Conv": "for this test"}
    model = sum_of(first, conv("x", "w2", "b"), reads=("a", "b"))
    assert place(model, TENSORRT, kept).residuals == {"scope/Add": "a"}, "b is still INT8"
    assert place(sum_of(first, conv("x", "w2", "q"), reads=("a", "x")), TENSORRT, kept).residuals == {}


@POLICIES
def test_a_layer_that_is_kept_in_float_says_why(policy):
    name = "encoder.image_stream.stem.0/Conv"
    whole, placement = place(tiny_graph(), policy), place(tiny_graph(), policy, {name: "costs 3 points"})
    assert set(whole.nodes) - set(placement.nodes) == {name}
    assert placement.kept_float[name] == "costs 3 points"
    assert "encoder.image_stream.stem.0.weight" not in placement.weights
    assert GraphIndex(tiny_graph().graph).nodes[name].output[0] not in placement.outputs
    with pytest.raises(KeyError):
        place(tiny_graph(), policy, {"head.reduce/Gemm": "already in float"})
