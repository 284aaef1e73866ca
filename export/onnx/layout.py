"""Passes that remove or shorten data movement: Transpose, Reshape, Slice, Expand. All bitwise exact."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from onnx import NodeProto

from edgefel.calib.graph import attribute
from edgefel.export.onnx.axes import Step, shuffle
from edgefel.export.onnx.rewrite import Rewrite

MOVES = ("Transpose", "Reshape")
# operators whose result has the shape of their first input when every other input is a single number
_SHAPE_KEEPING = (
    "Abs", "Add", "Cast", "Clip", "Div", "Equal", "Exp", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Log",
    "Mul", "Neg", "Not", "Pow", "Relu", "Sigmoid", "Softmax", "Sqrt", "Sub",
)  # fmt: skip
_BROADCASTING = ("Add", "Div", "Mul", "Sub", "Where")


def merge_moves(rewrite: Rewrite) -> int:
    """Rewrites every chain of Transpose and Reshape nodes that has a shorter equal; returns nodes saved.

    Any such chain equals at most Reshape, Transpose, Reshape. Pairs that cancel disappear; a transposition of
    axes of size 1 is none. The batch, the first axis, may have any size.
    """
    done: set[str] = set()
    saved = 0
    while (chain := _next_chain(rewrite, done)) is not None:
        result = chain[-1].output[0]
        done.add(result)
        steps = [_step(rewrite, node) for node in chain]
        shape = rewrite.shape(chain[0].input[0])
        if shape is None or None in steps:
            continue
        shorter = shuffle(shape, [step for step in steps if step is not None])
        # a result that equals its source stays a node where it is an output of the graph: both need a name
        if shorter is not None and len(shorter) < len(chain) and (shorter or result not in rewrite.outputs):
            _replace_chain(rewrite, chain, shorter)
            saved += len(chain) - len(shorter)
    return saved


def _next_chain(rewrite: Rewrite, done: set[str]) -> list[NodeProto] | None:
    """The next longest run of moves in which each result is read by the following move alone."""
    for node in rewrite.order:
        if node.op_type not in MOVES or node.output[0] in done:
            continue
        reader = rewrite.only_reader(node.output[0])
        if reader is not None and reader.op_type in MOVES and reader.input[0] == node.output[0]:
            continue  # not the end of its run
        chain = [node]
        while (previous := rewrite.producer(chain[0].input[0], *MOVES)) is not None:
            if rewrite.only_reader(previous.output[0]) is None:
                break
            chain.insert(0, previous)
        return chain
    return None


def _step(rewrite: Rewrite, node: NodeProto) -> Step | None:
    """("Transpose", permutation) or ("Reshape", constant target without zeros)."""
    if node.op_type == "Transpose":
        return "Transpose", list(attribute(node, "perm"))
    target = rewrite.constant(node.input[1])
    if target is None or not target.all():
        return None
    return "Reshape", [int(side) for side in target]


def _replace_chain(rewrite: Rewrite, chain: Sequence[NodeProto], steps: Sequence[Step]) -> None:
    source, last = chain[0].input[0], chain[-1]
    result = last.output[0]
    if not steps:
        rewrite.replace(chain, [], at=last)
        rewrite.redirect(result, source)
        return
    nodes: list[NodeProto] = []
    for number, (op_type, values) in enumerate(steps):
        output = result if number == len(steps) - 1 else None
        if op_type == "Transpose":
            node = rewrite.node("Transpose", [source], like=last, output=output, perm=values)
        else:
            shape = rewrite.add_constant(np.asarray(values, np.int64), f"{last.name}.shape")
            node = rewrite.node("Reshape", [source, shape], like=last, output=output)
        nodes.append(node)
        source = node.output[0]
    rewrite.replace(chain, nodes, at=last)


def split_stacked(rewrite: Rewrite) -> int:
    """Unbinds q, k and v by one Split instead of a 5-D Transpose and a Slice and Squeeze each.

    [B, T, P*H*D] -> Reshape [B, T, P, H, D] -> Transpose (P first) -> P x (Slice, Squeeze) becomes
    Split -> P x (Reshape [B, T, H, D], Transpose). Returns how many stacks were split.
    """
    return sum(_split_one(rewrite, node) for node in list(rewrite.order) if node.op_type == "Transpose")


def _split_one(rewrite: Rewrite, transpose: NodeProto) -> bool:
    perm = list(attribute(transpose, "perm", []))
    reshape = rewrite.producer(transpose.input[0], "Reshape")
    if perm[:1] != [2] or perm[1:2] != [0] or reshape is None:
        return False
    target = rewrite.constant(reshape.input[1])
    if target is None or len(perm) != len(target) or target[0] != -1 or not (target[1:] > 0).all():
        return False
    if (rewrite.shape(reshape.input[0]) or [])[1:] != [int(target[1]), int(np.prod(target[2:]))]:
        return False
    if rewrite.only_reader(reshape.output[0]) is None or transpose.output[0] in rewrite.outputs:
        return False
    parts, found = int(target[2]), {}
    for slicer in rewrite.consumers.get(transpose.output[0], []):
        part = _unbound_part(rewrite, slicer)
        if part is None:
            return False
        found[part[0]] = (slicer, part[1])
    if sorted(found) != list(range(parts)) or len(found) != len(rewrite.consumers[transpose.output[0]]):
        return False
    shape = rewrite.add_constant(np.delete(target, 2), f"{reshape.name}.shape")
    inner = [axis - (axis > 2) for axis in perm[1:]]
    split = rewrite.node("Split", [reshape.input[0]], like=reshape, axis=2, num_outputs=parts)
    split.output[:] = [f"{split.name}:{i}" for i in range(parts)]
    new = [split]
    for part_index, (_, squeeze) in sorted(found.items()):
        piece = rewrite.node("Reshape", [split.output[part_index], shape], like=reshape)
        moved = rewrite.node(
            "Transpose", [piece.output[0]], like=reshape, output=squeeze.output[0], perm=inner
        )
        new += [piece, moved]
    old = [reshape, transpose, *(node for pair in found.values() for node in pair)]
    rewrite.replace(old, new, at=transpose)
    return True


def _unbound_part(rewrite: Rewrite, slicer: NodeProto) -> tuple[int, NodeProto] | None:
    """i and the Squeeze, if `slicer` and a Squeeze behind it take the i-th entry of axis 0."""
    squeeze = rewrite.only_reader(slicer.output[0]) if slicer.op_type == "Slice" else None
    if squeeze is None or squeeze.op_type != "Squeeze" or len(squeeze.input) < 2:
        return None
    values = [rewrite.constant(name) for name in (*slicer.input[1:5], squeeze.input[1])]
    if len(slicer.input) < 4 or any(value is None or value.size != 1 for value in values):
        return None
    numbers = [int(np.asarray(value).item()) for value in values]
    start, end, axis, step, squeezed = numbers if len(numbers) == 5 else [*numbers[:3], 1, numbers[3]]
    if (axis, step, squeezed) != (0, 1, 0) or start < 0 or end != start + 1:
        return None
    return start, squeeze


def gather_transposes(rewrite: Rewrite) -> int:
    """One Transpose behind a Concat in place of the same one before each of its inputs; returns nodes saved."""
    saved = 0
    for concat in list(rewrite.order):
        if concat.op_type != "Concat":
            continue
        moved = [rewrite.producer(name, "Transpose") for name in concat.input]
        before = [
            node for node in moved if node is not None and rewrite.only_reader(node.output[0]) is not None
        ]
        perms = {tuple(attribute(node, "perm")) for node in before}
        if len(before) < 2 or len(before) < len(concat.input) or len(perms) != 1:
            continue
        perm = list(perms.pop())
        axis = perm[attribute(concat, "axis") % len(perm)]
        joined = rewrite.node("Concat", [node.input[0] for node in before], like=concat, axis=axis)
        after = rewrite.node("Transpose", joined.output, like=concat, output=concat.output[0], perm=perm)
        rewrite.replace([concat, *before], [joined, after], at=concat)
        saved += len(before) - 1
    return saved


def drop_scalar_expands(rewrite: Rewrite) -> int:
    """Where(condition, Expand(1, Shape(x)), y) -> Where(condition, 1, y): broadcasting does the same.

    Only for a single number that is expanded to the shape of another operand of every reader. Returns the
    number of Expand nodes dropped.
    """
    dropped = 0
    for expand in list(rewrite.order):
        if expand.op_type != "Expand":
            continue
        value = rewrite.constant(expand.input[0])
        shape = rewrite.producer(expand.input[1], "Shape")
        if value is None or value.ndim or shape is None or expand.output[0] in rewrite.outputs:
            continue
        if attribute(shape, "start", 0) or attribute(shape, "end") is not None:
            continue
        root = _shape_root(rewrite, shape.input[0])
        readers = rewrite.consumers.get(expand.output[0], [])
        if readers and all(_has_operand_like(rewrite, reader, expand.output[0], root) for reader in readers):
            rewrite.redirect(expand.output[0], expand.input[0])
            dropped += 1
    return dropped


def _has_operand_like(rewrite: Rewrite, reader: NodeProto, expanded: str, root: str) -> bool:
    others = [name for name in reader.input if name != expanded]
    return reader.op_type in _BROADCASTING and any(_shape_root(rewrite, name) == root for name in others)


def _shape_root(rewrite: Rewrite, tensor: str) -> str:
    """The furthest tensor back that has the shape of `tensor` for certain."""
    node = rewrite.producer(tensor, *_SHAPE_KEEPING)
    if node is None:
        return tensor
    for name in node.input[1:]:
        value = rewrite.constant(name) if name else np.zeros(())
        if value is None or value.ndim:
            return tensor
    return _shape_root(rewrite, node.input[0])


def drop_identities(rewrite: Rewrite) -> int:
    """Drops Identity, and Cast to the type that its input has; returns their number.

    An Identity that gives an output of the graph the value of another output stays: both need a name.
    """
    types = {value.name: value.type.tensor_type.elem_type for value in rewrite.inferred()}
    dropped = 0
    for node in list(rewrite.order):
        same = node.op_type == "Identity" or (
            node.op_type == "Cast" and types.get(node.input[0]) == attribute(node, "to")
        )
        if same and node.output[0] not in rewrite.outputs:
            rewrite.redirect(node.output[0], node.input[0])
            dropped += 1
    return dropped
