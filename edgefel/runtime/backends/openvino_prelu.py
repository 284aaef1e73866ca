"""PReLU as OpenVINO's CPU plugin fuses it into the convolution in front of it."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from edgefel.runtime.backends.base import Array


def own_prelus(network: Any) -> int:
    """Gives a network (`openvino.Model`), in place, PReLUs that the plugin fuses; returns how many were written.

    Files for ONNX Runtime have Max(x, a x) in the place of PReLU(x, a), which the plugin runs as a kernel of its own.
    So it runs PReLUs that share a constant, which is how they are exported where all slopes are equal. Slopes must be
    constant, and in the Max at most 1. Exact: the same products are rounded once. Names of nodes and tensors stay.
    """
    ops = importlib.import_module("openvino.opset8")
    count = 0
    for node in network.get_ordered_ops():
        found = _shared_prelu(node) if node.get_type_name() == "PRelu" else _spread_prelu(node)
        if found is None:
            continue
        value, slopes = found
        made = ops.prelu(value, ops.constant(slopes))
        made.set_friendly_name(node.get_friendly_name())
        made.output(0).set_names(node.output(0).get_names())
        for reader in node.output(0).get_target_inputs():
            reader.replace_source_output(made.output(0))
        count += 1
    return count


def _shared_prelu(node: Any) -> tuple[Any, Array] | None:
    """Input and slopes of a PReLU whose slopes are a constant that others read too."""
    slopes = node.input_value(1)
    shared = _is_constant(slopes) and len(slopes.get_target_inputs()) > 1
    return (node.input_value(0), np.array(slopes.get_node().data)) if shared else None


def _spread_prelu(node: Any) -> tuple[Any, Array] | None:
    """Input and slopes of Max(x, a x), in any order of the operands."""
    if node.get_type_name() != "Maximum":
        return None
    for number in (0, 1):
        value, scaled = node.input_value(number), node.input_value(1 - number).get_node()
        if scaled.get_type_name() != "Multiply":
            continue
        for place in (0, 1):
            slopes = scaled.input_value(place)
            if scaled.input_value(1 - place) != value or not _is_constant(slopes):
                continue
            if (by_channel := _by_channel(slopes, value)) is not None:
                return value, by_channel
    return None


def _is_constant(port: Any) -> bool:
    return bool(port.get_node().get_type_name() == "Constant")


def _by_channel(slopes: Any, value: Any) -> Array | None:
    """Slopes of at most 1, one for each channel of [N, C, ...] or one for all, as [1, C, 1, ...]; None for others."""
    data, shape = np.array(slopes.get_node().data), value.get_partial_shape()
    if shape.rank.is_dynamic or data.ndim > len(shape) or not (data <= 1).all():
        return None
    sides = (1,) * (len(shape) - data.ndim) + data.shape
    if any(side != 1 for place, side in enumerate(sides) if place != 1):
        return None
    return data.reshape(sides)
