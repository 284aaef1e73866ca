"""PReLU as Max(x, a x): the same bits, and only where that is true."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from exported import random_batch, run_onnx, tiny_graph
from onnx import TensorProto, helper, numpy_helper

from edgefel.export.onnx.passes import gather_prelu, spread_prelu
from edgefel.export.onnx.trace import check_graph


def single(slopes: np.ndarray) -> onnx.ModelProto:
    """y = PReLU(x), x [N, 4, 3, 3]."""
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 4, 3, 3]) for name in "xy"]
    node = helper.make_node("PRelu", ["x", "slopes"], ["y"], "scope/PRelu")
    graph = helper.make_graph(
        [node], "g", values[:1], values[1:], [numpy_helper.from_array(slopes, "slopes")]
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def run(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


@pytest.mark.parametrize("slopes", [[0.25, 0.0, 1.0, 0.999], [-0.5, -2.0, -1e-30, 0.1]])
def test_the_bits_are_the_same(slopes):
    model = single(np.asarray(slopes, np.float32).reshape(4, 1, 1))
    x = np.random.default_rng(0).standard_normal((5, 4, 3, 3)).astype(np.float32) * 10
    x[0, :, 0] = [[1e-40], [-1e-40], [3e38], [-3e38]]
    x[1, :, 0, 0] = [np.inf, 0.0, 0.0, np.inf]
    spread, count = spread_prelu(model)
    assert count == 1
    assert [node.op_type for node in spread.graph.node] == ["Mul", "Max"]
    # adding 0 makes -0 a 0: the sign of a zero is the only thing that may differ
    assert np.array_equal((run(spread, x) + 0).view(np.int32), (run(model, x) + 0).view(np.int32))


def test_a_slope_above_one_stays():
    model = single(np.asarray([0.1, 0.2, 1.0001, 0.3], np.float32).reshape(4, 1, 1))
    spread, count = spread_prelu(model)
    assert count == 0
    assert [node.op_type for node in spread.graph.node] == ["PRelu"]


def test_a_slope_that_is_no_constant_stays():
    model = single(np.full((4, 1, 1), 0.5, np.float32))
    slopes = helper.make_tensor_value_info("slopes", TensorProto.FLOAT, [4, 1, 1])
    model.graph.input.append(slopes)
    del model.graph.initializer[:]
    assert spread_prelu(model)[1] == 0


def test_a_whole_network_computes_the_same():
    spread, count = spread_prelu(tiny_graph())
    assert count == sum(node.op_type == "PRelu" for node in tiny_graph().graph.node) > 10
    check_graph(spread)
    assert not any(node.op_type == "PRelu" for node in spread.graph.node)
    names = [node.name for node in spread.graph.node]
    assert len(set(names)) == len(names)
    batch = random_batch(4, seed=5)
    before, after = run_onnx(tiny_graph(), batch), run_onnx(spread, batch)
    for name in before:
        # ONNX Runtime lays convolutions out differently around other operators, which reorders their sums
        assert np.abs(before[name] - after[name]).max() < 2e-6 * max(1.0, np.abs(before[name]).max()), name


def test_gathering_undoes_spreading():
    graph = tiny_graph()
    spread, count = spread_prelu(graph)
    gathered, back = gather_prelu(spread)
    assert back == count > 0
    check_graph(gathered)
    assert sorted(node.op_type for node in gathered.graph.node) == sorted(
        node.op_type for node in graph.graph.node
    )
    before, after = (run_onnx(model, random_batch(2)) for model in (graph, gathered))
    for name, values in before.items():
        np.testing.assert_array_equal(values, after[name])


@pytest.mark.parametrize("slope", [1.5, 0.5])
def test_only_what_is_a_prelu_is_gathered(slope):
    """Max(x, a x) with a slope above 1, or a product that something else reads too, is another function."""
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 4]) for name in "xyz"]
    nodes = [
        helper.make_node("Mul", ["x", "a"], ["m"], "s/Mul"),
        helper.make_node("Max", ["x", "m"], ["y"], "s/Max"),
        helper.make_node("Neg", ["m"], ["z"], "s/Neg"),
    ]
    nodes, outputs = (nodes, values[1:]) if slope < 1 else (nodes[:2], values[1:2])
    slopes = numpy_helper.from_array(np.asarray(slope, np.float32), "a")
    graph = helper.make_graph(nodes, "g", values[:1], outputs, [slopes])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    assert gather_prelu(model)[1] == 0
