"""Work of one node: multiply-accumulates, and operations on single elements."""

from __future__ import annotations

import math

from onnx import NodeProto

from edgefel.bench.roofline.graph import Network
from edgefel.calib.graph import COUNTED_OPS, attribute, macs_of_shapes

# Elementwise, so that a compiler computes them where their input is made. Each is counted as one operation for an
# element of its result, however many instructions a device takes: a floor must not be too high.
# fmt: off
POINTWISE = frozenset((
    "Abs", "Add", "And", "BatchNormalization", "Cast", "Ceil", "Clip", "Cos", "Div", "Elu", "Equal", "Erf",
    "Exp", "Floor", "Gelu", "Greater", "GreaterOrEqual", "HardSigmoid", "HardSwish", "IsInf", "IsNaN",
    "LeakyRelu", "Less", "LessOrEqual", "Log", "Max", "Mean", "Min", "Mod", "Mul", "Neg", "Not", "Or", "PRelu",
    "Pow", "QuantizeLinear", "Reciprocal", "Relu", "Round", "Selu", "Sigmoid", "Sign", "Sin", "Softplus",
    "Sqrt", "Sub", "Sum", "Tanh", "ThresholdedRelu", "Where", "Xor",
))
# nothing but another way to look at what is there: a compiler reads the source in another order instead
RESHAPES = frozenset(("DequantizeLinear", "Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"))
MOVES = frozenset((
    "Concat", "DepthToSpace", "Expand", "Gather", "Pad", "Resize", "Slice", "SpaceToDepth", "Split", "Tile",
    "Transpose",
))
# fmt: on
# operations for an element of the input: a softmax finds the largest, subtracts, takes exponentials, sums and divides;
# a layer norm sums, subtracts, squares, sums, scales, multiplies and adds
_PER_INPUT = {"Softmax": 5, "LogSoftmax": 5, "LayerNormalization": 7, "InstanceNormalization": 7}
_UNCOUNTED = {"Cast", "QuantizeLinear", *RESHAPES, *MOVES}


def macs(node: NodeProto, network: Network) -> int:
    """Multiply-accumulates at the network's batch, as `edgefel.calib.graph` counts them; 0 for other nodes."""
    if node.op_type not in COUNTED_OPS:
        return 0
    left, right = (network.tensor(name).shape for name in node.input[:2])
    return macs_of_shapes(node, left, right, network.tensor(node.output[0]).shape)


def operations(node: NodeProto, network: Network) -> int:
    """Operations on single elements, beside the multiply-accumulates."""
    if node.op_type in COUNTED_OPS or node.op_type in _UNCOUNTED:
        return 0
    result = network.tensor(node.output[0]).elements
    if node.op_type in POINTWISE:
        return result * max(1, len(node.input) - 1 if node.op_type in ("Sum", "Max", "Min") else 1)
    if node.op_type in ("MaxPool", "AveragePool"):
        return result * math.prod(attribute(node, "kernel_shape", (1,)))
    return network.tensor(node.input[0]).elements * _PER_INPUT.get(node.op_type, 1)
