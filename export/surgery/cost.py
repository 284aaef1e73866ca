"""What a graph costs on paper: multiply-accumulates, and bytes of its input."""

from __future__ import annotations

from math import prod

import onnx
from onnx import NodeProto, helper

from edgefel.errors import EdgefelError
from edgefel.export.surgery.rewrite import Rewrite, attribute

PRODUCTS = ("Conv", "Gemm", "MatMul", "Attention")


def graph_macs(model: onnx.ModelProto) -> int:
    """Multiply-accumulates of convolutions and matrix products for one image.

    Raises EdgefelError naming a product whose shape inference does not know.
    """
    single = onnx.ModelProto()
    single.CopyFrom(model)
    for value in single.graph.input:
        value.type.tensor_type.shape.dim[0].dim_value = 1
    for value in single.graph.output:
        value.type.tensor_type.ClearField("shape")
    rewrite = Rewrite(single)
    shapes = rewrite.shapes()
    return sum(_macs(node, shapes) for node in rewrite.nodes if node.op_type in PRODUCTS)


def input_bytes(model: onnx.ModelProto) -> int:
    """Bytes of one image as the graph takes it."""
    tensor_type = model.graph.input[0].type.tensor_type
    item = helper.tensor_dtype_to_np_dtype(tensor_type.elem_type).itemsize
    return int(item * prod(dim.dim_value for dim in tensor_type.shape.dim[1:]))


def _macs(node: NodeProto, shapes: dict[str, list[int | None]]) -> int:
    def sides(tensor: str) -> list[int]:
        known = shapes.get(tensor)
        if known is None or None in known:
            raise EdgefelError(f"node '{node.name}' ({node.op_type}): the shape of {tensor!r} is not known")
        return [side for side in known if side is not None]

    result = prod(sides(node.output[0]))
    if node.op_type == "Conv":
        return result * prod(sides(node.input[1])[1:])
    if node.op_type == "Gemm":
        return result * sides(node.input[0])[0 if attribute(node, "transA", 0) else 1]
    if node.op_type == "MatMul":
        return result * sides(node.input[0])[-1]
    # q k^T and its product with v, for q of [B, H, M, D]
    query, key = sides(node.input[0]), sides(node.input[1])
    return prod(query) * key[2] + result * key[2]
