"""How much work a node does: multiply-accumulate operations, counted from the graph's shapes."""

from __future__ import annotations

import math

import onnx

from edgefel.calib.graph import WEIGHTED_OPS


def node_macs(model: onnx.ModelProto) -> dict[str, int]:
    """Multiply-accumulates of every Conv, Gemm and MatMul for one image, by node name.

    Conv: output elements times kernel size times input channels per group. Gemm and MatMul: output elements
    times the length of the contracted axis. Raises ValueError naming a node whose shapes inference does not
    find at batch 1.
    """
    single = onnx.ModelProto()
    single.CopyFrom(model)
    for value in [*single.graph.input, *single.graph.output]:
        batch = value.type.tensor_type.shape.dim[0]
        batch.Clear()
        batch.dim_value = 1
    del single.graph.value_info[:]
    inferred = onnx.shape_inference.infer_shapes(single, strict_mode=True, data_prop=True).graph
    shapes: dict[str, list[int]] = {tensor.name: list(tensor.dims) for tensor in inferred.initializer}
    for value in [*inferred.input, *inferred.value_info, *inferred.output]:
        shapes[value.name] = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
    return {node.name: _macs(node, shapes) for node in inferred.node if node.op_type in WEIGHTED_OPS}


def _macs(node: onnx.NodeProto, shapes: dict[str, list[int]]) -> int:
    known = [shapes.get(name, []) for name in (*node.input[:2], node.output[0])]
    if any(not shape or 0 in shape for shape in known):
        raise ValueError(f"node {node.name!r} ({node.op_type}): its shapes {known} are not all known")
    left, right, result = known
    if node.op_type == "Conv":
        contracted = math.prod(right[1:])  # [O, I / groups, kH, kW]
    elif node.op_type == "Gemm":
        transposed = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
        contracted = left[0] if transposed else left[1]
    else:
        contracted = left[-1]
    return math.prod(result) * contracted
