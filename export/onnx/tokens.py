"""Tokens: the class token as a constant, and whole rows gathered as rows. Neither leaves a Shape or an Expand."""

from __future__ import annotations

import numpy as np
from onnx import NodeProto

from edgefel.calib.graph import Array, attribute
from edgefel.export.onnx.rewrite import Rewrite


def fold_class_token(rewrite: Rewrite) -> int:
    """Concat(Expand(cls), tokens...) + positions  ->  Pad(Concat(tokens...)) + positions'.

    cls [1, 1, D] is expanded to the batch; positions [1, T, D] is a constant. The padded row is 0, and row 0 of
    positions' is cls + positions[0] in float32: the same sum, so the result is bitwise equal. Where no positions are
    added behind the Concat, positions' is cls and T - 1 rows of 0, and values are equal. Returns how many tokens were
    folded.
    """
    folded = 0
    for op_type, fold in (("Add", _fold_one), ("Concat", _fold_alone)):
        folded += sum(fold(rewrite, node) for node in list(rewrite.order) if node.op_type == op_type)
    return folded


def gather_rows(rewrite: Rewrite) -> int:
    """GatherElements(x, Expand(Unsqueeze(i)))  ->  GatherND(x, Unsqueeze(i)): whole rows of x [B, N, D] by i [B, K].

    One index for each row and not one for each of its D numbers; the same rows, so the result is bitwise equal.
    Returns how many were rewritten.
    """
    count = 0
    for node in list(rewrite.order):
        indices = _row_indices(rewrite, node) if node.op_type == "GatherElements" else None
        if indices is not None:
            rows = rewrite.node(
                "GatherND", [node.input[0], indices], like=node, output=node.output[0], batch_dims=1
            )
            rewrite.replace([node], [rows], at=node)
            count += 1
    return count


def _row_indices(rewrite: Rewrite, gather: NodeProto) -> str | None:
    """The tensor i [B, K, 1] where `gather` takes rows 1 of x [B, N, D] by i repeated D times; else None."""
    table = rewrite.shape(gather.input[0])
    expand = rewrite.producer(gather.input[1], "Expand")
    if table is None or len(table) != 3 or attribute(gather, "axis", 0) not in (1, -2) or expand is None:
        return None
    indices, repeated = rewrite.shape(expand.input[0]), rewrite.shape(gather.input[1])
    if indices is None or repeated is None or len(indices) != 3 or len(repeated) != 3:
        return None
    # GatherElements may take fewer images or columns than there are; whole rows of all images only are meant here
    whole = indices[2] == 1 and repeated[2] == table[2] is not None and repeated[:2] == indices[:2]
    return expand.input[0] if whole and indices[0] == table[0] else None


def _fold_one(rewrite: Rewrite, add: NodeProto) -> bool:
    for position, name in enumerate(add.input):
        concat = rewrite.producer(name, "Concat")
        positions = rewrite.constant(add.input[1 - position])
        if concat is None or positions is None or rewrite.only_reader(name) is None:
            continue
        token = _class_token(rewrite, concat)
        if token is None:
            continue
        rows = positions.ndim == 3 and token.ndim == 3 and token.shape == (1, 1, positions.shape[2])
        if not rows or positions.shape[0] != 1 or attribute(concat, "axis") != 1 or len(concat.input) < 2:
            continue
        _write(rewrite, add, position, concat, token[0, 0] + positions[0, 0], positions)
        return True
    return False


def _fold_alone(rewrite: Rewrite, concat: NodeProto) -> bool:
    """A class token in front of tokens that have their positions already."""
    token = _class_token(rewrite, concat)
    shape = rewrite.shape(concat.output[0])
    if token is None or attribute(concat, "axis") != 1 or len(concat.input) != 2:
        return False
    if shape is None or len(shape) != 3 or concat.output[0] in rewrite.outputs:
        return False
    count, width = shape[1:]
    if count is None or width is None or token.shape != (1, 1, width):
        return False
    table = np.zeros((1, count, width), token.dtype)
    table[0, 0] = token[0, 0]
    pads = rewrite.add_constant(np.array([0, 1, 0, 0, 0, 0], np.int64), f"{concat.name}.pads")
    padded = rewrite.node("Pad", [concat.input[1], pads], like=concat)
    rows = rewrite.add_constant(table, f"{concat.name}.token")
    added = rewrite.node("Add", [padded.output[0], rows], like=concat, output=concat.output[0])
    rewrite.replace([concat], [padded, added], at=concat)
    return True


def _class_token(rewrite: Rewrite, concat: NodeProto) -> Array | None:
    """The constant that `concat` begins with, expanded to (batch, 1, 1), the batch that of an input of the graph."""
    expand = rewrite.producer(concat.input[0], "Expand")
    target = None if expand is None else rewrite.producer(expand.input[1], "Concat")
    if expand is None or target is None or rewrite.only_reader(expand.output[0]) is None:
        return None
    batch = rewrite.producer(target.input[0], "Shape")
    ones = [rewrite.constant(name) for name in target.input[1:]]
    to_batch = (
        batch is not None
        and batch.input[0] in {value.name for value in rewrite.graph.input}
        and (attribute(batch, "start", 0), attribute(batch, "end")) == (0, 1)
        and len(ones) == 2
        and all(value is not None and value.tolist() == [1] for value in ones)
    )
    return rewrite.constant(expand.input[0]) if to_batch else None


def _write(
    rewrite: Rewrite,
    add: NodeProto,
    position: int,
    concat: NodeProto,
    first_row: Array,
    positions: Array,
) -> None:
    table = positions.copy()
    table[0, 0] = first_row
    tokens = concat.input[1]
    new: list[NodeProto] = []
    if len(concat.input) > 2:
        new.append(rewrite.node("Concat", concat.input[1:], like=concat, axis=1))
        tokens = new[-1].output[0]
    pads = rewrite.add_constant(np.array([0, 1, 0, 0, 0, 0], np.int64), f"{concat.name}.pads")
    new.append(rewrite.node("Pad", [tokens, pads], like=concat, output=concat.output[0]))
    add.input[1 - position] = rewrite.add_constant(table, add.input[1 - position])
    rewrite.replace([concat], new, at=concat)
