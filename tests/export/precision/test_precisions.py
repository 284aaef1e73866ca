"""The graph of every precision: the form it has, and what is noted of how it was made."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import pytest
from exported import anchors_of, tiny_graph, tiny_model
from small_graphs import op_types

from edgefel.export.precision.precisions import Ranges, make_graphs


def made(precisions: tuple[str, ...], **options: object):
    """The graphs, and the calls of `calibrate`: (the graph's op types, activations)."""
    calls: list[tuple[list[str], list[str]]] = []

    def calibrate(graph: onnx.ModelProto, activations: list[str]) -> Ranges:
        calls.append((op_types(graph), activations))
        return Ranges(dict.fromkeys(activations, np.float32(0.05)), {"used": 3}, ("one image is unreadable",))

    graphs = make_graphs(
        tiny_graph(), precisions, anchors=anchors_of(tiny_model()), calibrate=calibrate, **options
    )
    return graphs, calls


@pytest.fixture(scope="module")
def everything():
    return made(("fp32", "fp16", "int8", "int8+fp16"))


def test_only_files_for_tensorrt_keep_prelu(everything):
    graphs, calls = everything
    assert list(graphs) == ["fp32", "fp16", "int8", "int8+fp16"]
    assert {name: "PRelu" in op_types(one.model) for name, one in graphs.items()} == {
        "fp32": False,
        "fp16": True,
        "int8": False,
        "int8+fp16": True,
    }
    assert "PRelu" not in calls[0][0], "ranges are taken of the form that ONNX Runtime runs"


def test_ranges_are_taken_once_for_what_all_precisions_need(everything):
    graphs, calls = everything
    ((_, activations),) = calls
    assert len(set(activations)) == len(activations)
    for name in ("int8", "int8+fp16"):
        read = {
            entry.input[0] for entry in graphs[name].model.graph.node if entry.op_type == "QuantizeLinear"
        }
        float_names = {tensor.removesuffix(".fp16") for tensor in read}
        assert float_names <= set(activations), name
    assert [one.warnings for one in graphs.values()] == [(), (), ("one image is unreadable",), ()]


def test_every_file_says_how_it_was_made(everything):
    graphs, _ = everything
    assert graphs["fp32"].builder == {}
    assert set(graphs["fp16"].builder) == {"float32_nodes", "clamped"}
    policies = {name: graphs[name].builder["policy"] for name in ("int8", "int8+fp16")}
    assert policies == {"int8": "onnxruntime", "int8+fp16": "tensorrt"}
    kinds = {name: graphs[name].builder["activations"] for name in ("int8", "int8+fp16")}
    assert kinds == {"int8": "symmetric uint8", "int8+fp16": "symmetric int8"}
    assert graphs["int8"].builder["calibration"] == {"used": 3}
    assert "float32_nodes" not in graphs["int8"].builder
    assert graphs["int8+fp16"].builder["float32_nodes"] > 20
    counts = Counter(op_types(graphs["int8"].model))
    assert counts["DequantizeLinear"] > graphs["int8"].builder["int8_nodes"] > 40


def test_a_search_chooses_layers_that_stay_in_float():
    layer, tried = "encoder.image_stream.stem.0/Conv", {}

    def choose(graph, layers, build):
        assert layer in layers
        tried.update(build({layer: "first try"}))
        return {layer: "it costs too much"}

    graphs, _ = made(("int8", "int8+fp16"), choose=choose)
    # a search judges what is written
    assert tried == {name: graphs[name].model for name in ("int8", "int8+fp16")}
    assert graphs["int8"].builder["float_nodes"][layer] == "it costs too much"
    without = made(("int8",))[0]["int8"].builder["int8_nodes"]
    assert graphs["int8"].builder["int8_nodes"] == without - 1
