"""The tiny model with labels that differ from picture to picture, as a trained one's do."""

from __future__ import annotations

import copy
import functools

import cv2
import numpy as np
import onnx
import torch
from exported import run_torch, tiny_graph, tiny_model
from onnx import numpy_helper

from edgefel.runtime.preprocessing import default_preprocessing

PREPROCESSING = default_preprocessing(112)
_SPREAD = 3.0


@functools.cache
def pictures(count: int = 48) -> tuple[np.ndarray, ...]:
    """Smooth random pictures, uint8 [112, 112, 3]."""
    rng = np.random.default_rng(0)
    return tuple(
        cv2.resize(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8), (112, 112), interpolation=cv2.INTER_CUBIC)
        for _ in range(count)
    )


@functools.cache
def opinionated() -> tuple[torch.nn.Module, onnx.ModelProto]:
    """The model and its graph: logits are centred and scaled over `pictures`, in the last layer's weights."""
    model = copy.deepcopy(tiny_model())
    logits = run_torch(model, PREPROCESSING.batch(pictures()))["logits"]
    gain, mean = (_SPREAD / logits.std(0)).astype(np.float32), logits.mean(0)
    last = [module for module in model.head.classifier if isinstance(module, torch.nn.Linear)][-1]
    with torch.no_grad():
        last.weight.mul_(torch.from_numpy(gain)[:, None])
        last.bias.sub_(torch.from_numpy(mean)).mul_(torch.from_numpy(gain))
    graph = onnx.ModelProto()
    graph.CopyFrom(tiny_graph())
    node = next(node for node in graph.graph.node if "logits" in node.output)
    for tensor in graph.graph.initializer:
        if tensor.name == node.input[1]:
            weight = numpy_helper.to_array(tensor)
            scaled = weight * (gain[:, None] if weight.shape[0] == len(gain) else gain[None, :])
            tensor.CopyFrom(numpy_helper.from_array(scaled, tensor.name))
        elif tensor.name == node.input[2]:
            bias = (numpy_helper.to_array(tensor) - mean) * gain
            tensor.CopyFrom(numpy_helper.from_array(bias, tensor.name))
    return model.eval(), graph
