"""How much work a node does: multiply-accumulate operations, counted from the graph's shapes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import onnx

from edgefel.calib.graph import WEIGHTED_OPS
from edgefel.errors import EdgefelError

# opset 23's attention as one operator does the work of two products of activations
COUNTED_OPS = (*WEIGHTED_OPS, "Attention")


def node_macs(model: onnx.ModelProto) -> dict[str, int]:
    """Multiply-accumulates of every Conv, Gemm, MatMul and Attention for one image, by node name.

    Conv: output elements times kernel size times input channels per group. Gemm and MatMul: output elements
    times the length of the contracted axis. Raises EdgefelError naming a node whose shapes inference does not
    find at batch 1.
    """
    single = onnx.ModelProto()
    single.CopyFrom(model)
    for value in single.graph.input:
        batch = value.type.tensor_type.shape.dim[0]
        batch.Clear()
        batch.dim_value = 1
    for value in single.graph.output:
        value.type.tensor_type.ClearField("shape")
    del single.graph.value_info[:]
    inferred = onnx.shape_inference.infer_shapes(single, data_prop=True).graph
    shapes: dict[str, list[int]] = {tensor.name: list(tensor.dims) for tensor in inferred.initializer}
    for value in [*inferred.input, *inferred.value_info, *inferred.output]:
        shapes[value.name] = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
    return {node.name: _macs(node, shapes) for node in inferred.node if node.op_type in COUNTED_OPS}


def _macs(node: onnx.NodeProto, shapes: dict[str, list[int]]) -> int:
    known = [shapes.get(name, []) for name in (*node.input[:2], node.output[0])]
    if any(not shape or 0 in shape for shape in known):
        raise EdgefelError(f"node {node.name!r} ({node.op_type}): its shapes {known} are not all known")
    left, right, result = known
    return macs_of_shapes(node, left, right, result)


def macs_of_shapes(
    node: onnx.NodeProto, left: Sequence[int], right: Sequence[int], result: Sequence[int]
) -> int:
    """Of one of COUNTED_OPS with the shapes of its first two inputs and its output."""
    if node.op_type == "Conv":
        return math.prod(result) * math.prod(right[1:])  # [O, I / groups, kH, kW]
    if node.op_type == "Gemm":
        transposed = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
        return math.prod(result) * left[0 if transposed else 1]
    if node.op_type == "MatMul":
        return math.prod(result) * left[-1]
    # q k^T and its product with v, for q of [B, H, M, D] and k of [B, H, K, D]
    return math.prod(left) * right[2] + math.prod(result) * right[2]
