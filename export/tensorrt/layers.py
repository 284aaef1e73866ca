"""Precision of every layer, and which attentions TensorRT fused.

Two sources. The parsed network is there without a GPU and says what the builder is given. The engine says what
it made of it, and has to be loaded on a GPU for that. A report names its source.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
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

    def multiplies_activations(self, layer: _Layer) -> bool:
        """Whether it is a matrix product without a weight, perhaps reshaped, cast or quantized."""
        types = [self._origin(name, _SAME_VALUES) for name in layer.inputs]
        return layer.type == "MATRIX_MULTIPLY" and "CONSTANT" not in types

    def precision(self, layer: _Layer) -> str:
        """What a layer computes in: a product of quantized operands gives float, its arithmetic is INT8 or FP8."""
        made = [self._maker(name, ("SHUFFLE", "IDENTITY")) for name in layer.inputs[:2]]
        if layer.type not in _PRODUCTS or not all(one and one.type == "DEQUANTIZE" for one in made):
            return layer.precision
        stored = [self.producer.get(one.inputs[0]) for one in made if one is not None]
        return "fp8" if all(one is not None and one.precision == "fp8" for one in stored) else "int8"

    def _origin(self, tensor: str, passing: Collection[str]) -> str | None:
        """The type of the layer that makes the tensor, in front of layers of the types `passing`."""
        made = self._maker(tensor, passing)
        return None if made is None else made.type

    def _maker(self, tensor: str, passing: Collection[str]) -> _Layer | None:
        while tensor in self.producer and self.producer[tensor].type in passing:
            tensor = self.producer[tensor].inputs[0]
        return self.producer.get(tensor)


def network_report(network: Any) -> dict[str, Any]:
    """The report of a parsed network, in JSON values:

    source, note; layers: name, type, precision of each but constants, where a product of quantized operands is
    "int8"; precisions: how many layers of each, without those that only quantize and dequantize;
    attentions: softmax between two products of activations, with the names of the three (`nodes`), or one
    operator, their precision, and `fused`: None, because only an engine shows that, or True for one of our kernels;
    plugins: names of the layers that are our kernels.
    """
    graph = _Graph(network)
    rows = [
        {"name": layer.name, "type": layer.type.lower(), "precision": graph.precision(layer)}
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
    attentions = [
        attention if attention["fused"] else {**attention, **_fused(attention["nodes"], rows)}
        for attention in network["attentions"]
    ]
    return _report("engine", _FROM_ENGINE, rows, attentions)


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
        "plugins": [row["name"] for row in rows if str(row["type"]).lower().startswith("plugin")],
        "layers": rows,
    }


def _layer(layer: Any) -> _Layer:
    inputs = [layer.get_input(i) for i in range(layer.num_inputs)]
    outputs = [layer.get_output(i) for i in range(layer.num_outputs)]
    kind = _enum_name(outputs[0].dtype) if outputs else "none"
    return _Layer(
        layer.name,
        _enum_name(layer.type),
        tuple(tensor.name for tensor in inputs if tensor is not None),
        tuple(tensor.name for tensor in outputs),
        _PRECISIONS.get(kind, kind.lower()),
    )


def _enum_name(value: Any) -> str:
    return str(value).rpartition(".")[2]


def _attentions(graph: _Graph) -> Iterator[dict[str, Any]]:
    for softmax in graph.layers:
        if softmax.type.startswith("PLUGIN") and "/window_cross_attention" in softmax.name:
            yield {
                "name": softmax.name.rpartition("/")[0],
                "nodes": [softmax.name],
                "precision": [graph.precision(softmax)],
                "fused": True,
            }
        if softmax.type == "ATTENTION_INPUT":
            # an operator of opset 23: TensorRT has one boundary layer in front of it and one behind
            precision = [graph.precision(softmax)]
            yield {"name": softmax.name, "nodes": [softmax.name], "precision": precision, "fused": None}
        if softmax.type != "SOFTMAX":
            continue
        before, after = (
            list(filter(graph.multiplies_activations, graph.nearest(softmax, step)))
            for step in (graph.sources, graph.users)
        )
        if before and after:
            nodes = [before[0], softmax, after[0]]
            yield {
                "name": softmax.name.rpartition("/")[0] or softmax.name,
                "nodes": [node.name for node in nodes],
                "precision": sorted({graph.precision(node) for node in nodes}),
                "fused": None,
            }


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
