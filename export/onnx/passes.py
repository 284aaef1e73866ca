"""The passes that every export applies, in order, and what each of them did."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import onnx

from edgefel.errors import EdgefelError
from edgefel.export.onnx.affine import fold_affines
from edgefel.export.onnx.layout import (
    drop_identities,
    drop_scalar_expands,
    gather_transposes,
    merge_moves,
    split_stacked,
)
from edgefel.export.onnx.tokens import fold_class_token, gather_rows

Pass = Callable[[onnx.ModelProto], tuple[onnx.ModelProto, Any]]

# Later passes find what earlier ones leave: merge_moves joins the moves that splitting and gathering make.
EXACT_PASSES: Mapping[str, Pass] = {
    "drop-identities": drop_identities,
    "split-stacked": split_stacked,
    "drop-scalar-expands": drop_scalar_expands,
    "fold-class-token": fold_class_token,
    "gather-rows": gather_rows,
    "gather-transposes": gather_transposes,
    "merge-moves": merge_moves,
    "fold-affines": fold_affines,
}


@dataclass(frozen=True)
class PassReport:
    """Nodes of the graph before and after one pass, and what the pass itself says."""

    name: str
    nodes_before: int
    nodes_after: int
    detail: Any


def apply_passes(
    model: onnx.ModelProto, names: Iterable[str] = tuple(EXACT_PASSES)
) -> tuple[onnx.ModelProto, tuple[PassReport, ...]]:
    """Applies the named passes to a float32 graph in the order of EXACT_PASSES.

    Raises EdgefelError for a name that is not one of them.
    """
    wanted = set(names)
    if unknown := sorted(wanted - set(EXACT_PASSES)):
        raise EdgefelError(
            f"passes {', '.join(unknown)} are not known; choose some of {', '.join(EXACT_PASSES)}"
        )
    reports: list[PassReport] = []
    for name, function in EXACT_PASSES.items():
        if name in wanted:
            before = len(model.graph.node)
            model, detail = function(model)
            reports.append(PassReport(name, before, len(model.graph.node), detail))
    return model, tuple(reports)
