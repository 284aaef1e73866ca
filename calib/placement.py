"""Where Q/DQ nodes go: a named policy, and what it decides for a graph, node by node."""

from __future__ import annotations

from dataclasses import dataclass

import onnx

from edgefel.calib.graph import GraphIndex, in_scope
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
    """

    name: str
    quantize_conv_outputs: bool
    float_scopes: tuple[str, ...] = ("encoder.gate", "head")


ONNXRUNTIME = PlacementPolicy("onnxruntime", quantize_conv_outputs=True)
TENSORRT = PlacementPolicy("tensorrt", quantize_conv_outputs=False)


@dataclass(frozen=True)
class QuantizedWeight:
    """A constant operand that becomes INT8, with one scale per index of `axis` (the output channels)."""

    tensor: str
    axis: int


@dataclass(frozen=True)
class Placement:
    """A policy's decisions for one graph.

    nodes: names of the nodes that compute in INT8. inputs: activations that get Q/DQ in front of those
    nodes only. outputs: activations that get Q/DQ for all their readers. weights: constants that become
    INT8. kept_float: node -> why a Conv, Gemm or MatMul is not quantized.
    """

    policy: PlacementPolicy
    nodes: tuple[str, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    weights: tuple[QuantizedWeight, ...]
    kept_float: dict[str, str]

    @property
    def activations(self) -> tuple[str, ...]:
        """Every activation that needs a calibrated range, each once."""
        return tuple(dict.fromkeys([*self.inputs, *self.outputs]))


def place(model: onnx.ModelProto, policy: PlacementPolicy) -> Placement:
    """Applies `policy` to a float graph. Raises EdgefelError if nothing would be quantized."""
    index = GraphIndex(model.graph)
    nodes: list[str] = []
    inputs: dict[str, None] = {}
    outputs: dict[str, None] = {}
    weights: dict[str, QuantizedWeight] = {}
    kept: dict[str, str] = {}
    for node in model.graph.node:
        if node.op_type not in ("Conv", "Gemm", "MatMul"):
            continue
        scope = next((scope for scope in policy.float_scopes if in_scope(node, scope)), None)
        if scope is not None:
            kept[node.name] = f"in {scope}, which policy '{policy.name}' leaves in float"
        elif not index.is_weighted(node):
            kept[node.name] = "both operands are activations"
        else:
            nodes.append(node.name)
            inputs[node.input[0]] = None
            weights[node.input[1]] = QuantizedWeight(node.input[1], _channel_axis(node))
            if (
                node.op_type == "Conv"
                and policy.quantize_conv_outputs
                and node.output[0] not in index.outputs
            ):
                outputs[node.output[0]] = None
    if not nodes:
        raise EdgefelError(
            f"policy '{policy.name}': the graph has no Conv, Gemm or MatMul that it would quantize"
        )
    only_inputs = tuple(name for name in inputs if name not in outputs)
    return Placement(policy, tuple(nodes), only_inputs, tuple(outputs), tuple(weights.values()), kept)


def _channel_axis(node: onnx.NodeProto) -> int:
    """Axis of the output channels in the weight: Conv [O, I, kH, kW], MatMul [I, O], Gemm by transB."""
    if node.op_type == "Conv":
        return 0
    if node.op_type == "MatMul":
        return 1
    transposed = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
    return 0 if transposed else 1
