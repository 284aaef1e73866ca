"""Sites: where a graph is quantized, in the network's own terms.

A tensor's name depends on the form of the graph (its input size, its passes). The module that computes in INT8 and the
side of it on which a tensor lies do not, so ranges that outlive a graph are kept by site.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import onnx

from edgefel.calib.graph import GraphIndex, node_scope
from edgefel.calib.placement import Placement


class Site(NamedTuple):
    """One side of a module that computes in INT8.

    side: "input"; "output", of a convolution, behind its BatchNorm; "skip", what the result of a convolution is added
    to. Written "module:side".
    """

    module: str
    side: Literal["input", "output", "skip"]

    def __str__(self) -> str:
        return f"{self.module}:{self.side}"


def activation_sites(model: onnx.ModelProto, placement: Placement) -> dict[str, tuple[Site, ...]]:
    """Every activation of the placement -> the sites that it is quantized at, in graph order; none has no site.

    model: the float graph that was placed. Its nodes are named `module/Op`.
    """
    index = GraphIndex(model.graph)
    nodes = index.nodes
    found: dict[str, list[Site]] = {name: [] for name in placement.activations}
    for name in placement.nodes:
        node, module = nodes[name], node_scope(nodes[name])
        found[node.input[0]].append(Site(module, "input"))
        if node.output[0] in placement.outputs:
            found[node.output[0]].append(Site(module, "output"))
    for add, skip in placement.residuals.items():
        result = next(name for name in nodes[add].input if name != skip)
        found[skip].append(Site(node_scope(index.producers[result]), "skip"))
    return {name: tuple(sites) for name, sites in found.items()}
