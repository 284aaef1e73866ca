"""Graphs at one batch size: shapes, merged quantizers, and what cannot be counted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from small_graphs import make_model, node

from edgefel.bench.results import read_results
from edgefel.bench.roofline.bound import project
from edgefel.bench.roofline.devices import DEVICES
from edgefel.bench.roofline.graph import Tensor, load_graphs, read_network
from edgefel.bench.roofline.layers import fused_layers
from edgefel.errors import EdgefelError
from edgefel.models.profile import profile
from edgefel.models.registry import model_config

COMMITTED = Path(__file__).parents[3] / "docs" / "results" / "roofline.jsonl"


def conv_model() -> onnx.ModelProto:
    """3x3 of 8 channels to 8 on 10x10, without padding: 8x8."""
    return make_model(
        [node("Conv", "x w", "y")],
        {"x": ["N", 8, 10, 10]},
        {"y": ["N", 8, 8, 8]},
        {"w": np.ones((8, 8, 3, 3), np.float32)},
    )


def test_shapes_are_those_of_the_batch():
    network = read_network(conv_model(), 3)
    assert network.tensor("x") == Tensor((3, 8, 10, 10), onnx.TensorProto.FLOAT)
    assert network.tensor("y").bytes == 4 * 3 * 8 * 8 * 8
    assert (network.inputs, network.outputs, network.constants) == (("x",), ("y",), {"w"})


def test_a_type_is_seen_through_dequantizing():
    model = make_model(
        [node("DequantizeLinear", "w s z", "wd"), node("MatMul", "x wd", "y")],
        {"x": ["N", 6, 4]},
        {"y": ["N", 6, 3]},
        {"w": np.ones((4, 3), np.int8), "s": np.float32(1), "z": np.int8(0)},
    )
    network = read_network(model, 1)
    assert [network.type_of(name) for name in ("x", "wd", "y")] == ["fp32", "int8", "fp32"]


def test_quantizing_twice_by_the_same_scale_is_quantizing_once():
    """What ONNX Runtime's graphs have for a tensor with several readers."""
    model = make_model(
        [
            node("QuantizeLinear", "x s z", "xq"),
            node("DequantizeLinear", "xq s z", "xd"),
            node("Sum", "xd", "copy"),
            node("QuantizeLinear", "copy s2 z2", "again"),
            node("DequantizeLinear", "again s2 z2", "xdd"),
            node("DequantizeLinear", "w s z", "wd"),
            node("MatMul", "xdd wd", "m"),
            node("Add", "m copy", "y"),
        ],
        {"x": ["N", 6, 4]},
        {"y": ["N", 6, 4]},
        {
            "s": np.float32(0.5),
            "z": np.int8(0),
            "s2": np.float32(0.5),
            "z2": np.int8(0),
            "w": np.ones((4, 4), np.int8),
        },
    )
    network = read_network(model, 1)
    assert [one.op_type for one in network.nodes].count("QuantizeLinear") == 1
    quantizer, product = fused_layers(network)
    assert (quantizer.weight_bytes, quantizer.read_bytes, quantizer.written_bytes) == (0, 96, 24)
    assert product.op == "MatMul+Add"
    # product and sum read the same 24 bytes
    assert (product.weight_bytes, product.read_bytes, product.written_bytes) == (16, 24, 96)


def test_a_batch_of_none_is_refused():
    with pytest.raises(EdgefelError, match="at least 1 image"):
        read_network(conv_model(), 0)


def test_an_unknown_shape_is_named():
    model = conv_model()
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "H"
    with pytest.raises(EdgefelError, match="tensor 'y': its shape cannot be inferred"):
        read_network(model, 1).tensor("y")


def test_a_subgraph_is_refused():
    model = conv_model()
    body = onnx.helper.make_graph([], "body", [], [])
    model.graph.node.append(onnx.helper.make_node("Loop", ["", ""], ["z"], "loop", body=body))
    with pytest.raises(EdgefelError, match="loop"):
        read_network(model, 1)


@pytest.mark.slow
def test_a_registered_model_is_counted_as_the_committed_rows_say():
    graphs = load_graphs("arbex-nano", ["fp32", "int8+fp16"])
    counted = profile(model_config("arbex-nano"))
    committed = {row.key: row for row in read_results(COMMITTED).rows}
    found = project(graphs, [DEVICES["orin-nano-super"], DEVICES["h100"]], [1, 8], layers=0)
    assert len(found) == 8
    for one in found:
        metrics, batch = one.row.metrics, one.row.subject["batch"]
        assert metrics["parameters"] == counted.parameters
        assert metrics["macs"] / batch == pytest.approx(counted.macs, rel=1e-3)
        before = committed[one.row.key].metrics
        assert metrics["macs"] == before["macs"]
        for name in ("floor_ms", "unfused_floor_ms", "ideal_ms"):
            assert metrics[name] == pytest.approx(before[name], rel=1e-9)
