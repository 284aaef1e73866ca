"""Attention and reliability head as one node each: functions of the domain `edgefel`, with the graph's nodes in them.

The last step of an export, so that passes, quantization and FP16 conversion see a flat graph. A node gets the operands
of a Triton kernel, and its attributes say which: `edgefel.export.tensorrt.plugin` puts the kernel into an engine. ONNX
Runtime and every other TensorRT compute the body, which is what the file held before.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import FunctionProto, NodeProto, TensorProto, helper

from edgefel.calib.graph import HEAD_SCOPE, Array, GraphIndex, equal_constants, node_scope
from edgefel.errors import EdgefelError
from edgefel.export.onnx.attention import AttentionMatch, match_attention
from edgefel.export.onnx.fused_check import check_attention, check_balance
from edgefel.export.onnx.rewrite import Rewrite, opset_of
from edgefel.kernels.ahead_of_time.specs import fused_attention_name
from edgefel.runtime.onnx_functions import DOMAIN

if TYPE_CHECKING:
    from edgefel.models.network import FacialExpressionModel

_VERSION = 1
_MOVES = ("Transpose", "Reshape")
_TYPES = {TensorProto.FLOAT: "fp32", TensorProto.FLOAT16: "fp16"}
_RESULTS = ("probabilities", "confidence", "primary")


@dataclass(frozen=True)
class Head:
    """What of a reliability head its kernel is compiled for. anchors: [C, K, E], None without that branch."""

    classes: int
    width: int
    anchors: npt.NDArray[np.float32] | None
    attentive: bool
    delta: float


def fused_head(model: FacialExpressionModel) -> Head | None:
    """What the export of `model` has to know of its reliability head; None where it has another one."""
    config = model.config.head
    if config is None:
        return None
    anchors = model.head.anchors
    values = None if anchors is None else anchors.detach().float().cpu().numpy()
    return Head(model.config.num_classes, config.embedding_dim, values, config.attentive, config.delta)


@dataclass
class _Region:
    """Nodes that become one. inputs, outputs: tensors of the graph, in the operator's order; the same one may be an
    operand twice. made: nodes in front of the body, which make tensors that its nodes read."""

    operator: str
    nodes: list[NodeProto]
    inputs: Mapping[str, str]
    outputs: Sequence[str]
    attributes: Mapping[str, int | float]
    made: list[NodeProto] = field(default_factory=list)


def fuse_operators(model: onnx.ModelProto, head: Head | None) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """A copy with window cross-attention and the reliability head as nodes of the domain `edgefel`, and their names.

    model: a finished graph of any precision; what it computes does not change. head: None where the network has no
    reliability head. Attention is left alone if its bias is no relative position bias, or its keys and values are no
    joint projection. Each body is compared with the kernel's reference on random numbers.

    Raises EdgefelError if nothing can be fused, and RuntimeError for a body that says something else.
    """
    rewrite = Rewrite.copy(model)
    functions: dict[str, FunctionProto] = {}
    names: list[str] = []
    for softmax in [node for node in rewrite.order if node.op_type == "Softmax"]:
        match = match_attention(rewrite, softmax)
        region = None if match is None else _attention(rewrite, match)
        if region is not None:
            names += _fuse(rewrite, region, functions, node_scope(softmax))
    if head is not None:
        names += _fuse(rewrite, _balance(rewrite, head), functions, HEAD_SCOPE)
    if not names:
        raise EdgefelError(
            "--attention plugin: the network has neither window cross-attention nor a reliability head; leave it out"
        )
    fused = rewrite.clean()
    fused.functions.extend(functions.values())
    fused.opset_import.append(helper.make_opsetid(DOMAIN, _VERSION))
    return fused, tuple(names)


def _fuse(rewrite: Rewrite, region: _Region, functions: dict[str, FunctionProto], scope: str) -> list[str]:
    """Puts the region's node into the graph; returns its name, or nothing where it stays as it is."""
    body = _function(rewrite, region)
    if not _closed(rewrite, region) or functions.get(region.operator, body) != body:
        return []
    if region.operator not in functions:
        constants = {name: rewrite.constant(tensor) for name, tensor in region.inputs.items()}
        if "bias_table" in constants:
            check_attention(body, region.attributes, np.asarray(constants["bias_table"]).dtype)
        else:
            check_balance(body, region.attributes, constants["anchors"])
        functions[region.operator] = body
    # by the first two TensorRT's parser finds a plugin
    attributes: dict[str, Any] = {"plugin_namespace": DOMAIN, "plugin_version": str(_VERSION)} | dict(
        region.attributes
    )
    name = rewrite.unique(f"{scope}/{region.operator}")
    inputs, outputs = list(region.inputs.values()), list(region.outputs)
    node = helper.make_node(region.operator, inputs, outputs, name, domain=DOMAIN, **attributes)
    rewrite.replace(region.nodes, [node], at=region.nodes[-1])
    return [name]


def _closed(rewrite: Rewrite, region: _Region) -> bool:
    """Whether nothing outside reads a tensor within."""
    inside = {node.name for node in region.nodes}
    within = {name for node in region.nodes for name in node.output} - set(region.outputs)
    readers = {reader.name for name in within for reader in rewrite.consumers.get(name, [])}
    return readers <= inside and not within & rewrite.outputs


def _function(rewrite: Rewrite, region: _Region) -> FunctionProto:
    """The region's nodes as a function: names are short and the same for equal regions, constants are in the body."""
    names = {tensor: name for name, tensor in reversed(list(region.inputs.items()))}
    names |= {tensor: f"output_{i}" for i, tensor in enumerate(region.outputs)}
    body: list[NodeProto] = []

    def local(tensor: str) -> str:
        if tensor and tensor not in names:
            names[tensor] = f"constant_{len(names)}"
            value = copy.deepcopy(rewrite.initializers[tensor])
            value.name = ""
            label = f"{names[tensor]}/Constant"
            body.append(helper.make_node("Constant", [], [names[tensor]], label, value=value))
        return names.get(tensor, "")

    for number, node in enumerate([*region.made, *region.nodes]):
        inner = copy.deepcopy(node)
        inner.name = f"{node.op_type}_{number}"
        inner.input[:] = [local(tensor) for tensor in node.input]
        for i, tensor in enumerate(node.output):
            names.setdefault(tensor, f"{inner.name}:{i}")
        inner.output[:] = [names[tensor] for tensor in node.output]
        body.append(inner)
    outputs = [names[tensor] for tensor in region.outputs]
    opsets = [helper.make_opsetid("", opset_of(rewrite.model))]
    attributes = ["plugin_namespace", "plugin_version", *region.attributes]
    return helper.make_function(
        DOMAIN, region.operator, list(region.inputs), outputs, body, opsets, attributes
    )


def _attention(rewrite: Rewrite, match: AttentionMatch) -> _Region | None:
    """softmax(q k^T + bias) v from the queries [B, H, M, D] and the joint projection [B, M, 2 H D] to [B, M, H D]."""
    table = None if match.mask is None else bias_table(match.mask)
    if table is None or match.mask is None:
        return None
    heads, tokens = match.mask.shape[:2]
    width = (rewrite.shape(match.query) or [None])[-1]
    key, key_moves = _before_moves(rewrite, match.transpose.input[0])
    value, value_moves = _before_moves(rewrite, match.value)
    split, other = rewrite.producer(key, "Split"), rewrite.producer(value, "Split")
    result, after = _merged(rewrite, match.nodes[-1].output[0], heads, tokens)
    if split is None or split is not other or list(split.output) != [key, value] or width is None:
        return None
    if result is None:
        return None
    window = math.isqrt(tokens)
    kind = _TYPES[helper.np_dtype_to_tensor_dtype(table.dtype)]
    wanted = {node.name for node in (*key_moves, *value_moves, *match.nodes, *after)}
    wanted |= {split.name, match.transpose.name}
    bias = next(node for node in match.nodes if node.op_type == "Add")
    mask = next(name for name in bias.input if name in rewrite.initializers)
    stored = rewrite.add_constant(table, f"{node_scope(bias)}.relative_position_bias_table")
    return _Region(
        fused_attention_name(window, heads, width, kind),
        [node for node in rewrite.order if node.name in wanted],
        {"q": match.query, "kv": split.input[0], "bias_table": stored},
        [result],
        {"window": window, "heads": heads, "width": width, "scale": match.scale},
        _looked_up(rewrite, stored, mask, window),
    )


def bias_table(mask: Array) -> Array | None:
    """The table [(2W-1)^2, H] whose relative position bias is `mask` [H, M, M], bit by bit; None where there is none.

    The layout is that of `relative_position_bias` in edgefel.kernels.window_cross_attention.reference.
    """
    if mask.ndim != 3 or mask.shape[1] != mask.shape[2]:
        return None
    window = math.isqrt(mask.shape[1])
    if window * window != mask.shape[1]:
        return None
    rows, columns = _positions(window)
    index = rows - columns
    table: Array = np.zeros(((2 * window - 1) ** 2, mask.shape[0]), mask.dtype)
    table[index] = mask.transpose(1, 2, 0)
    same = np.array_equal(table[index].transpose(2, 0, 1), mask)
    return table if same else None


def _positions(window: int) -> tuple[Array, Array]:
    """[M, 1] and [1, M]: their difference is where a pair's bias is in the table."""
    axis = np.arange(window)
    position = (axis[:, None] * (2 * window - 1) + axis).reshape(-1)
    return position[:, None] + (window - 1) * 2 * window, position[None, :]


def _looked_up(rewrite: Rewrite, table: str, mask: str, window: int) -> list[NodeProto]:
    """Nodes that make the bias [H, M, M] of the table: constants, which every engine folds when it loads the file."""
    rows, columns = (
        rewrite.add_constant(part.astype(np.int64), f"{mask}.positions") for part in _positions(window)
    )
    return [
        helper.make_node("Sub", [rows, columns], [f"{mask}.index"], f"{mask}/Sub"),
        helper.make_node("Gather", [table, f"{mask}.index"], [f"{mask}.pairs"], f"{mask}/Gather", axis=0),
        helper.make_node("Transpose", [f"{mask}.pairs"], [mask], f"{mask}/Transpose", perm=[2, 0, 1]),
    ]


def _before_moves(rewrite: Rewrite, tensor: str) -> tuple[str, list[NodeProto]]:
    """What a chain of Transpose and Reshape begins with, and the chain."""
    moves = []
    while (node := rewrite.producer(tensor, *_MOVES)) is not None:
        moves.append(node)
        tensor = node.input[0]
    return tensor, moves


def _merged(rewrite: Rewrite, tensor: str, heads: int, tokens: int) -> tuple[str | None, list[NodeProto]]:
    """The tensor [B, M, H D] behind [B, H, M, D], and the moves between; None where there is none."""
    width = (rewrite.shape(tensor) or [None])[-1]
    moves: list[NodeProto] = []
    while width is not None:
        shape = rewrite.shape(tensor)
        if shape is not None and shape[1:] == [tokens, heads * width]:
            return tensor, moves
        reader = rewrite.only_reader(tensor)
        if reader is None or reader.op_type not in _MOVES:
            break
        moves.append(reader)
        tensor = reader.output[0]
    return None, []


def _balance(rewrite: Rewrite, head: Head) -> _Region:
    """All of the head behind its matrix products: logits, embedding, anchors and attentive logits -> `_RESULTS`."""
    nodes = _head_nodes(rewrite)
    made = {name for node in nodes for name in node.output}
    read = dict.fromkeys(name for node in nodes for name in node.input if name and name not in made)
    equal = set() if head.anchors is None else equal_constants(rewrite, head.anchors)
    anchors = [name for name in read if name in equal]
    others = [
        name for name in read if name not in rewrite.initializers and name not in ("logits", "embedding")
    ]
    if len(anchors) != (head.anchors is not None) or len(others) != head.attentive or "logits" not in read:
        raise RuntimeError(
            f"the head reads {', '.join(read)}: expected logits, embedding, its anchors and attentive logits"
        )
    # what belongs to a branch that is off is never read, by the body nor by the kernel
    inputs = {
        "logits": "logits",
        "embedding": "embedding",
        "anchors": anchors[0] if anchors else "logits",
        "attentive_logits": others[0] if others else "logits",
    }
    attributes = {
        "classes": head.classes,
        "anchors": 0 if head.anchors is None else head.anchors.shape[1],
        "width": head.width,
        "attentive": int(head.attentive),
        "inverse_delta": 1.0 / head.delta,
    }
    return _Region("reliability_balance", nodes, inputs, _RESULTS, attributes)


def _head_nodes(index: GraphIndex) -> list[NodeProto]:
    """The nodes of the head's own scope that the results depend on, in order."""
    wanted: set[str] = set(_RESULTS)
    found = []
    for node in reversed(index.order):
        if node_scope(node) == HEAD_SCOPE and wanted & set(node.output):
            found.append(node)
            wanted |= set(node.input)
    return found[::-1]
