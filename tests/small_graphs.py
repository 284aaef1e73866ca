"""Hand-made ONNX graphs, and a real one that no exact pass has touched."""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import torch
from exported import large_model
from onnx import NodeProto, TensorProto, helper, numpy_helper

from edgefel.calib.graph import node_macs
from edgefel.export.onnx.passes import apply_passes
from edgefel.export.onnx.trace import export_onnx
from edgefel.models import build_model
from edgefel.runtime.manifest import OUTPUT_NAMES


def node(op_type: str, inputs: str, output: str, **attributes: object) -> NodeProto:
    """A node named after its output; inputs are separated by blanks."""
    return helper.make_node(op_type, inputs.split(), [output], f"scope/{output}", **attributes)


def make_model(
    nodes: Sequence[NodeProto],
    inputs: Mapping[str, Sequence[object]],
    outputs: Mapping[str, Sequence[object]],
    constants: Mapping[str, object],
    kind: int = TensorProto.FLOAT,
) -> onnx.ModelProto:
    """A checked model at opset 20; lists of inputs and outputs are name -> shape."""
    graph = helper.make_graph(
        list(nodes),
        "small",
        [helper.make_tensor_value_info(name, kind, list(shape)) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, list(s)) for name, s in outputs.items()],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    return model


def run(model: onnx.ModelProto, **feeds: np.ndarray) -> dict[str, np.ndarray]:
    """Outputs by name, on one thread."""
    onnx.checker.check_model(model, full_check=True)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True))


def op_types(model: onnx.ModelProto) -> list[str]:
    return [entry.op_type for entry in model.graph.node]


def applied(name: str, model: onnx.ModelProto) -> tuple[onnx.ModelProto, Any]:
    """The graph after one exact pass, and what the pass says of it."""
    changed, (report,) = apply_passes(model, [name])
    return changed, report.detail


def graph_macs(model: onnx.ModelProto) -> int:
    return sum(node_macs(model).values())


def input_bytes(model: onnx.ModelProto) -> int:
    """Of one image."""
    tensor = model.graph.input[0].type.tensor_type
    item = helper.tensor_dtype_to_np_dtype(tensor.elem_type).itemsize
    return item * math.prod(dim.dim_value for dim in tensor.shape.dim[1:])


@functools.cache
def plain_graph() -> onnx.ModelProto:
    """The small network behind a 224 input as onnxsim leaves it: no exact pass applied. Biases, batch norms and
    position tables hold random numbers, so that nothing in it folds by chance. Shared: copy before changing."""
    return export_onnx(perturbed_model(), passes=())


@functools.cache
def perturbed_model() -> torch.nn.Module:
    model = copy.deepcopy(large_model())
    generator = torch.Generator().manual_seed(11)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return model


@functools.cache
def pooled_graph() -> onnx.ModelProto:
    """apvit-nano as onnxsim leaves it, with class token and positions that are not 0. Shared: copy before changing."""
    torch.manual_seed(0)
    model = build_model("apvit-nano").eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return export_onnx(model, passes=())


def images(count: int = 2, size: int = 224) -> np.ndarray:
    return np.random.default_rng(1).standard_normal((count, 3, size, size), dtype=np.float32)


@functools.cache
def plain_outputs() -> dict[str, np.ndarray]:
    return run(plain_graph(), image=images())


def assert_bitwise_equal(actual: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert set(actual) == set(expected) <= set(OUTPUT_NAMES)
    for name, values in expected.items():
        np.testing.assert_array_equal(actual[name], values, err_msg=name)


def assert_close(actual: dict[str, np.ndarray], expected: dict[str, np.ndarray], units: float = 16) -> None:
    """Within `units` roundings (2^-24) of each output's largest value, or of 1."""
    assert set(actual) == set(expected)
    for name, values in expected.items():
        limit = units * 2.0**-24 * max(1.0, float(np.abs(values).max()))
        np.testing.assert_allclose(actual[name], values, rtol=0, atol=limit, err_msg=name)
