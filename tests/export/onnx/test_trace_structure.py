"""What the exported network must and must not hold, and what its options take away."""

from __future__ import annotations

import copy

import numpy as np
import onnx
import pytest
import torch
from exported import run_torch, tiny_graph, tiny_model
from small_graphs import (
    assert_bitwise_equal,
    assert_close,
    graph_macs,
    images,
    input_bytes,
    make_model,
    node,
    op_types,
    perturbed_model,
    plain_graph,
    plain_outputs,
    run,
)

from edgefel.calib.graph import GraphIndex
from edgefel.errors import EdgefelError
from edgefel.export.onnx.passes import keep_outputs
from edgefel.export.onnx.trace import check_graph, export_onnx


def test_relative_position_biases_are_constants_of_the_right_values():
    """No look-up of a table at run time: each bias [H, M, M] is what the reference reads from its table."""
    from edgefel.kernels.window_cross_attention.reference import relative_position_bias

    index = GraphIndex(plain_graph().graph)
    levels = perturbed_model().encoder.levels
    for i, level in enumerate(levels):
        add = index.nodes[f"encoder.levels.{i}.attention/Add"]
        bias = onnx.numpy_helper.to_array(index.initializers[add.input[1]])
        table = level.attention.relative_position_bias_table.detach()
        np.testing.assert_array_equal(bias, relative_position_bias(table, level.window).numpy())
        assert table.numel() not in [np.prod(t.dims) for t in plain_graph().graph.initializer]
    gathers = [n.name for n in plain_graph().graph.node if n.op_type.startswith("Gather")]
    assert gathers == ["encoder/Gather"]  # the class token of the last sequence


def test_every_layer_keeps_its_name_with_biases_that_are_not_zero():
    """onnxsim would turn each Linear on tokens into Reshape, Gemm, Reshape without a scope."""
    names = {n.name for n in plain_graph().graph.node}
    for scope in ("levels.0.attention.kv", "levels.0.mlp.fc1", "blocks.0.attention.qkv", "blocks.0.mlp.fc2"):
        assert {f"encoder.{scope}/MatMul", f"encoder.{scope}/Add"} <= names
    assert {n for n in names if n.startswith("model/")} == {"model/Shape", "model/Slice", "model/Slice_2"}


def test_both_streams_share_one_resample():
    index = GraphIndex(plain_graph().graph)
    readers = [n for n in index.consumers["image"] if n.op_type != "Shape"]
    assert [n.op_type for n in readers] == ["Slice"]
    streams = {n.name.split(".")[1] for n in index.consumers[readers[0].output[0]]}
    assert streams == {"image_stream", "landmark_stream"}


def test_an_input_of_112_needs_none():
    index = GraphIndex(tiny_graph().graph)
    assert {n.op_type for n in index.consumers["image"]} == {"Conv"}


class Token(torch.nn.Module):
    """The mean colours as embedding and as the only token: an encoder that takes no time to trace."""

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        embedding = torch.nn.functional.pad(image.mean(dim=(2, 3)), (0, 93), value=0.5)
        return embedding, embedding[:, None]


def test_one_token_attention_is_a_matrix():
    """Exact up to rounding, and what it saves: four products of [E, E] become one of [E, C]."""
    model = copy.deepcopy(perturbed_model())
    model.encoder = Token()
    folded, whole = (export_onnx(model, passes=(), fold_attention=fold) for fold in (True, False))
    width = 64
    assert graph_macs(whole) - graph_macs(folded) == 4 * width * width + 2 * width
    assert len(whole.graph.node) - len(folded.graph.node) > 15
    assert "head.folded/Gemm" in [n.name for n in folded.graph.node]
    assert "head.folded/Gemm" not in [n.name for n in whole.graph.node]
    assert_close(run(whole, image=images()), run(folded, image=images()))


def test_macs_are_those_of_the_profile():
    """Counted on PyTorch's own operators, with the attention that the graph has folded."""
    from edgefel.models.profile import profile

    model = tiny_model()
    width = model.config.head.embedding_dim
    folded = 4 * width * width + 2 * width
    # the profile does not count the distances to anchors either: they are no products
    assert graph_macs(tiny_graph()) == profile(model.config).macs - folded


def test_keeping_some_outputs():
    kept, lost = keep_outputs(plain_graph(), ("confidence", "probabilities"))
    assert [value.name for value in kept.graph.output] == ["probabilities", "confidence"]
    assert lost == ()  # all of the network serves the corrected probabilities
    check_graph(kept, ("probabilities", "confidence"))
    expected = {name: plain_outputs()[name] for name in ("probabilities", "confidence")}
    assert_bitwise_equal(run(kept, image=images()), expected)
    first, lost = keep_outputs(plain_graph(), ("primary",))
    assert len(lost) > 60
    assert all(name.startswith("head") for name in lost)
    assert len(first.graph.initializer) < len(plain_graph().graph.initializer)
    assert_bitwise_equal(run(first, image=images()), {"primary": plain_outputs()["primary"]})


def test_a_node_with_one_wanted_result_of_two_stays():
    nodes = [node("Relu", "x", "a"), node("Exp", "x", "b"), node("Neg", "a", "c")]
    model = make_model(nodes, {"x": ["N", 2]}, {"c": ["N", 2], "b": ["N", 2], "a": ["N", 2]}, {})
    assert op_types(keep_outputs(model, ("a",))[0]) == ["Relu"]
    assert op_types(keep_outputs(model, ("a", "c"))[0]) == ["Relu", "Neg"]


def test_impossible_outputs():
    with pytest.raises(EdgefelError, match="the graph has no labels; choose some of logits, primary"):
        keep_outputs(tiny_graph(), ("labels",))
    for outputs in ((), ("logits", "logits")):
        with pytest.raises(EdgefelError, match="name at least one of logits, .* each once"):
            keep_outputs(tiny_graph(), outputs)


def test_the_default_export_is_what_the_exact_passes_make():
    model = tiny_graph()
    assert not {"Shape", "Expand"} & set(op_types(model))
    assert input_bytes(model) == 3 * 112 * 112 * 4
    batch = images(3, 112)
    actual, expected = run(model, image=batch), run_torch(tiny_model(), batch)
    for name, values in expected.items():
        np.testing.assert_allclose(actual[name], values, atol=1e-4, err_msg=name)
