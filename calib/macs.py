"""Multiply-accumulate operations of a node, counted from the graph's shapes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import onnx

from edgefel.calib.graph import WEIGHTED_OPS, Shape, attribute, infer, shapes_of
from edgefel.errors import EdgefelError

# opset 23's attention as one operator does the work of two products of activations
COUNTED_OPS = (*WEIGHTED_OPS, "Attention")


def node_macs(model: onnx.ModelProto) -> dict[str, int]:
    """Multiply-accumulates of every Conv, Gemm, MatMul and Attention for one image, by node name.

    Conv: output elements times kernel size times input channels per group. Gemm and MatMul: output elements
    times the length of the contracted axis. Raises EdgefelError naming a node whose shapes inference does not
    find at batch 1.
    """
    shapes = shapes_of(infer(model, batch=1))
    return {node.name: _macs(node, shapes) for node in model.graph.node if node.op_type in COUNTED_OPS}


def _macs(node: onnx.NodeProto, shapes: Mapping[str, Shape]) -> int:
    known = [[side or 0 for side in shapes.get(name, [])] for name in (*node.input[:2], node.output[0])]
    if any(not shape or 0 in shape for shape in known):
        raise EdgefelError(f"node {node.name!r} ({node.op_type}): its shapes {known} are not all known")
    return macs_of_shapes(node, *known)


def macs_of_shapes(
    node: onnx.NodeProto, left: Sequence[int], right: Sequence[int], result: Sequence[int]
) -> int:
    """Of one of COUNTED_OPS with the shapes of its first two inputs and its output."""
    if node.op_type == "Conv":
        return math.prod(result) * math.prod(right[1:])  # [O, I / groups, kH, kW]
    if node.op_type == "Gemm":
        return math.prod(result) * left[0 if attribute(node, "transA", 0) else 1]
    if node.op_type == "MatMul":
        return math.prod(result) * left[-1]
    # q k^T and its product with v, for q of [B, H, M, D] and k of [B, H, K, D]
    return math.prod(left) * right[2] + math.prod(result) * right[2]
