"""Tokens of APViT's graph: rows gathered as rows, a class token without positions, and what must not be touched."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from small_graphs import applied, assert_bitwise_equal, make_model, node, op_types, pooled_graph, run

from edgefel.calib.graph import GraphIndex
from edgefel.export.onnx.passes import apply_passes

RNG = np.random.default_rng(0)
X = RNG.standard_normal((3, 5, 4), dtype=np.float32)


@pytest.mark.parametrize("batch", [1, 3])
def test_the_networks_outputs_are_the_same_bits(batch):
    image = RNG.standard_normal((batch, 3, 112, 112), dtype=np.float32)
    expected = run(pooled_graph(), image=image)
    for names, saved in ((["gather-rows"], 3), (["fold-class-token"], 2)):
        model, (report,) = apply_passes(pooled_graph(), names)
        assert report.nodes_before - report.nodes_after == saved
        assert_bitwise_equal(run(model, image=image), expected)


def test_nothing_about_shapes_is_computed_at_run_time():
    model, _ = apply_passes(pooled_graph())
    assert not {"Shape", "Expand", "GatherElements"} & set(op_types(model))
    index = GraphIndex(model.graph)
    chosen = [n for n in model.graph.node if n.op_type == "TopK"]
    assert len(chosen) == 6  # the best, and these in their order; three times
    kept = [int(onnx.numpy_helper.to_array(index.initializers[n.input[1]])[0]) for n in chosen]
    assert kept == [160, 160, 144, 144, 129, 129]


def rows(axis: int = 1, repeat: tuple[int, ...] = (1, 1, 4)) -> onnx.ModelProto:
    nodes = [
        node("Cast", "i", "whole", to=TensorProto.INT64),
        node("Unsqueeze", "whole axes", "u"),
        node("Expand", "u shape", "e"),
        node("GatherElements", "x e", "y", axis=axis),
    ]
    constants = {"axes": np.array([-1]), "shape": np.array(repeat)}
    return make_model(nodes, {"x": ["N", 5, 4], "i": ["N", 2]}, {"y": ["N", 2, repeat[2]]}, constants)


def test_rows_by_an_index_for_each_image():
    indices = np.array([[0, 4], [1, 1], [3, 2]])
    model, count = applied("gather-rows", rows())
    assert (op_types(model), count) == (["Cast", "Unsqueeze", "GatherND"], 1)
    expected = np.take_along_axis(X, indices[:, :, None], 1)
    np.testing.assert_array_equal(run(model, x=X, i=indices.astype(np.float32))["y"], expected)


@pytest.mark.parametrize(
    "kept",
    [
        {"repeat": (1, 1, 3)},  # three of four columns
        {"axis": 2},  # along the features
        {"axis": 0},
    ],
)
def test_other_gathers_are_left_alone(kept):
    graph = rows(**kept)
    model, count = applied("gather-rows", graph)
    assert (op_types(model), count) == (op_types(graph), 0)


def test_one_index_for_all_images_is_left_alone():
    """GatherElements then takes from the first image alone, GatherND would take from each."""
    nodes = [node("Expand", "u shape", "e"), node("GatherElements", "x e", "y", axis=1)]
    constants = {"u": np.array([[[0], [3]]]), "shape": np.array([1, 1, 4])}
    graph = make_model(nodes, {"x": [3, 5, 4]}, {"y": [1, 2, 4]}, constants)
    model, count = applied("gather-rows", graph)
    assert count == 0
    np.testing.assert_array_equal(run(model, x=X)["y"], X[:1, [0, 3]])


def test_a_class_token_in_front_of_placed_tokens():
    token = RNG.standard_normal((1, 1, 4), dtype=np.float32)
    nodes = [
        node("Shape", "x", "batch", start=0, end=1),
        node("Concat", "batch one one", "target", axis=0),
        node("Expand", "token target", "e"),
        node("Concat", "e x", "c", axis=1),
        node("Relu", "c", "y"),
    ]
    constants = {"token": token, "one": np.array([1])}
    graph = make_model(nodes, {"x": ["N", 5, 4]}, {"y": ["N", 6, 4]}, constants)
    model, count = applied("fold-class-token", graph)
    assert (op_types(model), count) == (["Pad", "Add", "Relu"], 1)
    np.testing.assert_array_equal(run(model, x=X)["y"], run(graph, x=X)["y"])
    # a token that is read elsewhere too stays as it is
    nodes.append(node("Neg", "e", "z"))
    seen = make_model(nodes, {"x": ["N", 5, 4]}, {"y": ["N", 6, 4], "z": ["N", 1, 4]}, constants)
    model, count = applied("fold-class-token", seen)
    assert (op_types(model), count) == (op_types(seen), 0)


def token_model(end: int):
    nodes = [
        node("Shape", "x", "batch", start=end - 1, end=end),
        node("Concat", "batch one one", "target", axis=0),
        node("Expand", "token target", "tokens"),
        node("Concat", "tokens x", "sequence", axis=1),
        node("Add", "sequence positions", "y"),
    ]
    rng = np.random.default_rng(3)
    constants = {"one": np.array([1]), "token": rng.standard_normal((1, 1, 4)).astype(np.float32)}
    constants["positions"] = rng.standard_normal((1, 6, 4)).astype(np.float32)
    return make_model(nodes, {"x": [3 if end == 2 else "N", 5, 4]}, {"y": ["K", 6, 4]}, constants)


def test_a_class_token_becomes_part_of_the_positions():
    model, count = applied("fold-class-token", token_model(1))
    assert (count, op_types(model)) == (1, ["Pad", "Add"])
    np.testing.assert_array_equal(run(model, x=X)["y"], run(token_model(1), x=X)["y"])


def test_a_token_for_another_axis_than_the_batch_is_left_alone():
    assert applied("fold-class-token", token_model(2))[1] == 0
