"""Look-ups over an ONNX graph: who makes a tensor, who reads it, which values are constant, what a node costs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper

from edgefel.errors import EdgefelError

WEIGHTED_OPS = ("Conv", "Gemm", "MatMul")
# opset 23's attention as one operator does the work of two products of activations
COUNTED_OPS = (*WEIGHTED_OPS, "Attention")
SMALL = 64  # elements; axes, targets of Reshape and the like are below it

HEAD_SCOPE = "head"  # the module behind the encoder

Array = npt.NDArray[Any]
Shape = list[int | None]


class GraphIndex:
    """An index of a flat graph (no subgraphs); build a new one after changing the graph.

    order: the nodes in topological order. producers: tensor -> the node that makes it. consumers: tensor -> the nodes
    that read it, in order, once each. initializers: tensor -> its constant value. Raises ValueError for a subgraph.
    """

    def __init__(self, graph: GraphProto) -> None:
        self.graph = graph
        self.refresh()

    def refresh(self) -> None:
        """Indexes the graph as it is now."""
        self.initializers: dict[str, TensorProto] = {tensor.name: tensor for tensor in self.graph.initializer}
        self._index(self.graph.node)

    def _index(self, nodes: Iterable[NodeProto]) -> None:
        self.order = list(nodes)
        self.producers: dict[str, NodeProto] = {}
        self.consumers: dict[str, list[NodeProto]] = {}
        for node in self.order:
            if any(a.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS) for a in node.attribute):
                raise ValueError(
                    f"node {node.name!r} ({node.op_type}) has a subgraph; the graph must be flat"
                )
            self.producers |= {output: node for output in node.output if output}
            for name in dict.fromkeys(node.input):
                if name:
                    self.consumers.setdefault(name, []).append(node)

    @property
    def nodes(self) -> dict[str, NodeProto]:
        """Nodes by name."""
        return {node.name: node for node in self.order}

    @property
    def outputs(self) -> set[str]:
        """Names of the graph's outputs."""
        return {value.name for value in self.graph.output}

    def constant(self, tensor: str) -> Array | None:
        """The value of an initializer, None for anything else."""
        found = self.initializers.get(tensor)
        return None if found is None else numpy_helper.to_array(found)

    def producer(self, tensor: str, *op_types: str) -> NodeProto | None:
        """The node that makes `tensor` if it is of one of these types."""
        node = self.producers.get(tensor)
        return node if node is not None and node.op_type in op_types else None

    def only_reader(self, tensor: str) -> NodeProto | None:
        """The one node that reads `tensor`; None if several do, or it is an output of the graph."""
        readers = self.consumers.get(tensor, [])
        return readers[0] if len(readers) == 1 and tensor not in self.outputs else None

    def is_weighted(self, node: NodeProto) -> bool:
        """Whether `node` is a Conv, Gemm or MatMul whose second operand is a constant."""
        return node.op_type in WEIGHTED_OPS and node.input[1] in self.initializers


def attribute(node: NodeProto, name: str, default: Any = None) -> Any:
    """The value of a node's attribute, or `default`."""
    for entry in node.attribute:
        if entry.name == name:
            return helper.get_attribute_value(entry)
    return default


def node_scope(node: NodeProto) -> str:
    """The module that a node comes from, as the exporter names nodes: `scope/Op` -> `scope`."""
    return node.name.rpartition("/")[0]


def in_scope(node: NodeProto, scope: str) -> bool:
    """Whether the node comes from the module `scope` or one inside it."""
    own = node_scope(node)
    return own == scope or own.startswith(scope + ".")


def equal_constants(index: GraphIndex, values: npt.NDArray[np.float32]) -> set[str]:
    """Names of the FP32 constants that hold these values, in any shape."""
    wanted = np.ascontiguousarray(values, dtype=np.float32).tobytes()
    return {
        name
        for name, tensor in index.initializers.items()
        if tensor.data_type == TensorProto.FLOAT
        and int(np.prod(tensor.dims)) * 4 == len(wanted)
        and numpy_helper.to_array(tensor).tobytes() == wanted
    }


def rename_inputs(nodes: Iterable[NodeProto], old: str, new: str) -> None:
    """Lets the nodes read `new` wherever they read `old`."""
    for node in nodes:
        node.input[:] = [new if name == old else name for name in node.input]


def set_nodes(graph: GraphProto, nodes: Sequence[NodeProto], constants: Iterable[TensorProto] = ()) -> None:
    """Gives the graph these nodes and adds constants; drops constants that nothing reads, and stale shapes."""
    graph.initializer.extend(constants)
    read = {name for node in nodes for name in node.input} | {value.name for value in graph.output}
    for i in reversed(range(len(graph.initializer))):
        if graph.initializer[i].name not in read:
            del graph.initializer[i]
    del graph.node[:]
    graph.node.extend(nodes)
    del graph.value_info[:]


def infer(
    model: onnx.ModelProto, nodes: Iterable[NodeProto] | None = None, batch: int | None = None
) -> list[onnx.ValueInfoProto]:
    """Type and shape of every tensor that inference knows, constants among them.

    nodes: those of the model by default. batch: the first dimension of every input, its own by default. Large
    constants are passed to inference as inputs: it copies them, and only needs their shapes.
    """
    light = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    light.graph.name = model.graph.name
    light.graph.node.extend(model.graph.node if nodes is None else nodes)
    light.graph.input.extend(model.graph.input)
    light.graph.output.extend(model.graph.output)
    if batch is not None:
        for value in light.graph.input:
            first = value.type.tensor_type.shape.dim[0]
            first.Clear()
            first.dim_value = batch
        for value in light.graph.output:
            value.type.tensor_type.ClearField("shape")
    constants = []
    for tensor in model.graph.initializer:
        constants.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
        if np.prod(tensor.dims) <= SMALL:
            light.graph.initializer.append(tensor)
        else:
            light.graph.input.append(constants[-1])
    graph = onnx.shape_inference.infer_shapes(light, data_prop=True).graph
    return [*constants, *graph.input, *graph.value_info, *graph.output]


def shapes_of(values: Iterable[onnx.ValueInfoProto]) -> dict[str, Shape]:
    """Shapes by name, as far as they are known; None is a dimension that is not fixed."""
    return {
        value.name: [dim.dim_value if dim.HasField("dim_value") else None for dim in tensor.shape.dim]
        for value in values
        if (tensor := value.type.tensor_type).HasField("shape")
    }


def node_macs(model: onnx.ModelProto) -> dict[str, int]:
    """Multiply-accumulates of every Conv, Gemm, MatMul and Attention for one image, by node name.

    Conv: output elements times kernel size times input channels per group. Gemm and MatMul: output elements
    times the length of the contracted axis. Raises EdgefelError naming a node whose shapes inference does not
    find at batch 1.
    """
    shapes = shapes_of(infer(model, batch=1))
    return {node.name: _macs(node, shapes) for node in model.graph.node if node.op_type in COUNTED_OPS}


def _macs(node: NodeProto, shapes: Mapping[str, Shape]) -> int:
    known = [[side or 0 for side in shapes.get(name, [])] for name in (*node.input[:2], node.output[0])]
    if any(not shape or 0 in shape for shape in known):
        raise EdgefelError(f"node {node.name!r} ({node.op_type}): its shapes {known} are not all known")
    return macs_of_shapes(node, *known)


def macs_of_shapes(node: NodeProto, left: Sequence[int], right: Sequence[int], result: Sequence[int]) -> int:
    """Of one of COUNTED_OPS with the shapes of its first two inputs and its output."""
    if node.op_type == "Conv":
        return math.prod(result) * math.prod(right[1:])  # [O, I / groups, kH, kW]
    if node.op_type == "Gemm":
        return math.prod(result) * left[0 if attribute(node, "transA", 0) else 1]
    if node.op_type == "MatMul":
        return math.prod(result) * left[-1]
    # q k^T and its product with v, for q of [B, H, M, D] and k of [B, H, K, D]
    return math.prod(left) * right[2] + math.prod(result) * right[2]
