"""Keeps the outputs that a device needs, and drops what only the others depend on."""

from __future__ import annotations

from collections.abc import Sequence

import onnx

from edgefel.errors import EdgefelError
from edgefel.export.onnx.rewrite import Rewrite


def keep_outputs(model: onnx.ModelProto, outputs: Sequence[str]) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """A graph with the named outputs alone, in the graph's own order; returns it and the nodes it lost.

    The values of the outputs that stay are untouched. Raises EdgefelError for no output, one named twice, or
    one that the graph does not have.
    """
    there = [value.name for value in model.graph.output]
    if unknown := [name for name in outputs if name not in there]:
        raise EdgefelError(
            f"outputs: the graph has no {', '.join(unknown)}; choose some of {', '.join(there)}"
        )
    if not outputs or len(set(outputs)) != len(outputs):
        raise EdgefelError(f"outputs {tuple(outputs)}: name at least one of {', '.join(there)}, each once")
    rewrite = Rewrite(model)
    kept = [value for value in model.graph.output if value.name in outputs]
    del rewrite.graph.output[:]
    rewrite.graph.output.extend(kept)
    smaller = Rewrite(rewrite.model).result()
    remaining = {node.name for node in smaller.graph.node}
    return smaller, tuple(node.name for node in model.graph.node if node.name not in remaining)
