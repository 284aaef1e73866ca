"""Which group of operators a node of a runtime's graph belongs to, by its operator and the node of the file that it
comes from."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

import onnx
from onnx import NodeProto

from edgefel.bench.profile.names import (
    ACTIVATIONS,
    ATTENTION,
    COPIES,
    GROUPS,
    HEAD,
    LAYOUT,
    NORMALIZATION,
    OTHER,
    PRODUCTS,
)
from edgefel.calib.graph import HEAD_SCOPE, GraphIndex, in_scope, node_macs

# Operators of ONNX, of ONNX Runtime after fusion, and of OpenVINO's CPU plugin. Elementwise ones (Add, Mul, Max,
# OpenVINO's Subgraph) are not here: their group is that of what they come from.
# fmt: off
_OPERATORS: Mapping[str, str] = {
    **dict.fromkeys((
        "Conv", "FusedConv", "NhwcFusedConv", "QLinearConv", "ConvInteger", "Gemm", "FusedGemm", "QGemm", "MatMul",
        "FusedMatMul", "QLinearMatMul", "MatMulInteger", "MatMulIntegerToFloat", "DynamicQuantizeMatMul",
        "MatMulNBits", "Convolution", "GroupConvolution", "FullyConnected", "FullyConnectedCompressed",
        "FullyConnectedQuantized", "FullyConnectedQuantizedLegacy",
    ), PRODUCTS),
    **dict.fromkeys((
        "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "Cast", "Identity", "FakeQuantize", "Convert",
    ), COPIES),
    **dict.fromkeys((
        "PRelu", "PReLU", "Relu", "LeakyRelu", "Gelu", "BiasGelu", "FastGelu", "QuickGelu", "Erf", "Sigmoid",
        "QLinearSigmoid", "QLinearLeakyRelu", "Tanh", "HardSwish", "HSwish", "Swish", "Clip", "Clamp",
    ), ACTIVATIONS),
    **dict.fromkeys((
        "Transpose", "Reshape", "Slice", "StridedSlice", "Concat", "QLinearConcat", "Pad", "Split", "VariadicSplit",
        "Squeeze", "Unsqueeze", "Flatten", "Gather", "Expand", "Broadcast", "Tile", "Shape", "ShapeOf",
        "DepthToSpace", "SpaceToDepth", "ReorderInput", "ReorderOutput", "Reorder",
    ), LAYOUT),
    **dict.fromkeys((
        "Attention", "MultiHeadAttention", "ScaledDotProductAttention", "ScaledDotProductAttentionWithKVCache", "MHA",
    ), ATTENTION),
    **dict.fromkeys((
        "LayerNormalization", "SkipLayerNormalization", "SimplifiedLayerNormalization", "BatchNormalization",
        "BatchNormInference", "InstanceNormalization", "MVN", "RMS", "RMSNorm",
    ), NORMALIZATION),
}
# fmt: on
# of an elementwise kernel made of several nodes, the first of these that one of them has
_PRECEDENCE = (ATTENTION, ACTIVATIONS, NORMALIZATION, COPIES)
# what a scale, a mask or a cast may stand between the first product and its softmax
_BETWEEN = ("Add", "Mul", "Div", "Sub", "Where", "Cast", "QuantizeLinear", "DequantizeLinear")
_GENERATED = re.compile(r"[A-Za-z]*(_token_\d+|_\d+)?")


class Attribution:
    """Groups of nodes of a runtime's graph, by the ONNX file that it was made from.

    Runtimes keep the names of nodes and tensors, or append to them: ONNX Runtime's "stem.0/Conv:0_nchwc" and
    "attention/MatMul/MatMulScaleFusion/", OpenVINO's "stem.0/Conv/WithoutBiases". Raises ValueError for a graph with
    subgraphs.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        index = GraphIndex(model.graph)
        self._model = model
        self._nodes = index.nodes
        self._tensors = {name: node.name for name, node in index.producers.items()}
        self._core = set(_attention_core(index))
        self._spread = dict(_spread(index))

    def group(self, name: str, op: str, parts: Sequence[str] = ()) -> str:
        """One of GROUPS.

        name, op: of the runtime's node. parts: names of the nodes of the file that it was fused from, where the
        runtime tells.
        """
        own = self._origin(name)
        if own is not None and self._of_node(self._nodes[own]) == HEAD:
            return HEAD
        origins = [found for part in (*parts, name) if (found := self._origin(part)) is not None]
        groups = [self._of_node(self._nodes[origin]) for origin in origins]
        known = _OPERATORS.get(op)
        if known == PRODUCTS and own is not None:
            of_own = self._of_node(self._nodes[own])
            # NCHWc: ONNX Runtime computes scales and batch norms by depthwise convolutions
            disguised = (ACTIVATIONS, NORMALIZATION) if op == "Conv" else ()
            return of_own if of_own in (ATTENTION, *disguised) else PRODUCTS
        if known is not None:
            return known
        return next((group for group in _PRECEDENCE if group in groups), OTHER)

    def macs(self) -> dict[str, int]:
        """Multiply-accumulates of one image by group. Raises EdgefelError for shapes that inference does not find."""
        found = dict.fromkeys(GROUPS, 0)
        for name, count in node_macs(self._model).items():
            found[self._of_node(self._nodes[name])] += count
        return found

    def generated(self, name: str) -> bool:
        """Whether the runtime made the name up, so that it tells no module."""
        return _GENERATED.fullmatch(name) is not None

    def _of_node(self, node: NodeProto) -> str:
        """Of a node of the file."""
        if in_scope(node, HEAD_SCOPE):
            return HEAD
        if node.name in self._core:
            return ATTENTION
        if node.name in self._spread:
            return self._spread[node.name]
        if node.op_type == "Sum" and len(node.input) == 1:
            return COPIES
        return _OPERATORS.get(node.op_type, OTHER)

    def _origin(self, name: str) -> str | None:
        """The node of the file whose name, or whose output's, the name begins with."""
        name = name.removeprefix("fused ")
        for end in range(len(name), 0, -1):
            if end == len(name) or name[end] in "/:_":
                start = name[:end]
                if start in self._nodes:
                    return start
                if start in self._tensors:
                    return self._tensors[start]
        return None


def _attention_core(index: GraphIndex) -> Iterable[str]:
    """Products of two activations and the softmax between them, with what stands in between."""
    for node in index.order:
        if node.op_type == "Attention":
            yield node.name
        if node.op_type != "MatMul" or index.is_weighted(node):
            continue
        chain: list[NodeProto] = [node]
        while chain[-1].op_type != "Softmax":
            reader = index.only_reader(chain[-1].output[0])
            if reader is None or reader.op_type not in (*_BETWEEN, "Softmax"):
                break
            chain.append(reader)
        if chain[-1].op_type == "Softmax":
            yield from (one.name for one in chain)
            for reader in index.consumers.get(chain[-1].output[0], []):
                if reader.op_type == "MatMul":
                    yield reader.name


def _spread(index: GraphIndex) -> Iterable[tuple[str, str]]:
    """Nodes that stand for an operator that a runtime lacks, or is slow at, with their group: Max(x, a x) for PReLU, a
    product and a sum for a batch norm, whose output keeps its name."""
    for node in index.order:
        if node.op_type == "Max" and len(node.input) == 2:
            for name, other in (node.input, tuple(reversed(node.input))):
                scaled = index.producer(name, "Mul")
                if scaled is not None and other in scaled.input:
                    yield from ((node.name, ACTIVATIONS), (scaled.name, ACTIVATIONS))
                    break
        if node.op_type == "Add" and "/BatchNormalization" in node.output[0]:
            yield node.name, NORMALIZATION
            if (scaled := index.producer(node.input[0], "Mul")) is not None:
                yield scaled.name, NORMALIZATION
