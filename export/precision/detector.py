"""YuNet's file in FP16, or in INT8 over FP16 for TensorRT, calibrated on photographs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import onnx
from onnx import version_converter

from edgefel.calib.collect import activation_scales, collect_activations
from edgefel.calib.graph import GraphIndex
from edgefel.calib.placement import TENSORRT, Placement, place
from edgefel.calib.quantize import quantize
from edgefel.calib.thresholds import CalibrationMethod
from edgefel.data.preprocessing import Image, Tensor
from edgefel.errors import EdgefelError
from edgefel.export.precision.half import to_half
from edgefel.progress import SILENT, Progress
from edgefel.runtime.manifest import INPUT_NAME
from edgefel.runtime.searching import shrink
from edgefel.runtime.yunet_backend import INPUT
from edgefel.text import one_line

OPSET, IR_VERSION = 19, 9  # the first with FP16 scales of Q/DQ
METHOD: CalibrationMethod = "mse"
CANVAS = (
    640  # side of the images that calibrate, which are shrunk to it and padded with zeros, as in a search
)


def detector_graph(data: bytes) -> onnx.ModelProto:
    """YuNet's file, FP32, in OPSET; every node has a name. Raises EdgefelError for what is no ONNX file."""
    try:
        model = version_converter.convert_version(onnx.load_from_string(data), OPSET)
    except Exception as error:  # of protobuf, or of the converter in C++
        raise EdgefelError(
            f"detector: its ONNX file cannot be read ({one_line(error)}); give YuNet's"
        ) from None
    model.ir_version = IR_VERSION
    for number, node in enumerate(model.graph.node):
        node.name = node.name or f"{node.op_type}_{number}"
    onnx.checker.check_model(model, full_check=True)
    return model


def half_detector(graph: onnx.ModelProto) -> onnx.ModelProto:
    """All of it in FP16, with inputs and outputs in FP32."""
    return to_half(graph, ())[0]


def int8_detector(
    graph: onnx.ModelProto, images: Iterable[Image], progress: Progress = SILENT
) -> tuple[onnx.ModelProto, Placement]:
    """INT8 where it pays, FP16 elsewhere, with Q/DQ nodes where TensorRT wants them; and which nodes are which.

    images: uint8 RGB [H, W, 3] of any sizes. The first convolution and those behind the last activation stay in FP16:
    with them in INT8 boxes lie further off, and they are a small part of the work.
    Raises EdgefelError without an image, or for a graph that is not YuNet's.
    """
    placement = place(graph, TENSORRT, _kept_float(graph))
    named = {name: INPUT_NAME if name == INPUT else name for name in placement.activations}
    histograms = collect_activations(
        _for_calibration(graph), list(named.values()), map(_canvas, images), progress.advance
    )
    scales = activation_scales(histograms, METHOD)
    quantized = quantize(graph, placement, {name: scales[given] for name, given in named.items()})
    return half_detector(quantized), placement


def _kept_float(graph: onnx.ModelProto) -> Mapping[str, str]:
    """Convolutions that stay in float, and why."""
    index = GraphIndex(graph.graph)
    kept = {
        node.name: "reads the image" for node in index.consumers.get(INPUT, []) if index.is_weighted(node)
    }
    behind, tensors = set(), list(index.outputs)
    while tensors:
        node = index.producers.get(tensors.pop())
        if node is not None and node.op_type != "Relu" and node.name not in behind:
            behind.add(node.name)
            tensors.extend(node.input)
    last = [node for node in index.order if node.name in behind and index.is_weighted(node)]
    return kept | {node.name: "behind the last activation" for node in last}


def _for_calibration(graph: onnx.ModelProto) -> onnx.ModelProto:
    """A copy with the input that calibration expects: `image` [1, 3, CANVAS, CANVAS]."""
    copy = onnx.ModelProto()
    copy.CopyFrom(graph)
    for node in copy.graph.node:
        node.input[:] = [INPUT_NAME if name == INPUT else name for name in node.input]
    (value,) = copy.graph.input
    value.name = INPUT_NAME
    for dim, side in zip(value.type.tensor_type.shape.dim, (1, 3, CANVAS, CANVAS), strict=True):
        dim.dim_value = side
    return copy


def _canvas(image: Image) -> Tensor:
    """uint8 RGB [H, W, 3] -> float32 BGR [1, 3, CANVAS, CANVAS], 0..255."""
    small, _ = shrink(image, CANVAS)
    out = np.zeros((1, 3, CANVAS, CANVAS), np.float32)
    out[0, :, : small.shape[0], : small.shape[1]] = small[..., ::-1].transpose(2, 0, 1)
    return out
