"""FP8 and weight-only graphs: formats that TensorRT has beside FP16 and INT8, over FP16.

| precision | activations | weights | operators |
| --- | --- | --- | --- |
| fp8 | FP8 (E4M3), one scale a tensor | FP8, a scale per output channel | Conv, Gemm, MatMul |
| w8a16 | FP16 | INT8, a scale per output channel | Gemm, MatMul |
| w4a16 | FP16 | INT4, a scale for 64 weights | Gemm, MatMul |

TensorRT has kernels for INT8 and INT4 weights beside float activations for matrix products alone (support matrix of
TensorRT for RTX: "INT8 WoQ GEMM", "INT4 WoQ GEMM").
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from edgefel.calib.formats import BLOCK, fp8_scale, fp8_weight, int4_weight, int8_weight, packed_int4
from edgefel.calib.graph import GraphIndex, rename_inputs, set_nodes
from edgefel.calib.placement import Placement, PlacementPolicy, place
from edgefel.errors import EdgefelError
from edgefel.runtime.manifest import ENGINE_FORMATS

FORMATS = ENGINE_FORMATS
INT4_OPSET, INT4_IR = 21, 10  # the first with INT4, and with blocks in DequantizeLinear
# TensorRT has no FP8 kernels for other convolutions, or slower ones than FP16's (NVIDIA ModelOpt leaves them out too)
FP8_LEAST_CHANNELS, FP8_LARGEST_KERNEL = 17, 32
_E4M3 = TensorProto.FLOAT8E4M3FN
_POLICIES = {name: PlacementPolicy(name) for name in FORMATS}


def place_format(graph: onnx.ModelProto, precision: str) -> Placement:
    """What of a float graph is in this format. Raises EdgefelError if nothing is."""
    index = GraphIndex(graph.graph)
    policy = _POLICIES[precision]
    first = place(graph, policy)
    reasons = {name: _kept(index, index.nodes[name], first, precision) for name in first.nodes}
    kept = {name: reason for name, reason in reasons.items() if reason is not None}
    if len(kept) == len(first.nodes):
        raise EdgefelError(
            f"precision {precision}: the graph has no layer that it is for ({next(iter(kept.values()))})"
        )
    return place(graph, policy, kept)


def _kept(index: GraphIndex, node: NodeProto, placement: Placement, precision: str) -> str | None:
    """Why the node stays in FP16; None if it does not."""
    weight = node.input[1]
    dims = list(index.initializers[weight].dims)
    if node.op_type == "Conv":
        if precision != "fp8":
            return "TensorRT has weight-only kernels for matrix products alone"
        if min(dims[:2]) < FP8_LEAST_CHANNELS or np.prod(dims[2:]) > FP8_LARGEST_KERNEL:
            return (
                f"TensorRT's FP8 convolutions take {FP8_LEAST_CHANNELS} channels or more, and small kernels"
            )
    if precision == "w4a16" and dims[1 - placement.weights[weight]] % BLOCK:
        return f"its inputs are no multiple of {BLOCK}, the block of INT4 weights"
    return None


def write_format(
    graph: onnx.ModelProto, placement: Placement, ranges: Mapping[str, np.float32]
) -> onnx.ModelProto:
    """A copy of the float graph with its weights, and for fp8 its activations, in the format; FP32 elsewhere.

    ranges: of the placement's activations, as INT8 scales of their largest values; only fp8 needs them.
    """
    model = copy.deepcopy(graph)
    precision = placement.policy.name
    _Writer(model.graph, placement, precision).run(ranges if precision == "fp8" else {})
    if precision == "w4a16":
        for entry in model.opset_import:
            if entry.domain in ("", "ai.onnx"):
                entry.version = max(entry.version, INT4_OPSET)
        model.ir_version = max(model.ir_version, INT4_IR)
    return model


@dataclass
class _Writer:
    graph: onnx.GraphProto
    placement: Placement
    precision: str
    tensors: list[TensorProto] = field(default_factory=list)

    def run(self, ranges: Mapping[str, np.float32]) -> None:
        index, chosen = GraphIndex(self.graph), frozenset(self.placement.nodes)
        first: list[NodeProto] = []
        after: dict[str, list[NodeProto]] = {}
        for name, axis in self.placement.weights.items():
            readers = [node for node in index.consumers[name] if node.name in chosen]
            first.append(self._weight(name, numpy_helper.to_array(index.initializers[name]), axis, readers))
        for name in ranges:
            readers = [node for node in index.consumers[name] if node.name in chosen]
            producer = index.producers.get(name)
            (first if producer is None else after.setdefault(producer.name, [])).extend(
                self._activation(name, ranges[name], readers)
            )
        nodes = [*first]
        for node in self.graph.node:
            nodes += [node, *after.get(node.name, [])]
        set_nodes(self.graph, nodes, self.tensors)

    def _weight(self, name: str, weight: npt.NDArray[Any], axis: int, readers: list[NodeProto]) -> NodeProto:
        """The weight's DequantizeLinear, which the readers read."""
        stored, scale, result = f"{name}.{self.precision}", f"{name}.scale", f"{name}.dequantized"
        how: dict[str, Any] = {"axis": axis}
        inputs = [stored, scale]
        if self.precision == "fp8":
            bits, scales = fp8_weight(weight, axis)
            self._add(stored, _E4M3, weight.shape, bits.tobytes())
        elif self.precision == "w8a16":
            values, scales = int8_weight(weight, axis)
            self._add(stored, TensorProto.INT8, weight.shape, values.tobytes())
            # ONNX Runtime fails to make them uint8, which it does on some processors, if they are left out
            inputs.append(f"{name}.zero")
            self._add(inputs[-1], TensorProto.INT8, scales.shape, bytes(scales.size))
        else:
            how = {"axis": 1 - axis, "block_size": BLOCK}
            values, scales = int4_weight(weight, how["axis"])
            self._add(stored, TensorProto.INT4, weight.shape, packed_int4(values))
        self.tensors.append(numpy_helper.from_array(np.ascontiguousarray(scales), scale))
        rename_inputs(readers, name, result)
        return helper.make_node("DequantizeLinear", inputs, [result], f"{name}/DequantizeLinear", **how)

    def _activation(self, name: str, int8_scale: np.float32, readers: list[NodeProto]) -> list[NodeProto]:
        """Q/DQ that the readers read in the place of the activation."""
        scale, zero, middle, result = (
            f"{name}.{end}" for end in ("scale", "zero", self.precision, "dequantized")
        )
        self.tensors.append(numpy_helper.from_array(fp8_scale(int8_scale), scale))
        self._add(zero, _E4M3, (), b"\0")
        rename_inputs(readers, name, result)
        return [
            helper.make_node("QuantizeLinear", [name, scale, zero], [middle], f"{name}/QuantizeLinear"),
            helper.make_node("DequantizeLinear", [middle, scale, zero], [result], f"{name}/DequantizeLinear"),
        ]

    def _add(self, name: str, kind: int, shape: tuple[int, ...], data: bytes) -> None:
        self.tensors.append(TensorProto(name=name, data_type=kind, dims=shape, raw_data=data))
