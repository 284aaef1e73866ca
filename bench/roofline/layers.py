"""The layers of a network as a compiler forms them: what each computes, reads and writes."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from onnx import NodeProto

from edgefel.bench.roofline.graph import TYPES, Network
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


@dataclass(frozen=True)
class LayerWork:
    """Nodes that are computed together.

    name: of the first node. op: their operators, "Conv+PRelu". matrix: operations (two per
    multiply-accumulate) of convolutions and products by the type of their operands ("fp32", "fp16", "int8").
    vector: those of everything else. weight_bytes, read_bytes, written_bytes: constants, activations of other
    layers, and activations that other layers or the caller read.
    """

    name: str
    op: str
    matrix: Mapping[str, int]
    vector: Mapping[str, int]
    weight_bytes: int
    read_bytes: int
    written_bytes: int

    @property
    def macs(self) -> int:
        """Multiply-accumulates."""
        return sum(self.matrix.values()) // 2

    @property
    def operations(self) -> int:
        """All operations."""
        return sum(self.matrix.values()) + sum(self.vector.values())

    @property
    def bytes(self) -> int:
        """All bytes that move."""
        return self.weight_bytes + self.read_bytes + self.written_bytes

    @property
    def intensity(self) -> float:
        """Operations for a byte; 0 where nothing moves."""
        return self.operations / self.bytes if self.bytes else 0.0

    @property
    def precision(self) -> str:
        """The type that most of it is computed in."""
        work = self.matrix or self.vector
        return max(work, key=lambda name: work[name]) if work else "none"


@dataclass(frozen=True)
class NetworkWork:
    """Work of running a network once. end_bytes: of the input and the outputs. constants: numbers in the file."""

    fused: tuple[LayerWork, ...]
    unfused: tuple[LayerWork, ...]
    end_bytes: int
    constants: int


@dataclass(eq=False)
class _Group:
    order: int
    nodes: list[NodeProto] = field(default_factory=list)


def count_work(network: Network) -> NetworkWork:
    """Counts all layers. Raises EdgefelError for a tensor whose shape is not known."""
    return NetworkWork(
        fused_layers(network),
        unfused_layers(network),
        sum(network.tensor(name).bytes for name in (*network.inputs, *network.outputs)),
        sum(network.tensor(name).elements for name in network.constants),
    )


def fused_layers(network: Network) -> tuple[LayerWork, ...]:
    """Layers of a compiler with all common fusions: the least data moved between kernels.

    An elementwise node joins the layer that makes the last of its inputs. Moving data (Transpose, Slice,
    Concat...) is free: the reader reads from the source. q·k, its softmax and the product with v are one
    layer, whose scores stay inside, if nothing else reads them.
    """
    return _Layers(network, fuse=True).layers()


def unfused_layers(network: Network) -> tuple[LayerWork, ...]:
    """One layer for every node, through memory; only Q/DQ nodes and casts join others, and reshaping is free."""
    return _Layers(network, fuse=False).layers()


class _Layers:
    """Groups the nodes in one pass in graph order, which is topological."""

    def __init__(self, network: Network, fuse: bool) -> None:
        self.network = network
        self.fuse = fuse
        self.views = RESHAPES | MOVES if fuse else RESHAPES
        self.joining = POINTWISE if fuse else frozenset({"QuantizeLinear", "Cast"})
        self.computed = [
            node for node in network.nodes if not (self._is_view(node) or self._only_counts(node))
        ]
        self.read = {id(node): self._read(node) for node in self.computed}
        self.readers: dict[str, list[NodeProto]] = {}
        for node in self.computed:
            for name in self.read[id(node)]:
                self.readers.setdefault(name, []).append(node)
        self.returned = set(self._sources(network.outputs))
        self.orders = itertools.count()
        self.groups: list[_Group] = []
        self.group_of: dict[str, _Group] = {}

    def layers(self) -> tuple[LayerWork, ...]:
        for node in self.computed:
            group = self._find_group(node)
            if group is None:
                group = _Group(next(self.orders))
                self.groups.append(group)
            group.nodes.append(node)
            self.group_of.update(dict.fromkeys(node.output, group))
        return tuple(map(self._layer, sorted(self.groups, key=lambda group: group.order)))

    def _find_group(self, node: NodeProto) -> _Group | None:
        makers = [self.group_of[name] for name in self.read[id(node)] if name in self.group_of]
        if not makers:
            return None
        latest = max(makers, key=lambda group: group.order)
        if node.op_type in self.joining:
            return latest
        if not self.fuse:
            return None
        if node.op_type == "Softmax" and self._is_product(latest.nodes[0]) and self._is_alone(latest, node):
            return latest
        if self._is_product(node):
            scores = self.group_of.get(next(iter(self._sources(node.input[:1])), ""))
            if scores is not None and _attends(scores) and self._is_alone(scores, node):
                # v may have been made after the scores: the layer now comes after both
                scores.order = next(self.orders)
                return scores
        return None

    def _is_product(self, node: NodeProto) -> bool:
        """Whether it is a MatMul of two activations."""
        return node.op_type == "MatMul" and not any(
            set(self._sources([name])) <= self.network.constants for name in node.input
        )

    def _is_alone(self, group: _Group, node: NodeProto) -> bool:
        """Whether only the group itself and `node` read what the group makes."""
        own = {id(member) for member in group.nodes} | {id(node)}
        made = [output for member in group.nodes for output in member.output]
        return not self.returned.intersection(made) and all(
            id(reader) in own for name in made for reader in self.readers.get(name, ())
        )

    def _is_view(self, node: NodeProto) -> bool:
        if node.op_type == "Cast":
            made, source = (self.network.tensor(name) for name in (node.output[0], node.input[0]))
            return made.item_bytes >= source.item_bytes
        return node.op_type in self.views

    def _only_counts(self, node: NodeProto) -> bool:
        """Whether it computes shapes or indices, which cost nothing."""
        return node.op_type != "QuantizeLinear" and not any(
            self.network.tensor(name).kind in TYPES for name in node.output if name
        )

    def _read(self, node: NodeProto) -> dict[str, int]:
        """Tensor in memory -> how many of its elements the node reads; scales of Q/DQ are part of the kernel."""
        if node.op_type == "QuantizeLinear":
            return self._sources(node.input[:1])
        return self._sources(name for name in node.input if name)

    def _sources(self, names: Iterable[str]) -> dict[str, int]:
        """Tensors in memory that others are views of -> how many of their elements are seen, at most all."""
        seen: Counter[str] = Counter()
        for name in dict.fromkeys(names):
            seen.update(self._seen(name))
        return {name: min(count, self.network.tensor(name).elements) for name, count in seen.items()}

    def _seen(self, name: str) -> dict[str, int]:
        node = self.network.producers.get(name)
        if node is None or not self._is_view(node):
            return {name: self.network.tensor(name).elements}
        limit = self.network.tensor(name).elements
        inputs = node.input if node.op_type == "Concat" else node.input[:1]
        return {source: min(count, limit) for source, count in self._sources(inputs).items()}

    def _layer(self, group: _Group) -> LayerWork:
        made = {output for node in group.nodes for output in node.output if output}
        own = {id(node) for node in group.nodes}
        seen: Counter[str] = Counter()
        matrix: Counter[str] = Counter()
        vector: Counter[str] = Counter()
        for node in group.nodes:
            seen.update({name: count for name, count in self.read[id(node)].items() if name not in made})
            kind = self._type(node)
            matrix[kind] += 2 * _macs(node, self.network)
            vector["fp16" if kind == "int8" else kind] += _operations(node, self.network)
        sizes = {
            name: min(count, tensor.elements) * tensor.item_bytes  # a layer reads every element once at most
            for name, count in seen.items()
            if (tensor := self.network.tensor(name)).kind in TYPES
        }
        written = [
            self.network.tensor(name)
            for name in made
            if name in self.returned or any(id(reader) not in own for reader in self.readers.get(name, ()))
        ]
        return LayerWork(
            name=group.nodes[0].name,
            op="+".join(_visible(group.nodes)),
            matrix={name: count for name, count in matrix.items() if count},
            vector={name: count for name, count in vector.items() if count},
            weight_bytes=sum(size for name, size in sizes.items() if name in self.network.constants),
            read_bytes=sum(size for name, size in sizes.items() if name not in self.network.constants),
            written_bytes=sum(tensor.bytes for tensor in written if tensor.kind in TYPES),
        )

    def _type(self, node: NodeProto) -> str:
        """The type that a node computes in: INT8 only if all of its operands are."""
        names = node.input[:2] if _macs(node, self.network) else node.input
        found = {kind for name in names if name and (kind := self.network.type_of(name)) is not None}
        if found == {"int8"}:
            return "int8"
        # what comes from a DequantizeLinear has the float type that it was given there
        floats = {TYPES.get(self.network.tensor(name).kind) for name in names if name}
        return "fp16" if "fp16" in floats else "fp32"


def _visible(nodes: Sequence[NodeProto]) -> list[str]:
    """Operators; those that only change a type are named only if there are no others."""
    ops = [str(node.op_type) for node in nodes]
    return [op for op in ops if op not in ("QuantizeLinear", "Cast")] or ops


def _attends(group: _Group) -> bool:
    """Whether it holds scores and their softmax, and no second product yet."""
    ops = [node.op_type for node in group.nodes]
    return ops.count("MatMul") == 1 and "Softmax" in ops


def _macs(node: NodeProto, network: Network) -> int:
    """Multiply-accumulates at the network's batch, as `edgefel.calib.graph` counts them; 0 for other nodes."""
    if node.op_type not in COUNTED_OPS:
        return 0
    left, right = (network.tensor(name).shape for name in node.input[:2])
    return macs_of_shapes(node, left, right, network.tensor(node.output[0]).shape)


def _operations(node: NodeProto, network: Network) -> int:
    """Operations on single elements, beside the multiply-accumulates."""
    if node.op_type in COUNTED_OPS or node.op_type in _UNCOUNTED:
        return 0
    result = network.tensor(node.output[0]).elements
    if node.op_type in POINTWISE:
        return result * max(1, len(node.input) - 1 if node.op_type in ("Sum", "Max", "Min") else 1)
    if node.op_type in ("MaxPool", "AveragePool"):
        return result * math.prod(attribute(node, "kernel_shape", (1,)))
    return network.tensor(node.input[0]).elements * _PER_INPUT.get(node.op_type, 1)
