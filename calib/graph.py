"""Look-ups over an ONNX graph: who makes a tensor, who reads it, which values are constant."""

from __future__ import annotations

from dataclasses import dataclass, field

import onnx
from onnx import GraphProto, NodeProto, TensorProto

WEIGHTED_OPS = ("Conv", "Gemm", "MatMul")


@dataclass
class GraphIndex:
    """An index of a flat graph (no subgraphs); build a new one after changing the graph.

    producers: tensor -> the node that makes it. consumers: tensor -> the nodes that read it, in order, once
    each. initializers: tensor -> its constant value.
    """

    graph: GraphProto
    producers: dict[str, NodeProto] = field(init=False, default_factory=dict)
    consumers: dict[str, list[NodeProto]] = field(init=False, default_factory=dict)
    initializers: dict[str, TensorProto] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.initializers = {tensor.name: tensor for tensor in self.graph.initializer}
        for node in self.graph.node:
            if any(a.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS) for a in node.attribute):
                raise ValueError(
                    f"node {node.name!r} ({node.op_type}) has a subgraph; the graph must be flat"
                )
            for output in node.output:
                if output:
                    self.producers[output] = node
            for name in dict.fromkeys(node.input):
                if name:
                    self.consumers.setdefault(name, []).append(node)

    @property
    def nodes(self) -> dict[str, NodeProto]:
        """Nodes by name."""
        return {node.name: node for node in self.graph.node}

    @property
    def outputs(self) -> set[str]:
        """Names of the graph's outputs."""
        return {value.name for value in self.graph.output}

    def is_weighted(self, node: NodeProto) -> bool:
        """Whether `node` is a Conv, Gemm or MatMul whose second operand is a constant."""
        return node.op_type in WEIGHTED_OPS and node.input[1] in self.initializers


def node_scope(node: NodeProto) -> str:
    """The module that a node comes from, as the exporter names nodes: `scope/Op` -> `scope`."""
    return node.name.rpartition("/")[0]


def in_scope(node: NodeProto, scope: str) -> bool:
    """Whether the node comes from the module `scope` or one inside it."""
    own = node_scope(node)
    return own == scope or own.startswith(scope + ".")
