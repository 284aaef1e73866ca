"""The FP32 graph: names, shapes, bytes, and the same numbers as PyTorch."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from exported import random_batch, run_onnx, run_torch, tiny_graph, tiny_model

from edgefel.calib.graph import GraphIndex, node_scope
from edgefel.errors import EdgefelError
from edgefel.export.onnx.rewrite import opset_of
from edgefel.export.onnx.trace import check_graph, export_onnx, save_onnx, serialize
from edgefel.runtime.manifest import OUTPUT_NAMES

MODELS = pytest.mark.parametrize("name", ["arbex-nano", "poster-v2-nano"])


@MODELS
@pytest.mark.parametrize("count", [1, 2, 5])
def test_agrees_with_pytorch_at_any_batch_size(name, count):
    batch = random_batch(count, seed=count)
    expected, actual = run_torch(tiny_model(name), batch), run_onnx(tiny_graph(name), batch)
    for output in OUTPUT_NAMES:
        assert actual[output].shape == expected[output].shape
        assert np.abs(actual[output] - expected[output]).max() < 1e-4, output


@MODELS
def test_a_prediction_does_not_depend_on_its_batch_mates(name):
    batch = random_batch(5, seed=7)
    together = run_onnx(tiny_graph(name), batch)
    for i in range(5):
        alone = run_onnx(tiny_graph(name), batch[i : i + 1])
        for output in ("primary", "probabilities", "confidence"):
            assert np.abs(alone[output][0] - together[output][i]).max() < 1e-6, output
        assert np.abs(alone["logits"][0] - together["logits"][i]).max() < 1e-4


@MODELS
def test_interface(name):
    graph = tiny_graph(name).graph
    assert [value.name for value in graph.input] == ["image"]
    assert [value.name for value in graph.output] == list(OUTPUT_NAMES)
    shapes = {
        v.name: [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim] for v in graph.output
    }
    width = 64 if name == "arbex-nano" else tiny_model(name).config.encoder.width
    rows = {key: ["N", 8] for key in ("logits", "primary", "probabilities")}
    assert shapes == {**rows, "confidence": ["N"], "embedding": ["N", width]}
    assert [d.dim_param or d.dim_value for d in graph.input[0].type.tensor_type.shape.dim] == [
        "N",
        3,
        112,
        112,
    ]


def test_without_a_head_both_distributions_are_outputs_of_their_own():
    producers = GraphIndex(tiny_graph("poster-v2-nano").graph).producers
    assert producers["primary"].name != producers["probabilities"].name
    outputs = run_onnx(tiny_graph("poster-v2-nano"), random_batch(3))
    assert np.array_equal(outputs["primary"], outputs["probabilities"])


def test_the_model_is_left_alone():
    assert tiny_graph()
    assert tiny_model().head.folded is None
    assert not any(key.startswith("head.folded") for key in tiny_model().state_dict())


@MODELS
def test_nothing_of_the_machine_is_in_the_file(name):
    data = serialize(tiny_graph(name))
    for trace in (b".py", b"site-packages", b"stack_trace", b"pkg.torch", str(Path.home()).encode(), b"aten"):
        assert trace not in data, trace
    assert not tiny_graph(name).metadata_props
    assert not any(node.doc_string or node.metadata_props for node in tiny_graph(name).graph.node)


@MODELS
def test_nodes_are_named_after_their_modules(name):
    graph = tiny_graph(name).graph
    names = [node.name for node in graph.node]
    assert len(set(names)) == len(names)
    modules = {module for module, _ in tiny_model(name).named_modules()} | {"model", "head.folded"}
    for node in graph.node:
        assert re.fullmatch(rf"[\w.]+/{node.op_type}(_\d+)?", node.name), node.name
        assert node_scope(node) in modules, node.name
    assert "encoder.image_stream.stem.0/Conv" in names  # the convolution that took its batch norm in
    tensors = {output for node in graph.node for output in node.output}
    assert tensors - set(OUTPUT_NAMES) == {t for t in tensors if re.fullmatch(r"[\w.]+/\w+:\d", t)}


def test_batch_norms_behind_convolutions_and_one_token_attention_are_folded():
    names = [node.name for node in tiny_graph().graph.node]
    assert not any("norm/BatchNormalization" in name for name in names)
    assert not any(name.startswith("head.attentive") for name in names)
    assert "head.folded/Gemm" in names


def test_the_relative_bias_is_a_constant():
    assert not any(n.op_type == "Gather" and "attention" in n.name for n in tiny_graph().graph.node)


@pytest.mark.parametrize(("name", "opset"), [("poster-v2-nano", 19), ("arbex-nano", 20)])
def test_the_oldest_onnx_runtime_knows_the_ir_version(name, opset):
    """1.17 reads IR versions up to 9; the exporter's own is 10."""
    graph = tiny_graph(name)
    assert (opset_of(graph), graph.ir_version) == (opset, 9)


@pytest.mark.parametrize("opset", [18, 21])
def test_other_opsets_are_refused(opset):
    with pytest.raises(EdgefelError, match=f"opset {opset}: choose 19 to 20"):
        export_onnx(tiny_model(), opset=opset)


def copy_of_graph() -> onnx.ModelProto:
    model = onnx.ModelProto()
    model.CopyFrom(tiny_graph())
    return model


def test_a_fixed_batch_is_caught():
    model = copy_of_graph()
    dim = model.graph.input[0].type.tensor_type.shape.dim[0]
    dim.Clear()
    dim.dim_value = 2
    with pytest.raises(EdgefelError, match="batch of 'image' is not dynamic"):
        check_graph(model)


def test_missing_outputs_and_broken_graphs_are_caught():
    model = copy_of_graph()
    del model.graph.output[1]
    with pytest.raises(EdgefelError, match="outputs are"):
        check_graph(model)
    model = copy_of_graph()
    model.graph.node[3].input[0] = "nowhere"
    with pytest.raises(EdgefelError, match=r"onnx\.checker refuses it"):
        check_graph(model)


def test_the_saved_file_is_self_contained(tmp_path):
    save_onnx(tiny_graph(), tmp_path / "a.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["a.onnx"]
    loaded = onnx.load(tmp_path / "a.onnx", load_external_data=False)
    assert not any(t.HasField("data_location") and t.data_location for t in loaded.graph.initializer)
    assert serialize(loaded) == serialize(tiny_graph())
