"""A network in the format of YuNet's file."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def yunet_like(path, eyes=((-14, -8), (14, -4)), face=(64, 80), sides=("height", "width")):
    """A network with YuNet's outputs: a face of this width and height around the centre of every bright cell, with
    eyes at these places beside the centre. sides: of its input, names where any may be given."""
    nodes, constants, outputs = [], {}, []
    shape = np.array([1, -1, 0], np.int64)
    for stride in (8, 16, 32):
        for name, channels in (("cls", 1), ("obj", 1), ("bbox", 4), ("kps", 10)):
            weight = np.zeros((channels, 3, stride, stride), np.float32)
            bias = np.zeros(channels, np.float32)
            if name == "cls" and stride == 16:
                weight[:] = 1 / (3 * 255 * stride * stride)  # mean brightness, 0..1
            if name == "obj":
                bias[:] = 0.9
            if name == "bbox":
                bias[:] = (0.5, 0.5, *np.log(np.array(face) / stride))
            if name == "kps":
                bias[:4] = np.ravel(eyes) / stride + 0.5
            key = f"{name}_{stride}"
            constants |= {f"{key}_w": weight, f"{key}_b": bias}
            constants[f"{key}_shape"] = np.array([1, -1, channels], shape.dtype)
            inputs = ["input", f"{key}_w", f"{key}_b"]
            nodes += [
                helper.make_node(
                    "Conv", inputs, [f"{key}_map"], strides=[stride] * 2, kernel_shape=[stride] * 2
                ),
                helper.make_node("Transpose", [f"{key}_map"], [f"{key}_last"], perm=[0, 2, 3, 1]),
                helper.make_node("Reshape", [f"{key}_last", f"{key}_shape"], [key]),
            ]
            outputs.append(helper.make_tensor_value_info(key, TensorProto.FLOAT, [1, None, channels]))
    graph = helper.make_graph(
        nodes,
        "yunet-like",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, *sides])],
        outputs,
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=6), path)
    return path
