"""The layer report. Reports of parsed networks are tested with real ones in test_engine.py."""

from __future__ import annotations

import json
from types import SimpleNamespace

import onnx
import pytest
from onnx import TensorProto, helper

from edgefel.export.tensorrt.layers import engine_report, network_report, summarize_layers
from edgefel.export.tensorrt.network import create_builder, parse_network
from edgefel.runtime.engines import listen

ATTENTION = {
    "name": "a",
    "nodes": ["a/MatMul", "a/Softmax", "a/MatMul_1"],
    "precision": ["fp16"],
    "fused": None,
}
NETWORK = {"attentions": [ATTENTION]}


def inspected(*layers: object) -> str:
    """As the engine inspector writes it, by the documentation: no engine could be inspected for this test."""
    return json.dumps({"Layers": layers, "Bindings": ["image"]})


def layer(name: str, nodes: list[str], **tensor: str) -> dict[str, object]:
    return {
        "Name": name,
        "LayerType": "kgen",
        "Inputs": [{"Name": "x", "Dimensions": [1, 8], **tensor}],
        "Outputs": [{"Name": "y", "Dimensions": [1, 8], "Format/Datatype": "Row major linear FP32"}],
        "TacticName": "sm80_kernel",
        "Metadata": "\x1e".join(f"[ONNX Layer: {node}]" for node in nodes),
    }


def test_an_attention_in_one_layer_is_fused():
    text = inspected(
        layer("_gemm_mha_v2", ["a/MatMul", "a/Add", "a/Softmax", "a/MatMul_1"], DataType="Half"),
        layer(
            "conv",
            ["stem/Conv"],
            **{"Format/Datatype": "Thirty-two wide channel vectorized row major Int8 format"},
        ),
    )
    report = engine_report(NETWORK, text)
    assert report["source"] == "engine"
    assert report["precisions"] == {"fp16": 1, "int8": 1}
    assert report["attentions"] == [{**ATTENTION, "fused": True, "engine_layers": ["_gemm_mha_v2"]}]
    assert report["layers"][0]["tactic"] == "sm80_kernel"
    assert summarize_layers(report)["fused_attentions"] == 1


def test_an_attention_in_several_layers_is_not_fused():
    text = inspected(
        layer("first", ["a/MatMul", "a/Softmax"], **{"Format/Datatype": "Row major linear FP16 format"}),
        layer("second", ["a/MatMul_1"], DataType="Half"),
    )
    (attention,) = engine_report(NETWORK, text)["attentions"]
    assert (attention["fused"], attention["engine_layers"]) == (False, ["first", "second"])


def test_what_the_inspector_does_not_tell_stays_unknown():
    report = engine_report(NETWORK, inspected("{ForeignNode[a/MatMul...head/Softmax]}", {"Name": "x"}))
    assert report["precisions"] == {"unknown": 2}
    assert report["attentions"] == [ATTENTION]
    assert summarize_layers(report)["fused_attentions"] is None


PLUGIN = "encoder.levels.2.attention/window_cross_attention_w7_h2_d16_fp16"


class Network:
    """What a parsed network tells of layers: name, type, inputs and outputs."""

    def __init__(self, *layers: tuple[str, str, str, str]) -> None:
        self.layers, self.num_layers = layers, len(layers)

    def get_layer(self, i: int) -> SimpleNamespace:
        name, kind, given, made = self.layers[i]
        tensors = [SimpleNamespace(name=tensor, dtype="DataType.HALF") for tensor in (given, made)]
        return SimpleNamespace(
            name=name,
            type=f"LayerType.{kind}",
            num_inputs=1,
            num_outputs=1,
            get_input=lambda _: tensors[0],
            get_output=lambda _: tensors[1],
        )


def test_our_kernels_are_named_and_their_attention_is_fused():
    network = Network(
        (PLUGIN, "PLUGIN_V3", "q", "out"),
        ("head/reliability_balance", "PLUGIN_V3", "out", "probabilities"),
        ("stem/Conv", "CONVOLUTION", "image", "q"),
    )
    report = network_report(network)
    assert report["plugins"] == [PLUGIN, "head/reliability_balance"]
    (attention,) = report["attentions"]
    assert attention == {
        "name": "encoder.levels.2.attention",
        "nodes": [PLUGIN],
        "precision": ["fp16"],
        "fused": True,
    }
    assert summarize_layers(report)["fused_attentions"] == 1
    assert engine_report(report, inspected(layer("kgen", ["stem/Conv"])))["attentions"] == [attention]


def parsed_report(model: onnx.ModelProto, path) -> dict:
    trt = pytest.importorskip("tensorrt_rtx", reason="needs TensorRT for RTX (extra rtx)")
    onnx.save(model, path)
    with listen(trt) as (logger, messages):
        builder = create_builder(trt, logger, messages)
        network = parse_network(trt, builder, logger, messages, path)
        return network_report(network)


def softmax_between(query: str, value: str) -> onnx.ModelProto:
    """softmax(`query` @ image) @ `value`, where "image" is an activation and "weight" is not."""
    nodes = [
        helper.make_node("MatMul", [query, "image"], ["scores"], name="m/MatMul"),
        helper.make_node("Softmax", ["scores"], ["weights"], name="m/Softmax"),
        helper.make_node("MatMul", ["weights", value], ["y"], name="m/MatMul_1"),
    ]
    shape = ["N", 3, 8, 8]
    weight = helper.make_tensor("weight", TensorProto.FLOAT, [1, 1, 8, 8], [0.5] * 64)
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [weight],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)


@pytest.mark.parametrize(
    ("query", "value", "found"),
    [("image", "image", ["m"]), ("weight", "image", []), ("image", "weight", [])],
)
def test_an_attention_multiplies_activations_on_both_sides(tmp_path, query, value, found):
    report = parsed_report(softmax_between(query, value), tmp_path / "model.onnx")
    assert [attention["name"] for attention in report["attentions"]] == found
    assert report["precisions"]["fp32"] >= 3
    assert "constant" not in {row["type"] for row in report["layers"]}
