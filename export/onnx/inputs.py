"""Preprocessing in the graph: the input becomes uint8 pixels, a quarter of the bytes, or whole resized images.

(x/255 - mean)/std = a x + b, but a and b rounded to float32 would miss the runtime's value, which is computed in
float64 and rounded once, by many ulps near x/255 = mean. So a = A + C and b = B + D: A and B are multiples of a
power of two coarse enough that A x + B is exact in float32 (with or without a fused multiply-add), and C x + D
is a small correction. One rounding is left, that of (A x + B) + (C x + D).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import NodeProto, TensorProto

from edgefel.calib.graph import Array, attribute, rename_inputs
from edgefel.data.preprocessing import LUMA, Preprocessing
from edgefel.errors import EdgefelError
from edgefel.export.onnx.rewrite import Rewrite
from edgefel.runtime.manifest import INPUT_NAME

FLOAT32_DIGITS = 24
MAX_ULPS = 1


@dataclass(frozen=True)
class Uint8Report:
    """inexact: how many of the 3 * 256 values differ from the runtime's by one ulp; 0 for ImageNet's mean and
    deviation. hoisted: the resample that now runs before normalisation."""

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


class _InputSteps:
    """New nodes in front of a copy of a graph; a step returns the name of its result.

    readers: what reads the input's pixels, that is everything but a Shape of the batch axis.
    """

    def __init__(self, model: onnx.ModelProto, scope: str) -> None:
        self.rewrite = Rewrite.copy(model)
        self.scope = scope
        self.nodes: list[NodeProto] = []
        self.readers = [
            node
            for node in self.rewrite.consumers.get(INPUT_NAME, [])
            if (node.op_type, attribute(node, "start", 0), attribute(node, "end")) != ("Shape", 0, 1)
        ]

    def add(self, op_type: str, *inputs: str, **attributes: Any) -> str:
        """Adds a node."""
        self.nodes.append(self.rewrite.node(op_type, inputs, like=self.scope, **attributes))
        return str(self.nodes[-1].output[0])

    def constant(self, values: Array, name: str) -> str:
        """Adds an initializer."""
        return self.rewrite.add_constant(values, f"{self.scope}.{name}")

    def normalise(self, pixels: str, split: SplitNormalisation) -> str:
        """Adds (A x + B) + (C x + D) for pixels [N, 3, H, W]."""
        terms = []
        for scale, shift in (("scale", "shift"), ("fine_scale", "fine_shift")):
            factor, offset = (
                self.constant(getattr(split, name).reshape(1, 3, 1, 1), name) for name in (scale, shift)
            )
            terms.append(self.add("Add", self.add("Mul", pixels, factor), offset))
        return self.add("Add", *terms)

    def finish(
        self, result: str, kind: int, sides: Sequence[int], dropped: Sequence[NodeProto] = ()
    ) -> onnx.ModelProto:
        """The graph that reads `result` in place of its input, which becomes `kind` [N, *sides]."""
        rename_inputs(self.readers, INPUT_NAME, result)
        self.rewrite.replace(dropped, self.nodes, at=self.rewrite.order[0])
        tensor_type = self.rewrite.graph.input[0].type.tensor_type
        tensor_type.elem_type = kind
        for dim, size in zip(tensor_type.shape.dim[1:], sides, strict=True):
            dim.dim_value = size
        return self.rewrite.clean()


def _check_input(
    model: onnx.ModelProto,
    preprocessing: Preprocessing,
    what: str,
    kinds: Sequence[int] = (TensorProto.FLOAT,),
) -> int:
    """The type of the input, one of `kinds`. Raises EdgefelError if it is none, or not of the preprocessing's side."""
    side = preprocessing.output_size
    shapes: dict[int, list[int]] = {TensorProto.FLOAT: [3, side, side], TensorProto.UINT8: [side, side, 3]}
    found = model.graph.input[0].type.tensor_type
    shape = [dim.dim_value for dim in found.shape.dim[1:]]
    if found.elem_type not in kinds or shapes[found.elem_type] != shape:

        def shown(kind: int, sides: Sequence[int]) -> str:
            return f"{TensorProto.DataType.Name(kind).lower()} [N, {', '.join(map(str, sides))}]"

        raise EdgefelError(
            f"{what}: the graph takes {shown(found.elem_type, shape)}, the preprocessing makes "
            f"{' or '.join(shown(kind, shapes[kind]) for kind in kinds)}; "
            "give the graph and the preprocessing of one export"
        )
    return int(found.elem_type)


def uint8_input(model: onnx.ModelProto, preprocessing: Preprocessing) -> tuple[onnx.ModelProto, Uint8Report]:
    """Replaces the input `image` float32 [N, 3, S, S] by uint8 RGB [N, S, S, 3], which the graph normalises.

    The last step of an export, for a finished graph of any precision: a Cast or QuantizeLinear behind the input
    then reads the normalised tensor. Resizing, cropping and the preprocessing's stride stay in the runtime, whose
    uint8 pixels are cheap to skip; a resample that the graph itself begins with moves before the normalisation.

    Raises EdgefelError if the input is not that float32 tensor, its side is not the preprocessing's, or the
    float32 arithmetic would miss the runtime's values by more than one ulp.
    """
    _check_input(model, preprocessing, "uint8 input")
    normalisation = SplitNormalisation.of(preprocessing)
    inexact = _check_values(normalisation, preprocessing)
    steps = _InputSteps(model, "preprocessing")
    rewrite = steps.rewrite
    resample = _leading_resample(rewrite, steps.readers)
    # the Cast comes first since TensorRT takes uint8 at inputs only, in front of a Cast
    pixels = steps.add("Cast", INPUT_NAME, to=TensorProto.FLOAT)
    if resample is not None:
        axes = steps.constant(np.array([1, 2], np.int64), "axes")
        pixels = steps.add("Slice", pixels, *resample.input[1:3], axes, resample.input[4])
    result = steps.normalise(steps.add("Transpose", pixels, perm=[0, 3, 1, 2]), normalisation)
    side = preprocessing.output_size
    if resample is not None:
        source = resample.input[0]
        rewrite.redirect(resample.output[0], result if source == INPUT_NAME else source)
    packed = steps.finish(result, TensorProto.UINT8, (side, side, 3), [] if resample is None else [resample])
    return packed, Uint8Report(inexact, None if resample is None else str(resample.name))


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


def _leading_resample(rewrite: Rewrite, readers: Sequence[NodeProto]) -> NodeProto | None:
    """The Slice that keeps every n-th pixel, if all readers see the input through it, at most cast before."""
    if len(readers) == 1 and readers[0].op_type == "Cast":
        behind = rewrite.only_reader(readers[0].output[0])
        readers = [] if behind is None else [behind]
    if len(readers) != 1 or readers[0].op_type != "Slice" or len(readers[0].input) != 5:
        return None
    starts, _, axes, steps = (rewrite.constant(name) for name in readers[0].input[1:])
    if starts is None or axes is None or steps is None or readers[0].output[0] in rewrite.outputs:
        return None
    plain = axes.tolist() == [2, 3] and not starts.any() and (steps > 0).all()
    return readers[0] if plain else None


def pixel_input(model: onnx.ModelProto, preprocessing: Preprocessing) -> onnx.ModelProto:
    """Replaces the input `image`, float32 [N, 3, S, S] or uint8 [N, S, S, 3], by RGB pixels float32 [N, 3, R, R]
    of the values 0..255, R the preprocessing's `resize`: for inference elements that can resize an image and scale all
    channels alike, and nothing more.

    The graph takes the centre crop at the stride and, where it did not do so already, normalises with the arithmetic
    of `uint8_input`, which gives the runtime's values where pixels are whole numbers.

    Raises EdgefelError if the input is neither of these, or its side is not the preprocessing's.
    """
    kind = _check_input(model, preprocessing, "pixel input", (TensorProto.FLOAT, TensorProto.UINT8))
    steps = _InputSteps(model, "pixels")
    window = _crop(steps, preprocessing)
    if preprocessing.colour == "grey":
        luma = np.tile(np.array(LUMA, np.float32)[:, None, None], (3, 1, 1, 1))
        half = steps.constant(np.full(3, 0.5, np.float32), "half")
        window = steps.add("Floor", steps.add("Conv", window, steps.constant(luma, "luma"), half))
    if kind == TensorProto.UINT8:
        result = steps.add("Transpose", window, perm=[0, 2, 3, 1])
        _skip_casts(steps, result)
    else:
        result = steps.normalise(window, SplitNormalisation.of(preprocessing))
    return steps.finish(result, TensorProto.FLOAT, (3, preprocessing.resize, preprocessing.resize))


def _crop(steps: _InputSteps, preprocessing: Preprocessing) -> str:
    """The centre crop at the stride: what `Preprocessing` takes of the resized image."""
    start = (preprocessing.resize - preprocessing.crop) // 2
    ranges = {"starts": start, "ends": start + preprocessing.crop, "steps": preprocessing.stride}
    starts, ends, strides = (steps.constant(np.full(2, at, np.int64), name) for name, at in ranges.items())
    return steps.add("Slice", INPUT_NAME, starts, ends, steps.constant(np.array([2, 3]), "axes"), strides)


def _skip_casts(steps: _InputSteps, pixels: str) -> None:
    """The graph casts its uint8 input to float32 first; what reads the result reads `pixels` instead."""
    if wrong := [
        node.name
        for node in steps.readers
        if node.op_type != "Cast" or attribute(node, "to") != TensorProto.FLOAT
    ]:
        raise EdgefelError(
            f"pixel input: {', '.join(wrong)} reads the uint8 input and is no Cast to float; export the bundle again"
        )
    for cast in steps.readers:
        steps.rewrite.redirect(cast.output[0], pixels)
