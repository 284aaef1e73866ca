"""A copy of a model that a pass edits: look-ups, replacement of nodes, and clearing away what nobody reads."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from edgefel.calib.graph import GraphIndex, node_scope

Array = npt.NDArray[Any]
SMALL = 64  # elements; axes, targets of Reshape and the like are below it


class Rewrite:
    """Edits a copy of `model`; `result` gives it back. The model passed in is never changed.

    `nodes` is the list of nodes in topological order, `index` the look-ups over it; both are up to date after
    each call of `replace` and `redirect`.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = onnx.ModelProto()
        self.model.CopyFrom(model)
        self.graph = self.model.graph
        self._refresh()

    def _refresh(self) -> None:
        self.index = GraphIndex(self.graph)
        self.nodes: list[NodeProto] = list(self.graph.node)
        self._taken = {node.name for node in self.nodes}
        self._taken |= {name for node in self.nodes for name in (*node.input, *node.output)}

    def constant(self, tensor: str) -> Array | None:
        """The value of an initializer, None for anything else."""
        found = self.index.initializers.get(tensor)
        return None if found is None else numpy_helper.to_array(found)

    def producer(self, tensor: str, *op_types: str) -> NodeProto | None:
        """The node that makes `tensor` if it is of one of these types."""
        node = self.index.producers.get(tensor)
        return node if node is not None and node.op_type in op_types else None

    def only_reader(self, tensor: str) -> NodeProto | None:
        """The one node that reads `tensor`; None if several do, or it is an output of the graph."""
        readers = self.index.consumers.get(tensor, [])
        return readers[0] if len(readers) == 1 and tensor not in self.index.outputs else None

    def shapes(self) -> dict[str, list[int | None]]:
        """Shapes of all tensors that inference knows; None is a dimension that is not fixed."""
        inferred = self.inferred()
        known: dict[str, list[int | None]] = {
            tensor.name: list(tensor.dims) for tensor in self.graph.initializer
        }
        for value in [*inferred.input, *inferred.value_info, *inferred.output]:
            tensor_type = value.type.tensor_type
            if tensor_type.HasField("shape"):
                known[value.name] = [
                    dim.dim_value if dim.HasField("dim_value") else None for dim in tensor_type.shape.dim
                ]
        return known

    def inferred(self) -> onnx.GraphProto:
        """The graph after type and shape inference, with large constants as inputs: inference copies them."""
        light = onnx.ModelProto(ir_version=self.model.ir_version, opset_import=self.model.opset_import)
        light.graph.name = self.graph.name
        light.graph.node.extend(self.nodes)
        light.graph.input.extend(self.graph.input)
        light.graph.output.extend(self.graph.output)
        for tensor in self.graph.initializer:
            if np.prod(tensor.dims) <= SMALL:
                light.graph.initializer.append(tensor)
            else:
                light.graph.input.append(
                    helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
                )
        return onnx.shape_inference.infer_shapes(light, data_prop=True).graph

    def add_constant(self, values: Array, like: str) -> str:
        """Adds an initializer named after `like`; returns its name."""
        name = self.unique(like)
        tensor: TensorProto = numpy_helper.from_array(np.ascontiguousarray(values), name)
        self.graph.initializer.append(tensor)
        self.index.initializers[name] = self.graph.initializer[-1]
        return name

    def unique(self, name: str) -> str:
        """`name`, or `name_2` and so on where it, or the tensor `name:0`, is taken; reserves it."""
        free, number = name, 1
        while {free, f"{free}:0"} & self._taken or free in self.index.initializers:
            number += 1
            free = f"{name}_{number}"
        self._taken.add(free)
        return free

    def node(
        self,
        op_type: str,
        inputs: Sequence[str],
        *,
        like: NodeProto,
        output: str | None = None,
        **attributes: Any,
    ) -> NodeProto:
        """A new node `scope/Op` in the module that `like` comes from, with one output."""
        name = self.unique(f"{node_scope(like) or 'model'}/{op_type}")
        return helper.make_node(op_type, inputs, [output or f"{name}:0"], name, **attributes)

    def replace(self, old: Iterable[NodeProto], new: Sequence[NodeProto], at: NodeProto) -> None:
        """Removes the nodes `old` and puts `new` in the place of `at`, which may be one of them."""
        removed = {node.name for node in old}
        nodes: list[NodeProto] = []
        for node in self.nodes:
            if node.name == at.name:
                nodes.extend(new)
            if node.name not in removed:
                nodes.append(node)
        self._write(nodes)

    def redirect(self, old: str, new: str) -> None:
        """Lets all readers of the tensor `old` read `new`. `old` must not be an output of the graph."""
        for node in self.index.consumers.get(old, []):
            node.input[:] = [new if name == old else name for name in node.input]
        self._refresh()

    def result(self) -> onnx.ModelProto:
        """The edited model without nodes and constants that no output depends on, and without stale shapes."""
        wanted = set(self.index.outputs)
        kept: list[NodeProto] = []
        for node in reversed(self.nodes):
            if any(name in wanted for name in node.output):
                kept.append(node)
                wanted.update(name for name in node.input if name)
        self._write(kept[::-1])
        constants = [tensor for tensor in self.graph.initializer if tensor.name in wanted]
        if len(constants) < len(self.graph.initializer):
            del self.graph.initializer[:]
            self.graph.initializer.extend(constants)
        del self.graph.value_info[:]
        return self.model

    def _write(self, nodes: Sequence[NodeProto]) -> None:
        del self.graph.node[:]
        self.graph.node.extend(nodes)
        self._refresh()


def attribute(node: NodeProto, name: str, default: Any = None) -> Any:
    """The value of a node's attribute, or `default`."""
    for entry in node.attribute:
        if entry.name == name:
            return helper.get_attribute_value(entry)
    return default


def opset_of(model: onnx.ModelProto) -> int:
    """Version of the default operator set."""
    return next(int(entry.version) for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
