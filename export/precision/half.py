"""FP16 by graph types: which nodes compute in half precision, and which stay in FP32.

The conversion is edgefel's own rather than `onnxruntime.transformers.float16`: that one passes every edge
between two FP32 nodes through FP16 (Cast, Cast), so a sum of squares overflows although its node is listed
as FP32, and it rounds constants that FP32 and FP16 nodes share.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from edgefel.calib.graph import HEAD_SCOPE, GraphIndex, equal_constants, in_scope, set_nodes

HALF_MAX = float(np.finfo(np.float16).max)
HALF_TINY = 2.0**-24  # the smallest positive FP16 number
# operators whose inputs at these positions are FP32 by definition
_ALWAYS_FLOAT_INPUTS = {"Resize": (1, 2)}
_QDQ = ("QuantizeLinear", "DequantizeLinear")


def float32_nodes(model: onnx.ModelProto, anchors: npt.NDArray[np.float32] | None) -> tuple[str, ...]:
    """Names of the nodes that stay FP32 in a reduced-precision graph: everything in the reliability head
    that depends on the anchors or on a softmax, and what scores tokens for a TopK.

    The anchor distances sum 64 to 768 squares, which overflows FP16 easily. The probability algebra after
    them clamps at 1e-30 before a logarithm, which FP16 would turn into log(0). The head's linear layers are
    not among them. Scores are sums over features or heads: rounded to FP16, those of hundreds of features
    would tie by the dozen, and ties would decide which tokens are dropped.

    `anchors` is the model's [C, K, E] parameter, or None where there is no such branch; it is recognised in
    the graph by its values, whatever constant folding has made of its shape.

    Raises RuntimeError if anchors are given and no node of the head reads them: then the FP32 rule would
    silently protect nothing.
    """
    index = GraphIndex(model.graph)
    held: set[str] = set()
    if anchors is not None:
        held = equal_constants(index, anchors)
        if not any(name in index.consumers for name in held):
            raise RuntimeError("the exported graph holds no constant equal to the model's anchors")
    kept: list[str] = []
    tainted: set[str] = set()
    for node in model.graph.node:
        if not in_scope(node, HEAD_SCOPE):
            continue
        if node.op_type == "Softmax" or any(name in held or name in tainted for name in node.input):
            kept.append(node.name)
            tainted.update(node.output)
            # a new axis is no arithmetic: FP16 values would only be cast behind it instead of before
            spread = (index.producer(name, "Unsqueeze") for name in node.input)
            kept += [made.name for made in spread if made is not None and in_scope(made, HEAD_SCOPE)]
    scoring = _scoring_nodes(index)
    return tuple(node.name for node in model.graph.node if node.name in scoring or node.name in kept)


def _scoring_nodes(index: GraphIndex) -> set[str]:
    """TopK by float scores, and the sums of absolute or other values that these are."""
    found: set[str] = set()
    for node in index.order:
        reader: NodeProto | None = node
        if node.op_type != "TopK" or index.producers[node.input[0]].op_type != "ReduceSum":
            continue
        while reader is not None and reader.op_type in ("TopK", "ReduceSum", "Abs"):
            found.add(reader.name)
            reader = index.producers.get(reader.input[0])
    return found


def to_half(model: onnx.ModelProto, keep_float32: Sequence[str]) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """A copy of `model` that computes in FP16 except in the nodes named, and the constants clamped to FP16's range.

    Inputs and outputs stay FP32. A Cast stands exactly where a tensor crosses between the two types; FP32 nodes that
    follow each other exchange FP32. Q/DQ nodes get FP16 scales (opset 19). Constants are clamped to +-65504; a scale,
    and a single non-zero number (an epsilon), too small for FP16 becomes the smallest one rather than 0.
    """
    half = copy.deepcopy(model)
    converter = _HalfConverter(half, frozenset(keep_float32))
    converter.run()
    return half, tuple(sorted(converter.clamped))


def half_constant(
    values: npt.NDArray[np.float32], *, scales: bool = False
) -> tuple[npt.NDArray[np.float16], bool]:
    """The FP16 values of an FP32 constant, and whether finite ones had to be clamped; infinities stay.

    scales: of Q/DQ nodes, of which TensorRT refuses 0: none becomes one.
    """
    finite = np.isfinite(values)
    clamped = bool((np.abs(values[finite]) > HALF_MAX).any())
    limited = np.where(finite, np.clip(values, -HALF_MAX, HALF_MAX), values)
    result = limited.astype(np.float16)
    if scales or values.size == 1:
        result = np.where((values != 0) & (result == 0), np.copysign(HALF_TINY, values), result)
    return result.astype(np.float16), clamped


class _HalfConverter:
    """One pass over the nodes in topological order; `types` holds each float tensor's type so far."""

    def __init__(self, model: onnx.ModelProto, keep: frozenset[str]) -> None:
        self.graph = model.graph
        self.keep = keep
        unknown = keep - {node.name for node in self.graph.node}
        if unknown:
            raise ValueError(f"keep_float32: the graph has no nodes {sorted(unknown)}")
        index = GraphIndex(self.graph)
        self.constants = {
            name: tensor
            for name, tensor in index.initializers.items()
            if tensor.data_type == TensorProto.FLOAT
        }
        self.float_tensors = _float_tensors(model)
        self.types = {value.name: TensorProto.FLOAT for value in self.graph.input}
        self.casts: dict[tuple[str, int], str] = {}
        self.halves: dict[str, TensorProto] = {}
        self.clamped: set[str] = set()
        self.nodes: list[NodeProto] = []

    def run(self) -> None:
        outputs = {value.name for value in self.graph.output}
        for node in self.graph.node:
            kind = TensorProto.FLOAT if node.name in self.keep else TensorProto.FLOAT16
            self._convert_inputs(node, kind)
            if kind == TensorProto.FLOAT16:
                _convert_attributes(node)
            self.nodes.append(node)
            for i, name in enumerate(node.output):
                if name not in self.float_tensors:
                    continue
                if name in outputs and kind == TensorProto.FLOAT16:
                    self._split_output(node, i)
                else:
                    self.types[name] = kind
        set_nodes(self.graph, self.nodes, self.halves.values())

    def _convert_inputs(self, node: NodeProto, kind: int) -> None:
        fixed = _ALWAYS_FLOAT_INPUTS.get(node.op_type, ())
        for i, name in enumerate(node.input):
            wanted = TensorProto.FLOAT if i in fixed else kind
            if name in self.constants:
                if wanted == TensorProto.FLOAT16:
                    node.input[i] = self._half(name, scales=i == 1 and node.op_type in _QDQ)
            elif name in self.types and self.types[name] != wanted:
                node.input[i] = self._cast(name, wanted)

    def _half(self, name: str, *, scales: bool) -> str:
        if name not in self.halves:
            values, clamped = half_constant(numpy_helper.to_array(self.constants[name]), scales=scales)
            self.halves[name] = numpy_helper.from_array(values, f"{name}.fp16")
            if clamped:
                self.clamped.add(name)
        return self.halves[name].name

    def _cast(self, name: str, wanted: int) -> str:
        if (name, wanted) not in self.casts:
            suffix = "fp16" if wanted == TensorProto.FLOAT16 else "fp32"
            result = f"{name}.{suffix}"
            self.nodes.append(helper.make_node("Cast", [name], [result], f"{result}/Cast", to=wanted))
            self.casts[name, wanted] = result
        return self.casts[name, wanted]

    def _split_output(self, node: NodeProto, i: int) -> None:
        """An FP16 node makes a graph output: its value gets a name of its own, the output is the cast."""
        name = node.output[i]
        node.output[i] = f"{name}.fp16"
        self.nodes.append(
            helper.make_node("Cast", [node.output[i]], [name], f"{name}/Cast", to=TensorProto.FLOAT)
        )
        self.types[name] = TensorProto.FLOAT
        self.casts[name, TensorProto.FLOAT16] = node.output[i]


def _float_tensors(model: onnx.ModelProto) -> set[str]:
    """Names of the FP32 tensors that nodes make, by type inference."""
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    known = {
        value.name: value.type.tensor_type.elem_type for value in [*inferred.value_info, *inferred.output]
    }
    for node in model.graph.node:
        for name in node.output:
            if name and known.get(name, TensorProto.UNDEFINED) == TensorProto.UNDEFINED:
                raise ValueError(f"node {node.name!r} ({node.op_type}): the type of its output is unknown")
    return {name for name, kind in known.items() if kind == TensorProto.FLOAT}


def _convert_attributes(node: NodeProto) -> None:
    for attribute in node.attribute:
        if node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT:
            attribute.i = TensorProto.FLOAT16
        if attribute.type == onnx.AttributeProto.TENSOR and attribute.t.data_type == TensorProto.FLOAT:
            values, _ = half_constant(numpy_helper.to_array(attribute.t))
            attribute.t.CopyFrom(numpy_helper.from_array(values, attribute.t.name))
