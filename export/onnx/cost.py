"""What a graph costs on paper: multiply-accumulates, and bytes of its input."""

from __future__ import annotations

from math import prod

import onnx
from onnx import helper

from edgefel.calib.macs import node_macs


def graph_macs(model: onnx.ModelProto) -> int:
    """Multiply-accumulates of convolutions and matrix products for one image.

    Raises EdgefelError naming a product whose shape inference does not know.
    """
    return sum(node_macs(model).values())


def input_bytes(model: onnx.ModelProto) -> int:
    """Bytes of one image as the graph takes it."""
    tensor_type = model.graph.input[0].type.tensor_type
    item = helper.tensor_dtype_to_np_dtype(tensor_type.elem_type).itemsize
    return int(item * prod(dim.dim_value for dim in tensor_type.shape.dim[1:]))
