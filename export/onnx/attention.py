"""Attention as one operator: the decomposed form becomes `Attention` of opset 23.

https://onnx.ai/onnx/operators/onnx__Attention.html
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import NodeProto, helper

from edgefel.calib.graph import Array, attribute
from edgefel.export.onnx.rewrite import Rewrite, opset_of

ATTENTION_OPSET = 23


@dataclass(frozen=True)
class AttentionMatch:
    """softmax((scale q) k^T + mask) v, written out. nodes: all of it but `transpose`, which makes k^T."""

    nodes: tuple[NodeProto, ...]
    transpose: NodeProto
    query: str
    value: str
    scale: float
    mask: Array | None


def onnx_attention(model: onnx.ModelProto) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """Replaces every decomposed attention by one `Attention` node and raises the opset to 23.

    q, k, v are [B, H, M, D]; the constant bias becomes attn_mask [1, H, M, M], the factor on q the attribute
    `scale`. The operator multiplies q and k by sqrt(scale) each, so results agree up to rounding. For the float
    graph: run it before quantization and FP16 conversion. Returns the names of the new nodes; the model and its
    opset are unchanged where there are none.
    """
    rewrite = Rewrite.copy(model)
    made: list[str] = []
    for softmax in list(rewrite.order):
        match = match_attention(rewrite, softmax) if softmax.op_type == "Softmax" else None
        if match is not None:
            made.append(_write(rewrite, match))
    result = rewrite.clean()
    if made and opset_of(result) < ATTENTION_OPSET:
        for entry in result.opset_import:
            if entry.domain in ("", "ai.onnx"):
                entry.version = ATTENTION_OPSET
        minimum = helper.find_min_ir_version_for(list(result.opset_import))
        result.ir_version = max(result.ir_version, minimum)
    return result, tuple(made)


def match_attention(rewrite: Rewrite, softmax: NodeProto) -> AttentionMatch | None:
    """The decomposed attention around a Softmax; None where there is none in the known form."""
    rank = len(rewrite.shape(softmax.input[0]) or [])
    weighted = rewrite.only_reader(softmax.output[0])
    if rank != 4 or attribute(softmax, "axis", -1) not in (-1, 3) or weighted is None:
        return None
    if weighted.op_type != "MatMul" or weighted.input[0] != softmax.output[0]:
        return None
    scores, mask, between = softmax.input[0], None, []
    add = rewrite.producer(scores, "Add")
    if add is not None:
        constants = [rewrite.constant(name) for name in add.input]
        position = next((i for i, value in enumerate(constants) if value is not None), None)
        if position is None or rewrite.only_reader(scores) is None:
            return None
        scores, mask, between = add.input[1 - position], constants[position], [add]
        assert mask is not None
        if mask.ndim > 4:
            return None
    product = rewrite.producer(scores, "MatMul")
    if product is None or rewrite.only_reader(scores) is None:
        return None
    transpose = rewrite.producer(product.input[1], "Transpose")
    if transpose is None or rewrite.only_reader(transpose.output[0]) is None:
        return None
    query, scale, factor = _unscaled(rewrite, product.input[0])
    # a plain product of matrices: neither operand may be spread over batch or heads
    sides = [rewrite.shape(name) for name in (query, transpose.output[0], weighted.input[1])]
    if any(side is None or len(side) != 4 for side in sides) or len({(s or [0, 0])[1] for s in sides}) != 1:
        return None
    nodes = (*factor, product, *between, softmax, weighted)
    return AttentionMatch(nodes, transpose, query, weighted.input[1], scale, mask)


def _unscaled(rewrite: Rewrite, query: str) -> tuple[str, float, list[NodeProto]]:
    """q, its factor, and the Mul that applies it; the query itself and 1 where there is no such Mul."""
    mul = rewrite.producer(query, "Mul")
    if mul is None or rewrite.only_reader(query) is None:
        return query, 1.0, []
    for position, name in enumerate(mul.input):
        value = rewrite.constant(name)
        if value is not None and value.size == 1:
            return mul.input[1 - position], float(value.item()), [mul]
    return query, 1.0, []


def _write(rewrite: Rewrite, match: AttentionMatch) -> str:
    weighted = match.nodes[-1]
    perm = list(attribute(match.transpose, "perm"))
    perm[2], perm[3] = perm[3], perm[2]
    new: list[NodeProto] = []
    key = match.transpose.input[0]
    if perm != [0, 1, 2, 3]:
        new.append(rewrite.node("Transpose", [key], like=match.transpose, perm=perm))
        key = new[0].output[0]
    inputs = [match.query, key, match.value]
    if match.mask is not None:
        wide = match.mask.reshape((1,) * (4 - match.mask.ndim) + match.mask.shape)
        inputs.append(rewrite.add_constant(np.asarray(wide), f"{weighted.name}.mask"))
    attention = rewrite.node("Attention", inputs, like=weighted, output=weighted.output[0], scale=match.scale)
    rewrite.replace([*match.nodes, match.transpose], [*new, attention], at=weighted)
    return str(attention.name)
