"""Crop, stride and normalisation in the graph: the input becomes the resized pixels, float32 0..255.

For inference elements that can resize an image and scale all channels alike, and nothing more.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto

from edgefel.calib.graph import attribute
from edgefel.data.preprocessing import Preprocessing
from edgefel.errors import EdgefelError
from edgefel.export.onnx.uint8_input import InputSteps, SplitNormalisation, check_input
from edgefel.runtime.manifest import INPUT_NAME

SCOPE = "pixels"


def pixel_input(model: onnx.ModelProto, preprocessing: Preprocessing) -> onnx.ModelProto:
    """Replaces the input `image`, float32 [N, 3, S, S] or uint8 [N, S, S, 3], by RGB pixels float32 [N, 3, R, R]
    of the values 0..255, R the preprocessing's `resize`.

    The graph takes the centre crop at the stride and, where it did not do so already, normalises with the arithmetic
    of `uint8_input`, which gives the runtime's values where pixels are whole numbers.

    Raises EdgefelError if the input is neither of these, or its side is not the preprocessing's.
    """
    kind = check_input(model, preprocessing, "pixel input", (TensorProto.FLOAT, TensorProto.UINT8))
    steps = InputSteps(model, SCOPE)
    window = _crop(steps, preprocessing)
    if kind == TensorProto.UINT8:
        result = steps.add("Transpose", window, perm=[0, 2, 3, 1])
        _skip_casts(steps, result)
    else:
        result = steps.normalise(window, SplitNormalisation.of(preprocessing))
    return steps.finish(result, TensorProto.FLOAT, (3, preprocessing.resize, preprocessing.resize))


def _crop(steps: InputSteps, preprocessing: Preprocessing) -> str:
    """The centre crop at the stride: what `Preprocessing` takes of the resized image."""
    start = (preprocessing.resize - preprocessing.crop) // 2
    ranges = {"starts": start, "ends": start + preprocessing.crop, "steps": preprocessing.stride}
    starts, ends, strides = (steps.constant(np.full(2, at, np.int64), name) for name, at in ranges.items())
    return steps.add("Slice", INPUT_NAME, starts, ends, steps.constant(np.array([2, 3]), "axes"), strides)


def _skip_casts(steps: InputSteps, pixels: str) -> None:
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
