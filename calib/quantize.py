"""Writes Q/DQ nodes into an ONNX graph: weights symmetric and per channel, biases left in float; activations signed
and symmetric, or unsigned and asymmetric, as the placement's policy wants.

The nodes are edgefel's own rather than `onnxruntime.quantization.quantize_static`'s: the placement is then
exactly what `placement.place` says, for both runtimes, and files are the same bytes on every run.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from edgefel.calib.graph import GraphIndex, rename_inputs, set_nodes
from edgefel.calib.placement import Placement
from edgefel.calib.thresholds import QMAX

# of uint8: the levels above the lowest, and the zero point that makes them symmetric
LEVELS, MIDDLE = 255, 128


def quantize(
    model: onnx.ModelProto,
    placement: Placement,
    scales: Mapping[str, np.float32],
    ends: Mapping[str, tuple[float, float]] | None = None,
) -> onnx.ModelProto:
    """A copy of the float graph with Q/DQ nodes.

    scales: of every activation of the placement, symmetric. ends: the least and the largest value of the activations,
    which an unsigned policy spreads its 256 levels over (`affine`); an activation without them keeps its scale, with
    the zero point 128. Weights are stored as INT8 with a DequantizeLinear per tensor and zero points 0; an activation x
    becomes x -> `x/QuantizeLinear` -> `x/DequantizeLinear`. Raises KeyError for an activation without a scale.
    """
    quantized = copy.deepcopy(model)
    _Quantizer(quantized, placement, scales, ends or {}).run()
    return quantized


def affine(low: float, high: float) -> tuple[np.float32, np.uint8]:
    """Scale and zero point that spread 0 to 255 over the range from `low` to `high`, which is widened to hold 0.

    Zero is exact, since convolutions are padded with it: x is kept as clip(round(x / scale) + zero point, 0, 255).
    """
    low, high = min(low, 0.0), max(high, 0.0)
    scale = max(np.float32((high - low) / LEVELS), np.finfo(np.float32).tiny)
    return scale, np.uint8(np.clip(np.rint(-low / float(scale)), 0, LEVELS))


def quantize_weight(
    weight: npt.NDArray[np.float32], axis: int
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """INT8 values of `weight`'s shape and FP32 scales [channels of `axis`]; scale = max|w| / 127.

    A channel of zeros gets scale 1.
    """
    others = tuple(i for i in range(weight.ndim) if i != axis)
    top = np.abs(weight).max(axis=others, keepdims=True)
    scale = np.where(top > 0, top / QMAX, 1.0).astype(np.float32)
    values = np.clip(np.rint(weight / scale), -QMAX, QMAX).astype(np.int8)
    return values, scale.ravel()


class _Quantizer:
    def __init__(
        self,
        model: onnx.ModelProto,
        placement: Placement,
        scales: Mapping[str, np.float32],
        ends: Mapping[str, tuple[float, float]],
    ) -> None:
        self.graph = model.graph
        self.placement = placement
        self.scales = scales
        self.ends = ends
        self.index = GraphIndex(self.graph)
        self.tensors: list[TensorProto] = []
        self.after: dict[str, list[NodeProto]] = {}
        self.first: list[NodeProto] = []

    def run(self) -> None:
        chosen = frozenset(self.placement.nodes)
        for name, axis in self.placement.weights.items():
            self._quantize_weight(name, axis, chosen)
        for name in self.placement.activations:
            self._quantize_activation(name, chosen)
        nodes = [*self.first]
        for node in self.graph.node:
            nodes += [node, *self.after.get(node.name, [])]
        set_nodes(self.graph, nodes, self.tensors)

    def _quantize_activation(self, name: str, chosen: frozenset[str]) -> None:
        readers = self.index.consumers.get(name, [])
        in_int8 = [
            node for node in readers if node.name in chosen or self.placement.residuals.get(node.name) == name
        ]
        whole = name in self.placement.outputs
        rename_inputs(readers if whole else in_int8, name, self._pair(name))

    def _insert(self, behind: str, nodes: list[NodeProto]) -> None:
        """Puts nodes behind the one that makes the tensor `behind`."""
        producer = self.index.producers.get(behind)
        (self.first if producer is None else self.after.setdefault(producer.name, [])).extend(nodes)

    def _grid(self, name: str) -> tuple[np.float32, np.int8 | np.uint8]:
        """Scale and zero point of an activation, the zero point in the type of its levels."""
        scale = np.float32(self.scales[name])
        if not self.placement.policy.unsigned:
            return scale, np.int8(0)
        return affine(*self.ends[name]) if name in self.ends else (scale, np.uint8(MIDDLE))

    def _pair(self, name: str) -> str:
        """Inserts Q and DQ behind `name`; returns the result's name."""
        scale, zero = f"{name}.scale", f"{name}.zero"
        value, level = self._grid(name)
        self.tensors.append(numpy_helper.from_array(np.asarray(value, dtype=np.float32), scale))
        self.tensors.append(numpy_helper.from_array(np.asarray(level), zero))
        middle, result = f"{name}.int8", f"{name}.dequantized"
        quantizer = helper.make_node(
            "QuantizeLinear", [name, scale, zero], [middle], f"{name}/QuantizeLinear"
        )
        back = helper.make_node(
            "DequantizeLinear", [middle, scale, zero], [result], f"{name}/DequantizeLinear"
        )
        self._insert(name, [quantizer, back])
        return result

    def _quantize_weight(self, name: str, axis: int, chosen: frozenset[str]) -> None:
        values, scales = quantize_weight(numpy_helper.to_array(self.index.initializers[name]), axis)
        stored, scale, zero, result = f"{name}.int8", f"{name}.scale", f"{name}.zero", f"{name}.dequantized"
        self.tensors.append(numpy_helper.from_array(values, stored))
        self.tensors.append(numpy_helper.from_array(scales, scale))
        self.tensors.append(numpy_helper.from_array(np.zeros(scales.shape, dtype=np.int8), zero))
        self.first.append(
            helper.make_node(
                "DequantizeLinear", [stored, scale, zero], [result], f"{name}/DequantizeLinear", axis=axis
            )
        )
        rename_inputs((node for node in self.index.consumers[name] if node.name in chosen), name, result)
