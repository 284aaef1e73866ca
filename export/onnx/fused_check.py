"""Compares the body of a fused operator with the reference of its kernel, on random numbers, in ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime
from onnx import FunctionProto, helper

from edgefel.calib.graph import Array

_BATCH = 2
# of the largest value; FP16 rounds the softmax and products of it
_TOLERANCE = {np.dtype(np.float32): 1e-5, np.dtype(np.float16): 1e-2}


def check_attention(function: FunctionProto, sizes: Mapping[str, int | float], dtype: np.dtype[Any]) -> None:
    """Raises RuntimeError unless the body says what `window_cross_attention` does. sizes: the node's attributes."""
    import torch

    from edgefel.kernels.window_cross_attention.reference import window_cross_attention

    window, heads, width = (int(sizes[name]) for name in ("window", "heads", "width"))
    random, tokens = np.random.default_rng(0), window * window
    q = random.standard_normal((_BATCH, heads, tokens, width)).astype(dtype)
    kv = random.standard_normal((_BATCH, tokens, 2 * heads * width)).astype(dtype)
    table = random.standard_normal(((2 * window - 1) ** 2, heads)).astype(dtype)
    wide = [torch.from_numpy(x.astype(np.float64)) for x in (q, kv, table)]
    k, v = (x.unflatten(-1, (heads, width)).transpose(1, 2) for x in wide[1].chunk(2, dim=-1))
    exact = window_cross_attention(wide[0], k, v, wide[2], window, float(sizes["scale"]))
    _compare(function, [q, kv, table], [exact.numpy()])


def check_balance(function: FunctionProto, sizes: Mapping[str, int | float], anchors: Array | None) -> None:
    """Raises RuntimeError unless the body says what `reliability_balance` does. sizes: the node's attributes.

    anchors: as the node gets them.
    """
    import torch

    from edgefel.kernels.reliability_balance.reference import reliability_balance

    classes, width = int(sizes["classes"]), int(sizes["width"])
    random = np.random.default_rng(0)
    logits, e, attentive = (
        random.standard_normal((_BATCH, count)).astype(np.float32) for count in (classes, width, classes)
    )
    wide = [torch.from_numpy(x.astype(np.float64)) for x in (logits, e, attentive)]
    given = None if anchors is None else torch.from_numpy(anchors.astype(np.float64)).view(classes, -1, width)
    attended = wide[2] if sizes["attentive"] else None
    exact = reliability_balance(wide[0], wide[1], given, attended, 1.0 / float(sizes["inverse_delta"]))
    inputs = [logits, e, logits if anchors is None else anchors, attentive if sizes["attentive"] else logits]
    _compare(function, inputs, [x.numpy() for x in exact])


def _compare(function: FunctionProto, inputs: Sequence[Array], exact: Sequence[Array]) -> None:
    """exact: the outputs, in their order."""
    values = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
        for name, value in zip(function.input, inputs, strict=True)
    ]
    kind = values[0].type.tensor_type.elem_type
    outputs = [helper.make_tensor_value_info(name, kind, None) for name in function.output]
    graph = helper.make_graph(list(function.node), function.name, values, outputs)
    opsets = list(function.opset_import)
    version = helper.find_min_ir_version_for(opsets)
    model = helper.make_model(graph, opset_imports=opsets, ir_version=version)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found = session.run(None, dict(zip(function.input, inputs, strict=True)))
    for name, one, wanted in zip(function.output, found, exact, strict=True):
        limit = _TOLERANCE[inputs[0].dtype] * max(1.0, float(np.abs(wanted).max()))
        difference = np.abs(one.astype(np.float64) - wanted).max() if one.shape == wanted.shape else np.inf
        if not difference <= limit:
            raise RuntimeError(
                f"operator {function.name}: its body differs from the kernel's reference by {difference:.1e} in {name}"
            )
