"""Placement of Q/DQ nodes: a named policy, and its decisions for a graph, node by node."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import onnx

from edgefel.calib.graph import WEIGHTED_OPS, GraphIndex, attribute, in_scope
from edgefel.errors import EdgefelError


@dataclass(frozen=True)
class PlacementPolicy:
    """What is quantized: the data input and the constant weight of Conv, Gemm and MatMul nodes.

    A MatMul of two activations (q·k and attention·v), Softmax, LayerNorm and every other operator stay in
    float: in INT8 they are usually no faster and cost accuracy.

    float_scopes: modules left in float altogether. By default the sigmoid gate and the head: INT8 there
        compresses confidences.
    quantize_conv_outputs: also put Q/DQ behind every quantized Conv. ONNX Runtime fuses only a Conv that
        lies between a DQ and a Q into an integer kernel; TensorRT picks the output type itself.
    quantize_residuals: where the result of a quantized Conv is added to a skip connection and read by nothing
        else, also put Q/DQ on the skip. TensorRT then computes Conv and Add in one INT8 kernel (TensorRT
        documentation, "Working with Quantized Types": Q/DQ placement recommendations).
    unsigned: activations are uint8, with the zero point of their range where one is known, see `quantize`. ONNX
        Runtime's fast integer kernels for x86 want unsigned ones, and turn signed ones into these only behind a
        QuantizeLinear with a single reader. TensorRT accepts int8 with the zero point 0 and nothing else.
    """

    name: str
    quantize_conv_outputs: bool = False
    quantize_residuals: bool = False
    unsigned: bool = False
    float_scopes: tuple[str, ...] = ("encoder.gate", "head")


ONNXRUNTIME = PlacementPolicy("onnxruntime", quantize_conv_outputs=True, unsigned=True)
TENSORRT = PlacementPolicy("tensorrt", quantize_residuals=True)


@dataclass(frozen=True)
class Placement:
    """A policy's decisions for one graph.

    nodes: names of the Conv, Gemm and MatMul nodes that compute in INT8. residuals: Add node -> the skip
    connection that it reads in INT8. inputs: activations that get Q/DQ in front of those nodes only. outputs:
    activations that get Q/DQ for all their readers. weights: constants that become INT8 -> the axis of the output
    channels, each with a scale of its own. kept_float: node -> why a Conv, Gemm or MatMul is not quantized.
    """

    policy: PlacementPolicy
    nodes: tuple[str, ...]
    residuals: dict[str, str]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    weights: dict[str, int]
    kept_float: dict[str, str]

    @property
    def activations(self) -> tuple[str, ...]:
        """Every activation that needs a calibrated range, each once."""
        return tuple(dict.fromkeys([*self.inputs, *self.outputs]))


def place(
    model: onnx.ModelProto, policy: PlacementPolicy, keep_float: Mapping[str, str] | None = None
) -> Placement:
    """Applies `policy` to a float graph.

    keep_float: node -> why it is to stay in float although the policy would quantize it. Raises EdgefelError
    if nothing would be quantized, and KeyError for a name in `keep_float` that the policy does not quantize.
    """
    index = GraphIndex(model.graph)
    nodes, kept = _choose_nodes(index, policy)
    for name, reason in (keep_float or {}).items():
        del nodes[name]
        kept[name] = reason
    if not nodes:
        raise EdgefelError(
            f"policy '{policy.name}': the graph has no Conv, Gemm or MatMul that it would quantize"
        )
    residuals = _residuals(index, nodes) if policy.quantize_residuals else {}
    outputs = {
        node.output[0]: None
        for node in nodes.values()
        if policy.quantize_conv_outputs and node.op_type == "Conv" and node.output[0] not in index.outputs
    }
    read = dict.fromkeys([*(node.input[0] for node in nodes.values()), *residuals.values()])
    return Placement(
        policy=policy,
        nodes=tuple(nodes),
        residuals=residuals,
        inputs=tuple(name for name in read if name not in outputs),
        outputs=tuple(outputs),
        weights={node.input[1]: _channel_axis(node) for node in nodes.values()},
        kept_float=kept,
    )


def _choose_nodes(
    index: GraphIndex, policy: PlacementPolicy
) -> tuple[dict[str, onnx.NodeProto], dict[str, str]]:
    """The nodes that become INT8, in graph order, and why the other weighted ones do not."""
    nodes: dict[str, onnx.NodeProto] = {}
    kept: dict[str, str] = {}
    for node in index.graph.node:
        if node.op_type not in WEIGHTED_OPS:
            continue
        scope = next((scope for scope in policy.float_scopes if in_scope(node, scope)), None)
        if scope is not None:
            kept[node.name] = f"in {scope}, which policy '{policy.name}' leaves in float"
        elif not index.is_weighted(node):
            kept[node.name] = "both operands are activations"
        else:
            nodes[node.name] = node
    return nodes, kept


def _residuals(index: GraphIndex, nodes: Mapping[str, onnx.NodeProto]) -> dict[str, str]:
    """Add -> its skip connection, for sums that TensorRT computes inside the Conv in front of them.

    Of two such Convs (a projected skip), the later one takes the sum, and the other's result is the skip.
    """
    order = {node.name: position for position, node in enumerate(index.graph.node)}
    found: dict[str, str] = {}
    for add in index.graph.node:
        if add.op_type != "Add" or any(name in index.initializers for name in add.input):
            continue
        fusable = [
            name
            for name in add.input
            if (conv := index.producers.get(name)) is not None
            and conv.op_type == "Conv"
            and conv.name in nodes
            and len(index.consumers[name]) == 1
        ]
        if not fusable or add.input[0] == add.input[1]:
            continue
        last = max(fusable, key=lambda name: order[index.producers[name].name])
        found[add.name] = add.input[1] if last == add.input[0] else add.input[0]
    return found


def _channel_axis(node: onnx.NodeProto) -> int:
    """Axis of the output channels in the weight: Conv [O, I, kH, kW], MatMul [I, O], Gemm by transB."""
    if node.op_type == "Conv":
        return 0
    if node.op_type == "MatMul":
        return 1
    return 0 if attribute(node, "transB", 0) else 1
