"""Writes Q/DQ nodes into an ONNX graph: symmetric INT8, weights per channel, biases left in float.

The nodes are edgefel's own rather than `onnxruntime.quantization.quantize_static`'s: the placement is then
exactly what `placement.place` says, for both runtimes, and files are the same bytes on every run.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from edgefel.calib.collect import QMAX
from edgefel.calib.graph import GraphIndex
from edgefel.calib.placement import Placement


def quantize(
    model: onnx.ModelProto, placement: Placement, scales: Mapping[str, np.float32]
) -> onnx.ModelProto:
    """A copy of the float graph with Q/DQ nodes.

    `scales` holds the scale of every activation of the placement. Weights are stored as INT8 with a
    DequantizeLinear per tensor; an activation x becomes x -> `x/QuantizeLinear` -> `x/DequantizeLinear`.
    Zero points are 0 (TensorRT accepts no other). Raises KeyError for an activation without a scale.
    """
    quantized = onnx.ModelProto()
    quantized.CopyFrom(model)
    _Quantizer(quantized, placement, scales).run()
    return quantized


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
        self, model: onnx.ModelProto, placement: Placement, scales: Mapping[str, np.float32]
    ) -> None:
        self.graph = model.graph
        self.placement = placement
        self.scales = scales
        self.index = GraphIndex(self.graph)
        self.tensors: list[TensorProto] = []
        self.after: dict[str, list[NodeProto]] = {}
        self.first: list[NodeProto] = []

    def run(self) -> None:
        chosen = frozenset(self.placement.nodes)
        for weight in self.placement.weights:
            self._quantize_weight(weight.tensor, weight.axis, chosen)
        for name in self.placement.activations:
            pair, result = self._pair(name)
            producer = self.index.producers.get(name)
            if producer is None:
                self.first.extend(pair)
            else:
                self.after.setdefault(producer.name, []).extend(pair)
            whole = name in self.placement.outputs
            for consumer in self.index.consumers.get(name, []):
                if whole or consumer.name in chosen:
                    _replace_input(consumer, name, result)
        self._write_back()

    def _pair(self, name: str) -> tuple[list[NodeProto], str]:
        scale, zero = f"{name}.scale", f"{name}.zero"
        self.tensors.append(numpy_helper.from_array(np.asarray(self.scales[name], dtype=np.float32), scale))
        self.tensors.append(numpy_helper.from_array(np.asarray(0, dtype=np.int8), zero))
        middle, result = f"{name}.int8", f"{name}.dequantized"
        return [
            helper.make_node("QuantizeLinear", [name, scale, zero], [middle], f"{name}/QuantizeLinear"),
            helper.make_node("DequantizeLinear", [middle, scale, zero], [result], f"{name}/DequantizeLinear"),
        ], result

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
        for consumer in self.index.consumers[name]:
            if consumer.name in chosen:
                _replace_input(consumer, name, result)

    def _write_back(self) -> None:
        nodes = list(self.first)
        for node in self.graph.node:
            nodes.append(node)
            nodes.extend(self.after.get(node.name, []))
        used = {name for node in nodes for name in node.input}
        tensors = [tensor for tensor in [*self.graph.initializer, *self.tensors] if tensor.name in used]
        for field, items in ((self.graph.node, nodes), (self.graph.initializer, tensors)):
            del field[:]
            field.extend(items)
        del self.graph.value_info[:]


def _replace_input(node: NodeProto, old: str, new: str) -> None:
    node.input[:] = [new if name == old else name for name in node.input]
