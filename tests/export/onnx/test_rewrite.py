"""Edits of a graph in place: names, replacement, and what is removed."""

from __future__ import annotations

import numpy as np
import pytest
from small_graphs import make_model, node, op_types, run

from edgefel.export.onnx.rewrite import Rewrite, opset_of


def chain() -> Rewrite:
    """x -> Mul by c -> Relu -> y, and a Neg that nothing reads."""
    nodes = [node("Mul", "x c", "scaled"), node("Neg", "x", "unread"), node("Relu", "scaled", "y")]
    return Rewrite(
        make_model(nodes, {"x": ["N", 4]}, {"y": ["N", 4]}, {"c": np.float32(2), "spare": np.float32(1)})
    )


def test_new_names_are_free_and_reserved():
    rewrite = chain()
    first, second = (rewrite.node("Relu", ["x"], like="scope") for _ in range(2))
    assert (first.name, first.output[0]) == ("scope/Relu", "scope/Relu:0")
    assert (second.name, second.output[0]) == ("scope/Relu_2", "scope/Relu_2:0")
    assert rewrite.node("Relu", ["x"], like="").name == "model/Relu"
    assert rewrite.unique("scaled") == "scaled_2"
    assert rewrite.add_constant(np.zeros(2, np.float32), "c") == "c_2"
    np.testing.assert_array_equal(rewrite.constant("c_2"), [0, 0])


def test_new_nodes_stand_in_the_place_of_the_old_and_look_ups_follow():
    rewrite = chain()
    mul = rewrite.producers["scaled"]
    added = rewrite.node("Add", ["x", "x"], like=mul, output="scaled")
    rewrite.replace([mul], [added], at=mul)
    assert [entry.op_type for entry in rewrite.order] == ["Add", "Neg", "Relu"]
    assert rewrite.producer("scaled", "Add") is added
    assert "c" not in rewrite.consumers
    model = rewrite.clean()
    assert op_types(model) == ["Add", "Relu"], "a node that no output depends on stays"
    assert [tensor.name for tensor in model.graph.initializer] == [], "a constant that nothing reads stays"
    np.testing.assert_array_equal(run(model, x=np.ones((1, 4), np.float32))["y"], [[2, 2, 2, 2]])


def test_readers_are_redirected():
    rewrite = chain()
    rewrite.redirect("scaled", "x")
    assert [entry.op_type for entry in rewrite.consumers["x"]] == ["Mul", "Neg", "Relu"]
    assert op_types(rewrite.clean()) == ["Relu"]


def test_shapes_are_of_the_graph_as_it_was_cleaned():
    rewrite = chain()
    assert rewrite.shape("scaled") == [None, 4]
    assert rewrite.shape("nothing") is None


def test_a_copy_is_edited_and_not_the_model():
    model = chain().model
    before = model.SerializeToString()
    Rewrite.copy(model).clean()
    assert model.SerializeToString() == before


@pytest.mark.parametrize("domain", ["", "ai.onnx"])
def test_the_opset_is_of_the_default_domain(domain):
    model = chain().model
    expected = model.opset_import[0].version
    model.opset_import[0].domain = domain
    model.opset_import.insert(0, type(model.opset_import[0])(domain="com.microsoft", version=1))
    assert opset_of(model) == expected
