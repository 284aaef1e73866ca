"""The passes that every export applies, in order, what each of them did, and those that some files need."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from edgefel.calib.graph import attribute
from edgefel.errors import EdgefelError
from edgefel.export.onnx.affine import fold_affines
from edgefel.export.onnx.layout import (
    drop_identities,
    drop_scalar_expands,
    gather_transposes,
    merge_moves,
    split_stacked,
)
from edgefel.export.onnx.rewrite import Rewrite
from edgefel.export.onnx.tokens import fold_class_token, gather_rows

# edits the graph in place and returns a report
Pass = Callable[[Rewrite], Any]

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
    """Nodes of the graph before and after one pass, and the pass's own result."""

    name: str
    nodes_before: int
    nodes_after: int
    detail: Any


def apply_passes(
    model: onnx.ModelProto, names: Iterable[str] = tuple(EXACT_PASSES)
) -> tuple[onnx.ModelProto, tuple[PassReport, ...]]:
    """Applies the named passes to a copy of a float32 graph in the order of EXACT_PASSES.

    Raises EdgefelError for a name that is not one of them.
    """
    wanted = set(names)
    if unknown := sorted(wanted - set(EXACT_PASSES)):
        raise EdgefelError(
            f"passes {', '.join(unknown)} are not known; choose some of {', '.join(EXACT_PASSES)}"
        )
    rewrite = Rewrite.copy(model)
    reports: list[PassReport] = []
    for name, function in EXACT_PASSES.items():
        if name in wanted:
            before = len(rewrite.order)
            detail = function(rewrite)
            rewrite.clean()
            reports.append(PassReport(name, before, len(rewrite.order), detail))
    return rewrite.model, tuple(reports)


def spread_prelu(model: onnx.ModelProto) -> tuple[onnx.ModelProto, int]:
    """Writes PReLU(x, a) as Max(x, a x) where no slope exceeds 1; returns the copy and how many were written so.

    Exact: for x >= 0 and a <= 1, a x <= x, and for x < 0, a x >= x; the product is rounded as PReLU rounds it
    (a negative zero may become a positive one). A PReLU with a slope above 1, or one that is not constant, stays.
    ONNX Runtime's PReLU on the CPU works element by element; Mul and Max are vectorised. TensorRT has a layer for
    PReLU, so its files keep it. Names of existing tensors do not change.
    """
    rewrite = Rewrite.copy(model)
    count = 0
    for node in list(rewrite.order):
        slopes = rewrite.constant(node.input[1]) if node.op_type == "PRelu" else None
        if slopes is not None and (slopes <= 1.0).all():
            scaled = rewrite.node("Mul", node.input, like=node)
            largest = rewrite.node("Max", [node.input[0], scaled.output[0]], like=node, output=node.output[0])
            rewrite.replace([node], [scaled, largest], at=node)
            count += 1
    return rewrite.clean(), count


def spread_batch_norms(model: onnx.ModelProto) -> tuple[onnx.ModelProto, int]:
    """Writes every BatchNormalization of feature maps [N, C, H, W] as a product and a sum; returns the copy and how
    many were written so.

    What the folding of `fold_affines` leaves stands in front of a padded convolution. ONNX Runtime computes INT8
    convolutions with the channels last and moves the transposes around them until two meet, past products and sums but
    not past a BatchNormalization. Scale and shift are rounded once from float64. Names of existing tensors do not
    change.
    """
    rewrite = Rewrite.copy(model)
    count = 0
    for node in list(rewrite.order):
        if node.op_type != "BatchNormalization" or len(rewrite.shape(node.input[0]) or ()) != 4:
            continue
        values = [rewrite.constant(name) for name in node.input[1:5]]
        if any(value is None for value in values):
            continue
        weight, bias, mean, variance = (np.asarray(value, np.float64)[:, None, None] for value in values)
        scale = weight / np.sqrt(variance + attribute(node, "epsilon", 1e-5))
        names = [
            rewrite.add_constant(value.astype(np.float32), f"{node.name}.{what}")
            for what, value in (("scale", scale), ("shift", bias - scale * mean))
        ]
        scaled = rewrite.node("Mul", [node.input[0], names[0]], like=node)
        shifted = rewrite.node("Add", [scaled.output[0], names[1]], like=node, output=node.output[0])
        rewrite.replace([node], [scaled, shifted], at=node)
        count += 1
    return rewrite.clean(), count


def gather_prelu(model: onnx.ModelProto) -> tuple[onnx.ModelProto, int]:
    """Writes Max(x, a x) with constant slopes a <= 1 as PReLU(x, a), the reverse of `spread_prelu`; returns the copy
    and how many were written so. Names of existing tensors do not change."""
    rewrite = Rewrite.copy(model)
    count = 0
    for node in list(rewrite.order):
        if node.op_type != "Max" or len(node.input) != 2:
            continue
        scaled = rewrite.producer(node.input[1], "Mul")
        if scaled is None or scaled.input[0] != node.input[0] or rewrite.only_reader(node.input[1]) is None:
            continue
        slopes = rewrite.constant(scaled.input[1])
        if slopes is not None and (slopes <= 1.0).all():
            prelu = rewrite.node("PRelu", scaled.input, like=node, output=node.output[0])
            rewrite.replace([node, scaled], [prelu], at=node)
            count += 1
    return rewrite.clean(), count


def keep_outputs(model: onnx.ModelProto, outputs: Sequence[str]) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """A graph with the named outputs alone, in the graph's own order; returns it and the names of the dropped nodes.

    The values of the outputs that stay do not change. Raises EdgefelError for no output, one named twice, or one that
    the graph does not have.
    """
    existing = [value.name for value in model.graph.output]
    if unknown := [name for name in outputs if name not in existing]:
        raise EdgefelError(
            f"outputs: the graph has no {', '.join(unknown)}; choose some of {', '.join(existing)}"
        )
    if not outputs or len(set(outputs)) != len(outputs):
        raise EdgefelError(f"outputs {tuple(outputs)}: name at least one of {', '.join(existing)}, each once")
    rewrite = Rewrite.copy(model)
    for i in reversed(range(len(existing))):
        if existing[i] not in outputs:
            del rewrite.graph.output[i]
    smaller = rewrite.clean()
    remaining = rewrite.nodes
    return smaller, tuple(node.name for node in model.graph.node if node.name not in remaining)
