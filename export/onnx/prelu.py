"""PReLU in operators that ONNX Runtime computes with vector instructions."""

from __future__ import annotations

import onnx
from onnx import NodeProto, helper, numpy_helper

from edgefel.calib.graph import GraphIndex, node_scope


def spread_prelu(model: onnx.ModelProto) -> tuple[onnx.ModelProto, int]:
    """Writes PReLU(x, a) as Max(x, a x) where no slope exceeds 1; returns the copy and how many were written so.

    Exact: for x >= 0 and a <= 1, a x <= x, and for x < 0, a x >= x; the product is rounded as PReLU rounds it
    (a negative zero may become a positive one). A PReLU with a slope above 1, or one that is not constant,
    stays. ONNX Runtime's PReLU on the CPU works element by element;
    Mul and Max are vectorised. TensorRT has a layer for PReLU, so its files keep it. Tensor names do not change.
    """
    spread = onnx.ModelProto()
    spread.CopyFrom(model)
    index = GraphIndex(spread.graph)
    nodes: list[NodeProto] = []
    count = 0
    for node in spread.graph.node:
        if node.op_type == "PRelu" and _slopes_up_to_one(index, node):
            nodes.extend(_product_and_maximum(node))
            count += 1
        else:
            nodes.append(node)
    del spread.graph.node[:]
    spread.graph.node.extend(nodes)
    return spread, count


def _slopes_up_to_one(index: GraphIndex, node: NodeProto) -> bool:
    slopes = index.initializers.get(node.input[1])
    return slopes is not None and bool((numpy_helper.to_array(slopes) <= 1.0).all())


def _product_and_maximum(node: NodeProto) -> tuple[NodeProto, NodeProto]:
    x, slopes = node.input
    scope = node_scope(node)
    scaled = f"{scope}/Mul:0"
    return (
        helper.make_node("Mul", [x, slopes], [scaled], f"{scope}/Mul"),
        helper.make_node("Max", [x, scaled], [node.output[0]], f"{scope}/Max"),
    )
