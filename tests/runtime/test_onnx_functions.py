"""Fused operators of ONNX files: found, written out and stripped as onnx and ONNX Runtime understand them."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, inliner, numpy_helper

from edgefel.runtime.onnx_functions import fused_nodes, has_functions, inlined

FEED = {"x": np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)}


def scaled(name: str, factor: float) -> onnx.FunctionProto:
    """(a, unused) -> relu(factor a + weight), and its negation."""
    value = numpy_helper.from_array(np.float32(factor))
    body = [
        helper.make_node("Constant", [], ["factor"], "Constant", value=value),
        helper.make_node("Mul", ["a", "factor"], ["product"], "Mul"),
        helper.make_node("Clip", ["product", "", "factor"], ["limited"], "Clip"),
        helper.make_node("Add", ["limited", "w"], ["first"], "Add"),
        helper.make_node("Neg", ["first"], ["second"], "Neg"),
    ]
    attributes = ["size", "scale", "plugin_namespace"]
    opsets = [helper.make_opsetid("", 20)]
    return helper.make_function("edgefel", name, ["a", "w"], ["first", "second"], body, opsets, attributes)


def call(operator: str, inputs: str, outputs: str, name: str) -> onnx.NodeProto:
    values = {"size": 300, "scale": 0.25, "plugin_namespace": "edgefel"}
    return helper.make_node(operator, inputs.split(), outputs.split(), name, domain="edgefel", **values)


@pytest.fixture
def model() -> onnx.ModelProto:
    """Two calls of one function, whose weight is an input and one of whose outputs nobody reads, and one of another."""
    nodes = [
        call("double", "x weight", "a unread", "one/double"),
        helper.make_node("Sqrt", ["a"], ["b"], "scope/Sqrt"),
        call("double", "b weight", "c c_negative", "two/double"),
        call("half", "c_negative weight", "y z", "three/half"),
    ]
    given, *results = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 4]) for name in ("x", "y", "z")
    )
    weight = numpy_helper.from_array(np.full(4, 3, np.float32), "weight")
    graph = helper.make_graph(nodes, "graph", [given], results, [weight])
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("edgefel", 1)]
    functions = [scaled("double", 2), scaled("half", 0.5)]
    made = helper.make_model(graph, opset_imports=opsets, functions=functions, ir_version=9)
    onnx.checker.check_model(made, full_check=True)
    return made


def run(data: bytes) -> list[np.ndarray]:
    return onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"]).run(None, FEED)


def test_nodes_are_described(model):
    found = fused_nodes(model.SerializeToString())
    assert [node.name for node in found] == ["one/double", "two/double", "three/half"]
    assert [node.operator for node in found] == ["double", "double", "half"]
    assert found[0].attributes == {"size": 300, "scale": 0.25, "plugin_namespace": "edgefel"}


def test_written_out_it_says_the_same_bit_by_bit(model):
    data = inlined(model.SerializeToString())
    flat = onnx.load_from_string(data)
    onnx.checker.check_model(flat, full_check=True)
    assert not flat.functions
    assert {node.domain for node in flat.graph.node} == {""}
    names = [node.name for node in flat.graph.node]
    assert len(set(names)) == len(names)
    assert names[:3] == ["one/double/Constant", "one/double/Mul", "one/double/Clip"]
    expected = run(inliner.inline_local_functions(model).SerializeToString())
    for one, two, three in zip(run(model.SerializeToString()), run(data), expected, strict=True):
        assert np.array_equal(one, two)
        assert np.array_equal(one, three)


def test_operators_that_are_kept_lose_their_bodies_alone(model):
    flat = onnx.load_from_string(inlined(model.SerializeToString(), keep={"double"}))
    assert [node.op_type for node in flat.graph.node].count("double") == 2
    assert not flat.functions
    assert "half" not in {node.op_type for node in flat.graph.node}
    kept = [node for node in flat.graph.node if node.op_type == "double"]
    assert kept == [node for node in model.graph.node if node.op_type == "double"]


def test_all_else_in_the_file_stays(model):
    flat = onnx.load_from_string(inlined(model.SerializeToString()))
    assert flat.graph.initializer == model.graph.initializer
    assert flat.opset_import == model.opset_import
    assert (flat.graph.input, flat.graph.output) == (model.graph.input, model.graph.output)


def test_a_plain_file_comes_back_itself(model, tmp_path):
    del model.functions[:]
    data = model.SerializeToString()
    assert inlined(data) is data
    (tmp_path / "plain.onnx").write_bytes(data)
    assert not has_functions(tmp_path / "plain.onnx")


def test_functions_are_noticed_on_disk(model, tmp_path):
    onnx.save(model, tmp_path / "model.onnx")
    assert has_functions(tmp_path / "model.onnx")


@pytest.mark.parametrize("data", [b"", b"no model", b"\xff" * 40, b"\x3a\xff\xff\xff\x07"])
def test_what_is_no_file_of_ours_is_left_to_its_reader(data, tmp_path):
    assert fused_nodes(data) == []
    assert inlined(data) == data
    (tmp_path / "file").write_bytes(data)
    assert not has_functions(tmp_path / "file")


def test_neither_onnx_nor_torch_is_imported():
    code = "import sys, edgefel.runtime.onnx_functions; print({'onnx', 'torch'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "set()"
