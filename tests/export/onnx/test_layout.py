"""Moves of data: bitwise the same before and after, and what must not be touched."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper
from small_graphs import (
    applied,
    assert_bitwise_equal,
    images,
    make_model,
    node,
    op_types,
    plain_graph,
    plain_outputs,
    run,
)

from edgefel.errors import EdgefelError
from edgefel.export.onnx.passes import EXACT_PASSES, apply_passes

X = np.random.default_rng(0).standard_normal((3, 4, 6), dtype=np.float32)


@pytest.mark.parametrize("name", [name for name in EXACT_PASSES if name != "fold-affines"])
def test_each_pass_is_bitwise_exact_on_the_network(name):
    saved = {"drop-identities": 0, "split-stacked": 1, "drop-scalar-expands": 8, "fold-class-token": 2}
    saved |= {"gather-rows": 0, "gather-transposes": 0, "merge-moves": 8}
    model, (report,) = apply_passes(plain_graph(), [name])
    assert report.nodes_before - report.nodes_after == saved[name]
    assert_bitwise_equal(run(model, image=images()), plain_outputs())


def test_together_they_leave_no_shape_computed_at_run_time():
    model, reports = apply_passes(plain_graph(), [name for name in EXACT_PASSES if name != "fold-affines"])
    assert_bitwise_equal(run(model, image=images()), plain_outputs())
    assert not {"Shape", "Expand", "Identity", "Cast", "Squeeze"} & set(op_types(model))
    assert reports[0].nodes_before - reports[-1].nodes_after >= 20


def test_unknown_passes_are_refused():
    with pytest.raises(EdgefelError, match="passes fuse-all are not known; choose some of drop-identities"):
        apply_passes(plain_graph(), ["fuse-all"])


def test_a_pair_that_cancels_and_one_whose_middle_is_an_output():
    pair = [node("Transpose", "x", "a", perm=[0, 2, 1]), node("Transpose", "a", "b", perm=[0, 2, 1])]
    tail = node("Relu", "b", "y")
    model = make_model([*pair, tail], {"x": ["N", 4, 6]}, {"y": ["N", 4, 6]}, {})
    merged, saved = applied("merge-moves", model)
    assert (op_types(merged), saved) == (["Relu"], 2)
    np.testing.assert_array_equal(run(merged, x=X)["y"], run(model, x=X)["y"])
    seen = make_model([*pair, tail], {"x": ["N", 4, 6]}, {"y": ["N", 4, 6], "a": ["N", 6, 4]}, {})
    kept, saved = applied("merge-moves", seen)
    assert (op_types(kept), saved) == (["Transpose", "Transpose", "Relu"], 0)


def test_a_reshape_that_copies_sizes_is_left_alone():
    constants = {"s": np.array([0, 0, 2, 3]), "t": np.array([0, -1])}
    nodes = [node("Reshape", "x s", "a"), node("Reshape", "a t", "y")]
    model = make_model(nodes, {"x": ["N", 4, 6]}, {"y": ["N", 24]}, constants)
    assert applied("merge-moves", model)[1] == 0


def stacked(end: int = 2, axis: int = 0):
    constants = {"shape": np.array([-1, 4, 2, 3, 1]), "zero": np.array([0]), "one": np.array([1])}
    constants |= {"two": np.array([end]), "axis": np.array([axis]), "flat": np.array([-1, 12])}
    nodes = [
        node("Reshape", "x shape", "five"),
        node("Transpose", "five", "stack", perm=[2, 0, 3, 1, 4]),
        node("Slice", "stack zero one axis", "s0"),
        node("Squeeze", "s0 axis", "q"),
        node("Slice", "stack one two axis", "s1"),
        node("Squeeze", "s1 axis", "k"),
        node("Sub", "q k", "y"),
    ]
    return make_model(nodes, {"x": ["N", 4, 6]}, {"y": ["N", 3, 4, 1]}, constants)


def test_stacked_q_and_k():
    model, count = applied("split-stacked", stacked())
    assert count == 1
    assert op_types(model) == ["Split", *["Reshape", "Transpose"] * 2, "Sub"]
    np.testing.assert_array_equal(run(model, x=X)["y"], run(stacked(), x=X)["y"])


def test_a_stack_that_is_also_read_whole_is_left_alone():
    model = stacked()
    model.graph.node.append(node("Relu", "stack", "whole"))
    model.graph.output.append(helper.make_tensor_value_info("whole", TensorProto.FLOAT, [2, "N", 3, 4, 1]))
    assert applied("split-stacked", model)[1] == 0


def where_model(shape_of: str):
    nodes = [
        node("Shape", shape_of, "shape"),
        node("Expand", "one shape", "ones"),
        node("Equal", "x zero", "is_zero"),
        node("Where", "is_zero ones x", "y"),
    ]
    constants = {"one": np.float32(1), "zero": np.float32(0)}
    return make_model(nodes, {"x": ["N", 4, 6], "w": ["M", 4, 6]}, {"y": ["K", 4, 6]}, constants)


def test_numbers_need_no_expansion_to_the_shape_of_an_operand():
    model, dropped = applied("drop-scalar-expands", where_model("x"))
    assert (dropped, op_types(model)) == (1, ["Equal", "Where"])
    x = np.where(X > 0.5, X, 0)
    feeds = {"x": x, "w": x}
    np.testing.assert_array_equal(run(model, **feeds)["y"], run(where_model("x"), **feeds)["y"])


def test_an_expansion_that_enlarges_the_result_stays():
    assert applied("drop-scalar-expands", where_model("w"))[1] == 0


def test_transposes_before_a_concat_are_gathered_if_they_are_the_same():
    def model(second: list[int], shape: list[object]):
        nodes = [
            node("Transpose", "x", "a", perm=[0, 2, 1]),
            node("Transpose", "w", "b", perm=second),
            node("Concat", "a b", "y", axis=1),
        ]
        return make_model(nodes, {"x": ["N", 4, 6], "w": shape}, {"y": ["N", "T", 4]}, {})

    same = model([0, 2, 1], ["N", 4, 5])
    gathered, saved = applied("gather-transposes", same)
    assert (saved, op_types(gathered)) == (1, ["Concat", "Transpose"])
    feeds = {"x": X, "w": X[:, :, :5]}
    np.testing.assert_array_equal(run(gathered, **feeds)["y"], run(same, **feeds)["y"])
    assert applied("gather-transposes", model([0, 1, 2], ["N", 6, 4]))[1] == 0


def test_identities_and_idle_casts_go_and_real_casts_stay():
    nodes = [
        node("Identity", "x", "a"),
        node("Cast", "a", "b", to=TensorProto.FLOAT),
        node("Cast", "b", "c", to=TensorProto.FLOAT16),
        node("Cast", "c", "d", to=TensorProto.FLOAT),
        node("Identity", "d", "y"),
    ]
    model, dropped = applied("drop-identities", make_model(nodes, {"x": ["N", 4]}, {"y": ["N", 4]}, {}))
    assert dropped == 2
    assert op_types(model) == ["Cast", "Cast", "Identity"]
