"""Folds affine operators (BatchNormalization; Mul, Add, Sub, Div by a constant) into the layer that reads them.

conv(s x + t) = conv'(x) with the weights scaled per input channel by s and the shift t carried into the bias.
This is exact up to rounding without padding. A Conv that pads with zeros sees 0 at the border where the network
sees 0 *behind* the affine operator, so a shift must not be folded into it; a scale alone may, since s 0 = 0.
Arithmetic is float64, rounded once to float32.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from onnx import NodeProto

from edgefel.calib.graph import Shape, attribute, rename_inputs
from edgefel.export.onnx.rewrite import Rewrite

Vector = npt.NDArray[np.float64]
ELEMENTWISE = ("Mul", "Add", "Sub", "Div")
READERS = ("Conv", "Gemm", "MatMul")


@dataclass(frozen=True)
class AffineReport:
    """folded: names of the operators that are gone. left: each remaining BatchNormalization and why it stays."""

    folded: tuple[str, ...]
    left: Mapping[str, str]


@dataclass(frozen=True)
class _Affine:
    """y = scale x + shift per index of `axis`; both [C], or [1] when all channels share one number."""

    source: str
    axis: int | None
    scale: Vector
    shift: Vector


def fold_affines(rewrite: Rewrite) -> AffineReport:
    """Folds into Conv, Gemm and MatMul with constant weights, and merges one BatchNormalization into the next.

    Only where the result is the same but for rounding: the folded operator's output has no other reader, is no
    output of the graph, and a shift meets no zero padding. Weights shared with other nodes are copied first.
    """
    folded: list[str] = []
    while (node := _fold_one(rewrite)) is not None:
        folded.append(node)
    left = {}
    for node in rewrite.order:
        if node.op_type == "BatchNormalization":
            affine = _affine(rewrite, node)
            reason = (
                "its parameters are not constant"
                if affine is None
                else _unfoldable_reason(rewrite, node, affine)
            )
            left[node.name] = str(reason)
    return AffineReport(tuple(folded), left)


def _fold_one(rewrite: Rewrite) -> str | None:
    """Folds the last foldable operator, so that chains go one after the other; returns its name."""
    for node in reversed(rewrite.order):
        affine = _affine(rewrite, node)
        if affine is None or _unfoldable_reason(rewrite, node, affine) is not None:
            continue
        reader = rewrite.only_reader(node.output[0])
        assert reader is not None
        if reader.op_type == "BatchNormalization":
            _into_batch_norm(rewrite, affine, reader)
        else:
            _into_weights(rewrite, affine, reader)
        rename_inputs([reader], node.output[0], affine.source)
        rewrite.replace([node], [], at=node)
        return str(node.name)
    return None


def _affine(rewrite: Rewrite, node: NodeProto) -> _Affine | None:
    """What `node` does, if it is affine along one axis of a float32 activation."""
    if node.op_type == "BatchNormalization":
        if attribute(node, "training_mode", 0) or len(node.output) != 1:
            return None
        constants = [rewrite.constant(name) for name in node.input[1:]]
        if any(value is None or value.dtype != np.float32 for value in constants):
            return None
        weight, bias, mean, variance = (np.asarray(value, np.float64) for value in constants)
        scale = weight / np.sqrt(variance + attribute(node, "epsilon", 1e-5))
        return _Affine(node.input[0], 1, scale, bias - mean * scale)
    if node.op_type not in ELEMENTWISE:
        return None
    position = 1 if rewrite.constant(node.input[1]) is not None else 0
    constant = rewrite.constant(node.input[position])
    source = node.input[1 - position]
    if constant is None or constant.dtype != np.float32 or source in rewrite.initializers:
        return None
    if node.op_type in ("Sub", "Div") and position == 0:
        return None  # c - x and c / x are left alone
    channels = _along_one_axis(constant, rewrite.shape(source), rewrite.shape(node.output[0]))
    if channels is None:
        return None
    axis, values = channels
    one, zero = np.ones_like(values), np.zeros_like(values)
    scale, shift = {"Mul": (values, zero), "Add": (one, values), "Sub": (one, -values)}.get(
        node.op_type, (1.0 / values if values.all() else one * np.nan, zero)
    )
    return _Affine(source, axis, scale, shift) if np.isfinite(scale).all() else None


def _along_one_axis(
    constant: npt.NDArray[np.float32], source: Shape | None, result: Shape | None
) -> tuple[int | None, Vector] | None:
    """The axis of the activation along which a broadcast constant varies (None: it is one number)."""
    if constant.size == 1 and source is not None and constant.ndim <= len(source):
        return None, constant.astype(np.float64).ravel()
    if source is None or result is None or len(result) != len(source) or constant.ndim > len(source):
        return None
    wide = [i + len(source) - constant.ndim for i, side in enumerate(constant.shape) if side > 1]
    if len(wide) != 1 or source[wide[0]] != constant.size:
        return None
    return wide[0], constant.astype(np.float64).ravel()


def _unfoldable_reason(rewrite: Rewrite, node: NodeProto, affine: _Affine) -> str | None:
    """Why `node` cannot be folded into what reads it; None if it can."""
    output = node.output[0]
    if output in rewrite.outputs:
        return "its result is an output of the graph"
    reader = rewrite.only_reader(output)
    if reader is None:
        readers = rewrite.consumers.get(output, [])
        return f"{len(readers)} nodes read its result"
    if list(reader.input).count(output) != 1:
        return f"{reader.name} reads it twice"
    if reader.op_type == "BatchNormalization":
        fits = reader.input[0] == output and affine.axis in (None, 1) and _affine(rewrite, reader)
        return None if fits else f"{reader.name} has weights that are not constant"
    if reader.op_type not in READERS or reader.input[0] != output:
        return f"{reader.name} ({reader.op_type}) is no layer that could take it in"
    weight = rewrite.constant(reader.input[1])
    if weight is None or weight.dtype != np.float32:
        return f"the weights of {reader.name} are no float32 constants"
    return _misfit(rewrite, reader, weight, affine)


def _misfit(
    rewrite: Rewrite, reader: NodeProto, weight: npt.NDArray[np.float32], affine: _Affine
) -> str | None:
    """As `_unfoldable_reason`, for a layer with constant weights."""
    rank = len(rewrite.shape(affine.source) or [])
    channel_axis = 1 if reader.op_type == "Conv" else rank - 1
    if affine.axis is not None and affine.axis != channel_axis:
        return f"it varies along axis {affine.axis}, {reader.name} sums over axis {channel_axis}"
    shifted = bool(affine.shift.any())
    if reader.op_type == "Conv":
        auto = attribute(reader, "auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID")
        padded = auto or any(attribute(reader, "pads", [0]))
        return f"{reader.name} pads with zeros behind it" if shifted and padded else None
    if reader.op_type == "Gemm":
        bias = reader.input[2] if len(reader.input) > 2 else ""
        if attribute(reader, "transA", 0) or rank != 2:
            return f"{reader.name} transposes its input"
        variable = bias and rewrite.constant(bias) is None
        return f"the bias of {reader.name} is no constant" if variable else None
    if weight.ndim != 2:
        return f"{reader.name} multiplies by a stack of matrices"
    if shifted and _bias_behind(rewrite, reader, weight.shape[1]) is None:
        return f"{reader.name} has no constant bias behind it that could take the shift"
    return None


def _bias_behind(rewrite: Rewrite, matmul: NodeProto, width: int) -> tuple[NodeProto, int] | None:
    """The Add of a constant [width] behind a MatMul, and the constant's position in it."""
    reader = rewrite.only_reader(matmul.output[0])
    if reader is None or reader.op_type != "Add":
        return None
    for position, name in enumerate(reader.input):
        value = rewrite.constant(name)
        if value is not None and value.shape == (width,) and value.dtype == np.float32:
            return reader, position
    return None


def _into_batch_norm(rewrite: Rewrite, affine: _Affine, reader: NodeProto) -> None:
    weight, bias, mean, variance = (
        np.asarray(rewrite.constant(name), np.float64) for name in reader.input[1:]
    )
    gain = weight / np.sqrt(variance + attribute(reader, "epsilon", 1e-5))
    merged = {
        1: weight * affine.scale,
        2: bias + gain * (affine.shift - mean),
        3: np.zeros_like(mean),
    }
    for position, values in merged.items():
        _set_constant(rewrite, reader, position, values)


def _into_weights(rewrite: Rewrite, affine: _Affine, reader: NodeProto) -> None:
    weight = np.asarray(rewrite.constant(reader.input[1]), np.float64)
    if reader.op_type == "Conv":
        groups = attribute(reader, "group", 1)
        per_group = (groups, 1, weight.shape[1], 1)
        grouped = weight.reshape(groups, weight.shape[0] // groups, weight.shape[1], -1)
        channels = groups * weight.shape[1]
        scale = np.broadcast_to(affine.scale, channels).reshape(per_group)
        shift = np.broadcast_to(affine.shift, channels).reshape(per_group)
        added = (grouped * shift).sum(axis=(2, 3)).ravel()
        _set_constant(rewrite, reader, 1, (grouped * scale).reshape(weight.shape))
        _add_bias(rewrite, reader, added, keep=1.0)
        return
    # rows of a [K, N] matrix belong to input channels, columns where Gemm has it transposed
    transposed = reader.op_type == "Gemm" and bool(attribute(reader, "transB", 0))
    matrix = weight.T if transposed else weight
    scale = np.broadcast_to(affine.scale, matrix.shape[0])
    added = np.broadcast_to(affine.shift, matrix.shape[0]) @ matrix
    scaled = matrix * scale[:, None]
    _set_constant(rewrite, reader, 1, scaled.T if transposed else scaled)
    if reader.op_type == "Gemm":
        _add_bias(
            rewrite, reader, added * attribute(reader, "alpha", 1.0), keep=attribute(reader, "beta", 1.0)
        )
        for entry in reader.attribute:
            if entry.name == "beta":
                entry.f = 1.0
    elif affine.shift.any():
        found = _bias_behind(rewrite, reader, matrix.shape[1])
        assert found is not None
        behind, position = found
        _set_constant(rewrite, behind, position, rewrite.constant(behind.input[position]) + added)


def _add_bias(rewrite: Rewrite, reader: NodeProto, added: Vector, keep: float) -> None:
    """bias <- keep * bias + added, for a Conv or Gemm that may have none."""
    if len(reader.input) < 3 or not reader.input[2]:
        if not added.any():
            return
        del reader.input[2:]
        reader.input.append(rewrite.add_constant(added.astype(np.float32), f"{reader.name}.constant2"))
        return
    _set_constant(
        rewrite, reader, 2, keep * np.asarray(rewrite.constant(reader.input[2]), np.float64) + added
    )


def _set_constant(rewrite: Rewrite, node: NodeProto, position: int, values: Vector) -> None:
    """A constant of the node's own: others that read the old one keep it, and names say whose it is."""
    old = node.input[position]
    node.input[position] = rewrite.add_constant(values.astype(np.float32), old)
