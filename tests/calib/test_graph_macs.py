"""MACs of a graph's nodes."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from exported import tiny_graph, tiny_model
from onnx import TensorProto, helper, numpy_helper

from edgefel.calib.graph import node_macs
from edgefel.errors import EdgefelError
from edgefel.models.profile import profile


def graph(*nodes: onnx.NodeProto, inputs: dict[str, list], output: list, **weights: tuple[int, ...]):
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()]
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, output)
    constants = [numpy_helper.from_array(np.ones(shape, np.float32), name) for name, shape in weights.items()]
    model = helper.make_graph(list(nodes), "g", values, [out], constants)
    return helper.make_model(model, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def test_each_kind_by_hand():
    conv = helper.make_node("Conv", ["x", "w"], ["y"], "c", group=2, strides=[2, 2], pads=[1, 1, 1, 1])
    model = graph(conv, inputs={"x": ["N", 4, 8, 8]}, output=["N", 6, 4, 4], w=(6, 2, 3, 3))
    assert node_macs(model) == {"c": 6 * 4 * 4 * 2 * 3 * 3}
    gemm = helper.make_node("Gemm", ["x", "w"], ["y"], "g", transB=1)
    assert node_macs(graph(gemm, inputs={"x": ["N", 5]}, output=["N", 7], w=(7, 5))) == {"g": 35}
    product = helper.make_node("MatMul", ["x", "z"], ["y"], "m")
    inputs = {"x": ["N", 2, 3, 4], "z": ["N", 2, 4, 5]}
    assert node_macs(graph(product, inputs=inputs, output=["N", 2, 3, 5])) == {"m": 2 * 3 * 5 * 4}


def test_a_network_has_the_work_that_its_profile_counts():
    counted = node_macs(tiny_graph())
    # the profile also counts distances, normalisation and the like, which no weighted node does
    assert sum(counted.values()) == pytest.approx(profile(tiny_model().config).macs, rel=0.02)
    assert min(counted.values()) > 0


def test_an_unknown_shape_is_named():
    node = helper.make_node("MatMul", ["x", "w"], ["y"], "m")
    model = graph(node, inputs={"x": ["N", "K", 3]}, output=["N", "K", 5], w=(3, 5))
    with pytest.raises(EdgefelError, match="'m'"):
        node_macs(model)
