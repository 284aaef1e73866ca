"""A batch norm as a product and a sum: what it computes, where it is written so, and fewer transposes in INT8."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from exported import random_batch, run_onnx
from onnx import TensorProto, helper, numpy_helper

from edgefel.calib.placement import ONNXRUNTIME, place
from edgefel.calib.quantize import quantize
from edgefel.export.onnx.passes import spread_batch_norms
from edgefel.export.onnx.trace import check_graph
from edgefel.runtime.backends.onnxruntime_backend import session_options

CHANNELS = 5
TRAINED = Path(__file__).parents[2] / "bundles/nano-synthetic/model.fp32.onnx"


def parameters() -> list[np.ndarray]:
    """Scale, bias, mean and variance, as a trained norm has them; one variance is tiny."""
    rng = np.random.default_rng(0)
    scale, bias, mean = rng.standard_normal((3, CHANNELS)).astype(np.float32)
    return [scale, bias, mean, np.array([1e-7, 0.3, 1.0, 7.0, 90.0], np.float32)]


def single(sides: tuple[int | str, ...], *, constant: bool = True) -> onnx.ModelProto:
    """y = BatchNormalization(x)."""
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, sides) for name in "xy"]
    node = helper.make_node(
        "BatchNormalization", list("xsbmv"), ["y"], "scope/BatchNormalization", epsilon=1e-3
    )
    constants = [numpy_helper.from_array(one, name) for one, name in zip(parameters(), "sbmv", strict=True)]
    inputs = [values[0]]
    if not constant:
        inputs.append(helper.make_tensor_value_info("s", TensorProto.FLOAT, [CHANNELS]))
        del constants[0]
    graph = helper.make_graph([node], "g", inputs, values[1:], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def test_the_product_and_the_sum_are_the_norm_of_float64():
    model = single(("N", CHANNELS, 3, 7))
    spread, count = spread_batch_norms(model)
    onnx.checker.check_model(spread, full_check=True)
    assert count == 1
    assert [node.op_type for node in spread.graph.node] == ["Mul", "Add"]
    assert [node.op_type for node in model.graph.node] == ["BatchNormalization"], (
        "the model passed in was changed"
    )
    assert spread.graph.node[1].output[0] == "y"
    x = np.random.default_rng(1).standard_normal((2, CHANNELS, 3, 7)).astype(np.float32)
    scale, bias, mean, variance = (one.astype(np.float64)[:, None, None] for one in parameters())
    expected = (x - mean) / np.sqrt(variance + 1e-3) * scale + bias
    (found,) = ort.InferenceSession(spread.SerializeToString()).run(None, {"x": x})
    np.testing.assert_allclose(found, expected, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize(
    "model",
    [single(("N", CHANNELS)), single(("N", CHANNELS, 3, 7), constant=False)],
    ids=["vectors", "not constant"],
)
def test_others_stay(model):
    spread, count = spread_batch_norms(model)
    assert count == 0
    assert spread.graph.node == model.graph.node


def test_a_whole_network_computes_the_same_with_fewer_transposes_in_int8(tmp_path):
    plain = onnx.load(TRAINED)
    spread, count = spread_batch_norms(plain)
    check_graph(spread)
    norms = sum(node.op_type == "BatchNormalization" for node in plain.graph.node)
    assert count == norms > 2
    batch = random_batch(2)
    before, after = run_onnx(plain, batch), run_onnx(spread, batch)
    for name, values in before.items():
        np.testing.assert_allclose(after[name], values, atol=1e-5, err_msg=name)
    assert transposes(spread, tmp_path) <= transposes(plain, tmp_path) - count


def transposes(graph: onnx.ModelProto, folder: Path) -> int:
    """Of the INT8 graph for ONNX Runtime, after its optimisations; every scale is 0.1."""
    placement = place(graph, ONNXRUNTIME)
    model = quantize(graph, placement, dict.fromkeys(placement.activations, np.float32(0.1)))
    options = session_options(1)
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    nodes = onnx.load(folder / "optimised.onnx").graph.node
    return sum(node.op_type == "Transpose" for node in nodes)
