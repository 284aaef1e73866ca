"""Attention and head as one node each: the same bits as the graph they were made of, in every precision."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from exported import anchors_of, random_batch, run_onnx, tiny_graph, tiny_model, varied_int8, varied_model
from small_graphs import assert_bitwise_equal, images, make_model, node, perturbed_model, plain_graph, run

from edgefel.errors import EdgefelError
from edgefel.export.onnx.fused import Head, bias_table, fuse_operators, fused_head
from edgefel.export.onnx.passes import apply_passes, keep_outputs
from edgefel.export.precision.half import float32_nodes, to_half
from edgefel.kernels.window_cross_attention.reference import relative_position_bias
from edgefel.runtime.manifest import OUTPUT_NAMES
from edgefel.runtime.onnx_functions import fused_nodes, inlined

ATTENTIONS = [("w14_h1_d8", 0), ("w14_h1_d16", 1), ("w7_h2_d16", 2)]


def graph_of(precision: str) -> tuple[onnx.ModelProto, Head | None]:
    graph, model = (
        (varied_int8(), varied_model()) if precision.startswith("int8") else (tiny_graph(), tiny_model())
    )
    if precision.endswith("fp16"):
        graph, _ = to_half(graph, float32_nodes(graph, anchors_of(model)))
    return graph, fused_head(model)


def names_of(kind: str) -> tuple[str, ...]:
    attentions = (
        f"encoder.levels.{level}.attention/window_cross_attention_{sizes}_{kind}"
        for sizes, level in ATTENTIONS
    )
    return (*attentions, "head/reliability_balance")


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8", "int8+fp16"])
def test_the_bits_are_those_of_the_decomposed_graph(precision):
    graph, head = graph_of(precision)
    before = graph.SerializeToString()
    fused, names = fuse_operators(graph, head)
    assert graph.SerializeToString() == before, "the graph itself is not changed"
    onnx.checker.check_model(fused, full_check=True)
    assert names == names_of("fp16" if precision.endswith("fp16") else "fp32")
    batch = random_batch(3)
    expected, found = run_onnx(graph, batch), run_onnx(fused, batch)
    written_out = run_onnx(onnx.load_from_string(inlined(fused.SerializeToString())), batch)
    for name in OUTPUT_NAMES:
        assert np.array_equal(found[name], expected[name]), name
        assert np.array_equal(written_out[name], expected[name]), name


def test_nodes_say_which_kernel_they_are():
    graph, head = graph_of("fp32")
    *attentions, balance = fused_nodes(fuse_operators(graph, head)[0].SerializeToString())
    scope = {"plugin_namespace": "edgefel", "plugin_version": "1"}
    assert [node.attributes["window"] for node in attentions] == [14, 14, 7]
    assert attentions[2].attributes == {"window": 7, "heads": 2, "width": 16, "scale": 0.25, **scope}
    sizes = {"classes": 8, "anchors": 10, "width": 64, "attentive": 1, "inverse_delta": 1.0}
    assert balance.attributes == {**sizes, **scope}


def test_quantizers_stay_outside():
    fused, _ = fuse_operators(*graph_of("int8"))
    assert "QuantizeLinear" in {node.op_type for node in fused.graph.node}
    inside = {node.op_type for function in fused.functions for node in function.node}
    assert not {"QuantizeLinear", "DequantizeLinear", "Cast"} & inside


def test_a_table_replaces_the_bias_of_all_pairs():
    graph, head = graph_of("fp32")
    fused, _ = fuse_operators(graph, head)
    assert len(fused.SerializeToString()) < len(graph.SerializeToString()) - 4 * (2 * 196 * 196)


def test_outputs_that_were_dropped_stay_dropped():
    graph, head = graph_of("fp16")
    fewer, _ = keep_outputs(graph, ("probabilities", "confidence"))
    fused, names = fuse_operators(fewer, head)
    onnx.checker.check_model(fused, full_check=True)
    assert names == names_of("fp16")
    assert [value.name for value in fused.graph.output] == ["probabilities", "confidence"]
    assert len(fused.graph.node[-1].output) == 3, "a plugin has all its outputs"


def test_a_network_without_a_reliability_head_keeps_its_own():
    graph = tiny_graph("poster-v2-nano")
    fused, names = fuse_operators(graph, fused_head(tiny_model("poster-v2-nano")))
    assert len(names) == 3
    batch = random_batch(2)
    expected, found = run_onnx(graph, batch), run_onnx(fused, batch)
    assert all(np.array_equal(found[name], expected[name]) for name in OUTPUT_NAMES)


def test_a_network_without_either_is_refused():
    with pytest.raises(
        EdgefelError, match="--attention plugin: the network has neither window cross-attention"
    ):
        fuse_operators(make_model([node("Softmax", "x", "y")], {"x": ["N", 4]}, {"y": ["N", 4]}, {}), None)


def test_a_body_that_says_something_else_is_noticed():
    graph, head = graph_of("fp32")
    other = Head(head.classes, head.width, head.anchors, head.attentive, delta=2.0)
    with pytest.raises(RuntimeError, match="operator reliability_balance: its body differs"):
        fuse_operators(graph, other)
    with pytest.raises(RuntimeError, match="expected logits, embedding, its anchors and attentive logits"):
        fuse_operators(graph, Head(head.classes, head.width, head.anchors, False, head.delta))


def test_an_attention_that_others_look_into_is_left_alone():
    graph, head = graph_of("fp32")
    copy = onnx.ModelProto()
    copy.CopyFrom(graph)
    weights = next(n.output[0] for n in copy.graph.node if n.name == "encoder.levels.1.attention/Softmax")
    copy.graph.output.append(onnx.helper.make_tensor_value_info(weights, onnx.TensorProto.FLOAT, None))
    _, names = fuse_operators(copy, head)
    assert len(names) == 3
    assert not any("levels.1" in name for name in names)


@pytest.mark.parametrize(("window", "heads"), [(1, 1), (2, 3), (5, 2), (7, 4)])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_the_table_is_found_again(window, heads, dtype):
    table = np.random.default_rng(window).standard_normal(((2 * window - 1) ** 2, heads)).astype(dtype)
    mask = relative_position_bias(torch.from_numpy(table), window).numpy()
    assert np.array_equal(bias_table(mask), table)
    if window > 1:
        mask = mask.copy()
        mask[0, 0, 0] += 1
        assert bias_table(mask) is None


@pytest.mark.parametrize("shape", [(1, 6, 6), (2, 4, 9), (4, 4)])
def test_other_masks_have_no_table(shape):
    assert bias_table(np.zeros(shape, np.float32)) is None


def test_biases_of_projections_and_a_larger_input_change_nothing():
    graph, _ = apply_passes(plain_graph())
    fused, names = fuse_operators(graph, fused_head(perturbed_model()))
    assert len(names) == 4
    assert_bitwise_equal(run(fused, image=images()), run(graph, image=images()))
