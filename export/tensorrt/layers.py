"""Precision of every layer, and which attentions TensorRT fused.

Two sources. The parsed network is there without a GPU and says what the builder is given. The engine says what
it made of it, and has to be loaded on a GPU for that. A report names its source.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

_PRECISIONS = {"FLOAT": "fp32", "HALF": "fp16"}
_SAME_VALUES = frozenset(["SHUFFLE", "CAST", "IDENTITY", "SQUEEZE", "UNSQUEEZE", "QUANTIZE", "DEQUANTIZE"])
# what may stand between an attention's two products and its softmax: bias, mask, scale, casts, reshapes
_PASSING = _SAME_VALUES | {"ELEMENTWISE", "SCALE", "SELECT", "UNARY"}
_PRODUCTS = ("CONVOLUTION", "DECONVOLUTION", "MATRIX_MULTIPLY")
_FROM_NETWORK = "the parsed network, before TensorRT fuses layers; the engine was not inspected"
_FROM_ENGINE = "the built engine, by TensorRT's engine inspector"


@dataclass(frozen=True)
class _Layer:
    name: str
    type: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    precision: str


class _Graph:
    """The network's layers with their neighbours."""

    def __init__(self, network: Any) -> None:
        self.layers = [_layer(network.get_layer(i)) for i in range(network.num_layers)]
        self.producer = {name: layer for layer in self.layers for name in layer.outputs}
        self.consumers: dict[str, list[_Layer]] = {}
        for layer in self.layers:
            for name in layer.inputs:
                self.consumers.setdefault(name, []).append(layer)

    def sources(self, layer: _Layer) -> list[_Layer]:
        """The layers whose outputs this one reads."""
        return [self.producer[name] for name in layer.inputs if name in self.producer]

    def users(self, layer: _Layer) -> list[_Layer]:
        """The layers that read this one's outputs."""
        return [user for name in layer.outputs for user in self.consumers.get(name, [])]

    def nearest(self, layer: _Layer, step: Callable[[_Layer], list[_Layer]]) -> Iterator[_Layer]:
        """The first layers on every way of `step` (sources or users) that are not of the `_PASSING` types."""
        found, seen = step(layer), set[str]()
        while found:
            nearby = found.pop()
            if nearby.name in seen:
                continue
            seen.add(nearby.name)
            if nearby.type in _PASSING:
                found += step(nearby)
            else:
                yield nearby

    def is_constant(self, tensor: str) -> bool:
        """Whether the tensor is a weight, perhaps reshaped, cast or quantized."""
        while tensor in self.producer and self.producer[tensor].type in _SAME_VALUES:
            tensor = self.producer[tensor].inputs[0]
        return tensor in self.producer and self.producer[tensor].type == "CONSTANT"

    def is_int8(self, layer: _Layer) -> bool:
        """Whether both operands of a product were quantized: its output is float, its arithmetic is not."""
        return layer.type in _PRODUCTS and all(self._dequantized(name) for name in layer.inputs[:2])

    def _dequantized(self, tensor: str) -> bool:
        while tensor in self.producer and self.producer[tensor].type in ("SHUFFLE", "IDENTITY"):
            tensor = self.producer[tensor].inputs[0]
        return tensor in self.producer and self.producer[tensor].type == "DEQUANTIZE"


def network_report(network: Any) -> dict[str, Any]:
    """The report of a parsed network, in JSON values:

    source, note; layers: name, type, precision of each but constants, where a product of quantized operands is
    "int8"; precisions: how many layers of each, without those that only quantize and dequantize;
    attentions: softmax between two products of activations, with the names of the three (`nodes`), or one
    operator, their precision, and `fused`: None, because only an engine shows that.
    """
    graph = _Graph(network)
    rows = [
        {"name": layer.name, "type": layer.type.lower(), "precision": _computed_in(graph, layer)}
        for layer in graph.layers
        if layer.type != "CONSTANT"
    ]
    return _report("network", _FROM_NETWORK, rows, [*_attentions(graph)])


def engine_report(network: dict[str, Any], inspected: str) -> dict[str, Any]:
    """The report of an engine: the inspector's JSON (all layers), with the attentions of its network's report.

    An attention is fused if one layer of the engine holds both products and the softmax, as the layers' metadata
    tell. `fused` stays None where no layer names any of the three.
    """
    entries = json.loads(inspected).get("Layers", [])
    rows = [_engine_row(entry if isinstance(entry, dict) else {"Name": str(entry)}) for entry in entries]
    attentions = [{**attention, **_fused(attention["nodes"], rows)} for attention in network["attentions"]]
    return _report("engine", _FROM_ENGINE, rows, attentions)


def inspect_engine(trt: ModuleType, engine: Any) -> str:
    """The engine inspector's report on all layers, as JSON text."""
    return str(engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON))


def summarize_layers(report: dict[str, Any]) -> dict[str, Any]:
    """The report in a few numbers, for a manifest."""
    fused = [attention["fused"] for attention in report["attentions"]]
    return {
        "source": report["source"],
        "precisions": report["precisions"],
        "attentions": len(fused),
        "fused_attentions": None if None in fused else sum(fused),
    }


def _report(
    source: str, note: str, rows: list[dict[str, Any]], attentions: list[dict[str, Any]]
) -> dict[str, Any]:
    counted = [row for row in rows if row["type"] not in ("quantize", "dequantize")]
    counts = Counter(row["precision"] or "unknown" for row in counted)
    return {
        "source": source,
        "note": note,
        "precisions": dict(sorted(counts.items())),
        "attentions": attentions,
        "layers": rows,
    }


def _layer(layer: Any) -> _Layer:
    inputs = [layer.get_input(i) for i in range(layer.num_inputs)]
    outputs = [layer.get_output(i) for i in range(layer.num_outputs)]
    return _Layer(
        layer.name,
        _enum_name(layer.type),
        tuple(tensor.name for tensor in inputs if tensor is not None),
        tuple(tensor.name for tensor in outputs),
        _precision(_enum_name(outputs[0].dtype)) if outputs else "none",
    )


def _enum_name(value: Any) -> str:
    return str(value).rpartition(".")[2]


def _precision(dtype: str) -> str:
    return _PRECISIONS.get(dtype, dtype.lower())


def _computed_in(graph: _Graph, layer: _Layer) -> str:
    return "int8" if graph.is_int8(layer) else layer.precision


def _attentions(graph: _Graph) -> Iterator[dict[str, Any]]:
    for softmax in graph.layers:
        if softmax.type == "ATTENTION_INPUT":
            # an operator of opset 23: TensorRT has one boundary layer in front of it and one behind
            precision = [_computed_in(graph, softmax)]
            yield {"name": softmax.name, "nodes": [softmax.name], "precision": precision, "fused": None}
        if softmax.type != "SOFTMAX":
            continue
        before = [
            layer for layer in graph.nearest(softmax, graph.sources) if _multiplies_activations(graph, layer)
        ]
        after = [
            layer for layer in graph.nearest(softmax, graph.users) if _multiplies_activations(graph, layer)
        ]
        if before and after:
            nodes = [before[0], softmax, after[0]]
            yield {
                "name": softmax.name.rpartition("/")[0] or softmax.name,
                "nodes": [node.name for node in nodes],
                "precision": sorted({_computed_in(graph, node) for node in nodes}),
                "fused": None,
            }


def _multiplies_activations(graph: _Graph, layer: _Layer) -> bool:
    return layer.type == "MATRIX_MULTIPLY" and not any(graph.is_constant(name) for name in layer.inputs)


def _engine_row(entry: dict[str, Any]) -> dict[str, Any]:
    name, metadata = str(entry.get("Name", "")), str(entry.get("Metadata", ""))
    return {
        "name": name,
        "type": entry.get("LayerType"),
        # a layer's arithmetic follows what it reads; it may write another type for the layer behind it
        "precision": _tensor_precision(entry.get("Inputs")) or _tensor_precision(entry.get("Outputs")),
        "tactic": entry.get("TacticName"),
        "onnx": re.findall(r"\[ONNX Layer: ([^\]]+)\]", metadata),
    }


def _tensor_precision(tensors: Any) -> str | None:
    """Of the first tensor. TensorRT 10 writes one text of format and type, 11 a field of its own."""
    if not isinstance(tensors, list) or not tensors or not isinstance(tensors[0], dict):
        return None
    text = str(tensors[0].get("DataType") or tensors[0].get("Format/Datatype") or "")
    found = re.search(r"\b(FP32|FP16|BF16|FP8|FP4|Float|Half|BFloat16|U?Int\d+|Bool)\b", text, re.IGNORECASE)
    if found is None:
        return None
    return {"float": "fp32", "half": "fp16", "bfloat16": "bf16"}.get(found[1].lower(), found[1].lower())


def _fused(nodes: list[str], rows: list[dict[str, Any]]) -> dict[str, Any]:
    holding = [row for row in rows if set(nodes) & set(row["onnx"])]
    if not holding:
        return {"fused": None}
    one = next((row for row in holding if set(nodes) <= set(row["onnx"])), None)
    return {"fused": one is not None, "engine_layers": [row["name"] for row in ([one] if one else holding)]}
