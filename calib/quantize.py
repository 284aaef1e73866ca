"""Writes Q/DQ nodes into an ONNX graph: symmetric INT8, weights per channel, biases left in float.

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


def quantize(
    model: onnx.ModelProto, placement: Placement, scales: Mapping[str, np.float32]
) -> onnx.ModelProto:
    """A copy of the float graph with Q/DQ nodes.

    `scales` holds the scale of every activation of the placement. Weights are stored as INT8 with a
    DequantizeLinear per tensor; an activation x becomes x -> `x/QuantizeLinear` -> `x/DequantizeLinear`, and
    `x.2/...` and so on for its further readers where the policy wants single ones. Zero points are 0
    (TensorRT accepts no other). Raises KeyError for an activation without a scale.
    """
    quantized = copy.deepcopy(model)
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
        if not self.placement.policy.single_readers:
            rename_inputs(readers if whole else in_int8, name, self._pair(name, name))
        elif whole:
            self._read_copies(name, readers, in_int8)
        else:
            for number, node in enumerate(in_int8, start=1):
                rename_inputs([node], name, self._pair(name, name if number == 1 else f"{name}.{number}"))

    def _read_copies(self, name: str, readers: list[NodeProto], in_int8: list[NodeProto]) -> None:
        """Q/DQ for all readers of `name`, each QuantizeLinear with one reader.

        Several readers share a float copy of the first pair's result; those that compute in INT8 quantize it
        again with the same scale, which changes nothing. The copy is a Sum of one tensor, which ONNX Runtime
        does not optimize away as it would an Identity.
        """
        result = self._pair(name, name)
        if len(readers) == 1:
            rename_inputs(readers, name, result)
            return
        copy = f"{name}.copy"
        self._insert(name, [helper.make_node("Sum", [result], [copy], f"{name}/Sum")])
        for node in readers:
            if node not in in_int8:
                rename_inputs([node], name, copy)
        for number, node in enumerate(in_int8, start=2):
            rename_inputs([node], name, self._pair(name, f"{name}.{number}", source=copy))

    def _insert(self, behind: str, nodes: list[NodeProto]) -> None:
        """Puts nodes behind the one that makes the tensor `behind`."""
        producer = self.index.producers.get(behind)
        (self.first if producer is None else self.after.setdefault(producer.name, [])).extend(nodes)

    def _pair(self, name: str, prefix: str, source: str | None = None) -> str:
        """Inserts Q and DQ with the scale of `name` on `source` (itself by default); returns the result's name."""
        scale, zero = f"{prefix}.scale", f"{prefix}.zero"
        self.tensors.append(numpy_helper.from_array(np.asarray(self.scales[name], dtype=np.float32), scale))
        self.tensors.append(numpy_helper.from_array(np.asarray(0, dtype=np.int8), zero))
        middle, result = f"{prefix}.int8", f"{prefix}.dequantized"
        quantizer = helper.make_node(
            "QuantizeLinear", [source or name, scale, zero], [middle], f"{prefix}/QuantizeLinear"
        )
        back = helper.make_node(
            "DequantizeLinear", [middle, scale, zero], [result], f"{prefix}/DequantizeLinear"
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
