"""Normalisation in the graph: the input becomes uint8 [N, S, S, 3], a quarter of the bytes.

(x/255 - mean)/std = a x + b, but a and b rounded to float32 would miss the runtime's value, which is computed in
float64 and rounded once, by many ulps near x/255 = mean. So a = A + C and b = B + D: A and B are multiples of a
power of two coarse enough that A x + B is exact in float32 (with or without a fused multiply-add), and C x + D
is a small correction. One rounding is left, that of (A x + B) + (C x + D).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import NodeProto, TensorProto, helper

from edgefel.data.preprocessing import Preprocessing
from edgefel.errors import EdgefelError
from edgefel.export.onnx.rewrite import Rewrite, attribute
from edgefel.runtime.manifest import INPUT_NAME

SCOPE = "preprocessing"
FLOAT32_DIGITS = 24
MAX_ULPS = 1


@dataclass(frozen=True)
class Uint8Report:
    """bytes_per_image: before and after. inexact: how many of the 3 * 256 values differ from the runtime's by
    one ulp; 0 for ImageNet's mean and deviation. hoisted: the resample that now runs before normalisation."""

    bytes_per_image: tuple[int, int]
    inexact: int
    hoisted: str | None


@dataclass(frozen=True)
class SplitNormalisation:
    """(scale x + shift) + (fine_scale x + fine_shift), each [3] float32; see the module's docstring."""

    scale: npt.NDArray[np.float32]
    shift: npt.NDArray[np.float32]
    fine_scale: npt.NDArray[np.float32]
    fine_shift: npt.NDArray[np.float32]

    @classmethod
    def of(cls, preprocessing: Preprocessing) -> SplitNormalisation:
        """Splits the constants of `preprocessing`."""
        std = np.asarray(preprocessing.std, np.float64)
        scale, shift = 1.0 / (255.0 * std), -np.asarray(preprocessing.mean, np.float64) / std
        largest = np.maximum(255.0 * scale, np.abs(shift)) + np.abs(shift)
        # every A x, B and A x + B is a whole number of grids, fewer than 2^24 of them
        grid = 2.0 ** (np.floor(np.log2(largest)) + 2 - FLOAT32_DIGITS)
        coarse_scale, coarse_shift = np.rint(scale / grid) * grid, np.rint(shift / grid) * grid
        parts = (coarse_scale, coarse_shift, scale - coarse_scale, shift - coarse_shift)
        return cls(*(part.astype(np.float32) for part in parts))

    def table(self) -> npt.NDArray[np.float32]:
        """float32 [3, 256]: what the graph computes for every byte."""
        x = np.arange(256, dtype=np.float32)
        coarse = self.scale[:, None] * x + self.shift[:, None]
        return coarse + (self.fine_scale[:, None] * x + self.fine_shift[:, None])


def uint8_input(model: onnx.ModelProto, preprocessing: Preprocessing) -> tuple[onnx.ModelProto, Uint8Report]:
    """Replaces the input `image` float32 [N, 3, S, S] by uint8 RGB [N, S, S, 3], which the graph normalises.

    The last step of an export, for a finished graph of any precision: a Cast or QuantizeLinear behind the input
    then reads the normalised tensor. Resizing, cropping and the preprocessing's stride stay in the runtime, whose
    uint8 pixels are cheap to skip; a resample that the graph itself begins with moves before the normalisation.

    Raises EdgefelError if the input is not that float32 tensor, its side is not the preprocessing's, or the
    float32 arithmetic would miss the runtime's values by more than one ulp.
    """
    side = _check_input(model, preprocessing)
    normalisation = SplitNormalisation.of(preprocessing)
    inexact = _check_values(normalisation, preprocessing)
    rewrite = Rewrite(model)
    resample = _leading_resample(rewrite)
    readers = [node for node in rewrite.index.consumers.get(INPUT_NAME, []) if not _reads_batch_only(node)]
    nodes, result = _preprocessing_nodes(rewrite, normalisation, resample)
    for node in readers:
        node.input[:] = [result if name == INPUT_NAME else name for name in node.input]
    if resample is not None:
        for node in rewrite.index.consumers[resample.output[0]]:
            node.input[:] = [resample.input[0] if name == resample.output[0] else name for name in node.input]
    rewrite.replace([] if resample is None else [resample], nodes, at=rewrite.nodes[0])
    return _with_uint8(rewrite, side), Uint8Report(
        (3 * side * side * 4, 3 * side * side), inexact, None if resample is None else str(resample.name)
    )


def _check_input(model: onnx.ModelProto, preprocessing: Preprocessing) -> int:
    side = preprocessing.output_size
    found = model.graph.input[0].type.tensor_type
    shape = [dim.dim_value for dim in found.shape.dim[1:]]
    if found.elem_type != TensorProto.FLOAT or shape != [3, side, side]:
        raise EdgefelError(
            f"uint8 input: the graph takes {TensorProto.DataType.Name(found.elem_type).lower()} "
            f"[N, {', '.join(map(str, shape))}], the preprocessing makes float [N, 3, {side}, {side}]; "
            "give the graph and the preprocessing of one export"
        )
    return side


def _check_values(normalisation: SplitNormalisation, preprocessing: Preprocessing) -> int:
    """Number of values that are one ulp off."""
    expected, actual = preprocessing.normalisation_table(), normalisation.table()
    ulps = np.abs(expected.astype(np.float64) - actual) / np.spacing(np.abs(expected))
    if ulps.max() > MAX_ULPS:
        raise EdgefelError(
            f"uint8 input: mean {preprocessing.mean} and deviation {preprocessing.std} cannot be applied in "
            f"float32 within {MAX_ULPS} ulp ({ulps.max():.1f}); keep the float input"
        )
    return int((ulps > 0).sum())


def _reads_batch_only(node: NodeProto) -> bool:
    """A Shape of the batch axis: it reads the uint8 input just as well."""
    return node.op_type == "Shape" and (attribute(node, "start", 0), attribute(node, "end")) == (0, 1)


def _leading_resample(rewrite: Rewrite) -> NodeProto | None:
    """The Slice that keeps every n-th pixel, if all readers see the input through it, at most cast before."""
    readers = [node for node in rewrite.index.consumers.get(INPUT_NAME, []) if not _reads_batch_only(node)]
    if len(readers) == 1 and readers[0].op_type == "Cast":
        behind = rewrite.only_reader(readers[0].output[0])
        readers = [] if behind is None else [behind]
    if len(readers) != 1 or readers[0].op_type != "Slice" or len(readers[0].input) != 5:
        return None
    starts, _, axes, steps = (rewrite.constant(name) for name in readers[0].input[1:])
    if starts is None or axes is None or steps is None or readers[0].output[0] in rewrite.index.outputs:
        return None
    plain = axes.tolist() == [2, 3] and not starts.any() and (steps > 0).all()
    return readers[0] if plain else None


def _preprocessing_nodes(
    rewrite: Rewrite, normalisation: SplitNormalisation, resample: NodeProto | None
) -> tuple[list[NodeProto], str]:
    """image -> Cast -> (Slice) -> Transpose -> (A x + B) + (C x + D); returns nodes and the last tensor.

    The Cast comes first since TensorRT takes uint8 at inputs only, in front of a Cast.
    """
    nodes: list[NodeProto] = []

    def step(op_type: str, *inputs: str, **attributes: Any) -> str:
        name = rewrite.unique(f"{SCOPE}/{op_type}")
        nodes.append(helper.make_node(op_type, inputs, [f"{name}:0"], name, **attributes))
        return f"{name}:0"

    def constant(values: npt.NDArray[np.float32], name: str) -> str:
        return rewrite.add_constant(values.reshape(1, 3, 1, 1), f"{SCOPE}.{name}")

    pixels = step("Cast", INPUT_NAME, to=TensorProto.FLOAT)
    if resample is not None:
        axes = rewrite.add_constant(np.array([1, 2], np.int64), f"{SCOPE}.axes")
        pixels = step("Slice", pixels, *resample.input[1:3], axes, resample.input[4])
    pixels = step("Transpose", pixels, perm=[0, 3, 1, 2])
    coarse = step("Mul", pixels, constant(normalisation.scale, "scale"))
    coarse = step("Add", coarse, constant(normalisation.shift, "shift"))
    fine = step("Mul", pixels, constant(normalisation.fine_scale, "fine_scale"))
    fine = step("Add", fine, constant(normalisation.fine_shift, "fine_shift"))
    return nodes, step("Add", coarse, fine)


def _with_uint8(rewrite: Rewrite, side: int) -> onnx.ModelProto:
    tensor_type = rewrite.graph.input[0].type.tensor_type
    tensor_type.elem_type = TensorProto.UINT8
    for dim, size in zip(tensor_type.shape.dim[1:], (side, side, 3), strict=True):
        dim.dim_value = size
    return rewrite.result()
