"""Crop, stride and normalisation in the graph: the input becomes the resized pixels, float32 0..255.

For inference elements that can resize an image and scale all channels alike, and nothing more.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper

from edgefel.data.preprocessing import Preprocessing
from edgefel.errors import EdgefelError
from edgefel.export.onnx.rewrite import Array, Rewrite, attribute
from edgefel.export.onnx.uint8_input import SplitNormalisation
from edgefel.runtime.manifest import INPUT_NAME

SCOPE = "pixels"


def pixel_input(model: onnx.ModelProto, preprocessing: Preprocessing) -> onnx.ModelProto:
    """Replaces the input `image`, float32 [N, 3, S, S] or uint8 [N, S, S, 3], by RGB pixels float32 [N, 3, R, R]
    of the values 0..255, R the preprocessing's `resize`.

    The graph takes the centre crop at the stride and, where it did not do so already, normalises with the arithmetic
    of `uint8_input`, which gives the runtime's values where pixels are whole numbers.

    Raises EdgefelError if the input is neither of these, or its side is not the preprocessing's.
    """
    in_graph = _normalises_itself(model, preprocessing)
    rewrite = Rewrite(model)
    readers = [node for node in rewrite.index.consumers.get(INPUT_NAME, []) if not _reads_batch_only(node)]
    steps = _Steps(rewrite)
    window = steps.crop(preprocessing)
    if in_graph:
        _replace_casts(rewrite, readers, steps.add("Transpose", window, perm=[0, 2, 3, 1]))
    else:
        normalised = steps.normalise(window, preprocessing)
        for node in readers:
            node.input[:] = [normalised if name == INPUT_NAME else name for name in node.input]
    rewrite.replace([], steps.nodes, at=rewrite.nodes[0])
    tensor_type = rewrite.graph.input[0].type.tensor_type
    tensor_type.elem_type = TensorProto.FLOAT
    for dim, size in zip(
        tensor_type.shape.dim[1:], (3, preprocessing.resize, preprocessing.resize), strict=True
    ):
        dim.dim_value = size
    return rewrite.result()


class _Steps:
    """New nodes in front of a graph."""

    def __init__(self, rewrite: Rewrite) -> None:
        self.rewrite = rewrite
        self.nodes: list[NodeProto] = []

    def add(self, op_type: str, *inputs: str, **attributes: Any) -> str:
        """The name of the node's output."""
        name = self.rewrite.unique(f"{SCOPE}/{op_type}")
        self.nodes.append(helper.make_node(op_type, inputs, [f"{name}:0"], name, **attributes))
        return f"{name}:0"

    def constant(self, values: Array, name: str) -> str:
        """The name of the initializer."""
        return self.rewrite.add_constant(values, f"{SCOPE}.{name}")

    def crop(self, preprocessing: Preprocessing) -> str:
        """The centre crop at the stride: what `Preprocessing` takes of the resized image."""
        start = (preprocessing.resize - preprocessing.crop) // 2
        ranges = {"starts": start, "ends": start + preprocessing.crop, "steps": preprocessing.stride}
        starts, ends, strides = (self.constant(np.full(2, at, np.int64), name) for name, at in ranges.items())
        return self.add("Slice", INPUT_NAME, starts, ends, self.constant(np.array([2, 3]), "axes"), strides)

    def normalise(self, pixels: str, preprocessing: Preprocessing) -> str:
        """(x / 255 - mean) / std as the runtime rounds it; see `uint8_input`."""
        split = SplitNormalisation.of(preprocessing)
        terms = []
        for scale, shift in (("scale", "shift"), ("fine_scale", "fine_shift")):
            factor, offset = (
                self.constant(getattr(split, name).reshape(1, 3, 1, 1), name) for name in (scale, shift)
            )
            terms.append(self.add("Add", self.add("Mul", pixels, factor), offset))
        return self.add("Add", *terms)


def _normalises_itself(model: onnx.ModelProto, preprocessing: Preprocessing) -> bool:
    """Whether the graph takes uint8."""
    side = preprocessing.output_size
    found = model.graph.input[0].type.tensor_type
    shape = [dim.dim_value for dim in found.shape.dim[1:]]
    known = {TensorProto.FLOAT: [3, side, side], TensorProto.UINT8: [side, side, 3]}
    if known.get(found.elem_type) != shape:
        kind = TensorProto.DataType.Name(found.elem_type).lower()
        raise EdgefelError(
            f"pixel input: the graph takes {kind} [N, {', '.join(map(str, shape))}], the preprocessing makes float "
            f"[N, 3, {side}, {side}] or uint8 [N, {side}, {side}, 3]; give the graph "
            "and the preprocessing of one export"
        )
    return bool(found.elem_type == TensorProto.UINT8)


def _replace_casts(rewrite: Rewrite, readers: list[NodeProto], pixels: str) -> None:
    """The graph casts its uint8 input to float32 first; what reads the result reads `pixels` instead."""
    if wrong := [
        node.name for node in readers if node.op_type != "Cast" or attribute(node, "to") != TensorProto.FLOAT
    ]:
        raise EdgefelError(
            f"pixel input: {', '.join(wrong)} reads the uint8 input and is no Cast to float; export the bundle again"
        )
    for cast in readers:
        rewrite.redirect(cast.output[0], pixels)


def _reads_batch_only(node: NodeProto) -> bool:
    """A Shape of the batch axis: it reads the pixels just as well."""
    return node.op_type == "Shape" and (attribute(node, "start", 0), attribute(node, "end")) == (0, 1)
