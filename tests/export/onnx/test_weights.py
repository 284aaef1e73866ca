"""Weights of a network back from its graph."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from exported import colour_batch, random_batch, run_onnx, run_torch, tiny_graph, tiny_model
from torch import nn

from edgefel.errors import EdgefelError
from edgefel.export.onnx.passes import spread_prelu
from edgefel.export.onnx.trace import export_onnx
from edgefel.export.onnx.weights import load_graph_weights, measure_statistics, set_statistics
from edgefel.models import build_model
from edgefel.models.network import FacialExpressionModel


def other_weights(config) -> FacialExpressionModel:
    torch.manual_seed(99)
    return FacialExpressionModel(config).eval()


def same_outputs(model, graph, batch) -> None:
    restored, exported = run_torch(model, batch), run_onnx(graph, batch)
    for name, values in exported.items():
        scale = max(1.0, float(np.abs(values).max()))
        np.testing.assert_allclose(restored[name] / scale, values / scale, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("spread", [False, True], ids=["prelu", "max"])
@pytest.mark.parametrize("name", ["arbex-nano", "poster-v2-nano"])
def test_the_network_computes_what_its_graph_computes(name, spread):
    graph = tiny_graph(name)
    model = other_weights(tiny_model(name).config)
    merged = load_graph_weights(model, spread_prelu(graph)[0] if spread else graph)
    same_outputs(model, graph, colour_batch(5, seed=3))
    scopes = {node.name.rpartition("/")[0] for node in graph.graph.node}
    norms = {
        key for key, module in model.named_modules() if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)
    }
    assert set(merged) == norms - scopes
    assert norms & scopes


@pytest.mark.slow
def test_a_network_of_other_modules():
    """APViT with a resizer, and with a head that attends to its tokens; no settings are the defaults."""
    torch.manual_seed(1)
    model = build_model(
        "apvit-nano+resizer+reliability",
        num_classes=5,
        input_size=48,
        encoder={"image_units": (1, 1, 1), "keep_rates": (1.0, 0.9), "keep_patches": 150},
        head={
            "attention_tokens": "patches",
            "norm_first": True,
            "embedding_dim": 96,
            "attention_head_dim": 48,
        },
    )
    with torch.no_grad():
        for _ in range(3):
            model(torch.randn(6, 3, 48, 48))
        model.resizer.project.bias.fill_(0.1)
    graph = export_onnx(model.eval())
    restored = other_weights(model.config)
    load_graph_weights(restored, graph)
    same_outputs(restored, graph, random_batch(3, seed=4, size=48))


def test_what_the_graph_has_as_it_was_is_equal_to_the_bit():
    original, model = tiny_model(), other_weights(tiny_model().config)
    merged = set(load_graph_weights(model, tiny_graph()))
    state, before = model.state_dict(), original.state_dict()
    for part in (
        "attention.relative_position_bias_table",
        "gamma1",
        "gamma2",
        "attention.kv.weight",
        "mlp.fc1.bias",
    ):
        assert torch.equal(state[f"encoder.levels.1.{part}"], before[f"encoder.levels.1.{part}"]), part
    for key in ("head.anchors", "head.reduce.weight", "encoder.embed.0.1.weight", "encoder.gate.fc2.bias"):
        assert torch.equal(state[key], before[key]), key
    (kept,) = [
        key for key in before if key.endswith("stages.0.0.residual.0.running_var") and "image_stream" in key
    ]
    assert kept.removesuffix(".running_var") not in merged
    assert torch.equal(state[kept], before[kept])
    tokens = state["encoder.pos_embed"].clone()
    tokens[:, :1] += state["encoder.cls_token"]
    before_tokens = before["encoder.pos_embed"].clone()
    before_tokens[:, :1] += before["encoder.cls_token"]
    assert torch.equal(tokens, before_tokens)


def test_statistics_change_nothing_in_evaluation_and_little_in_training():
    model = other_weights(tiny_model().config)
    merged = load_graph_weights(model, tiny_graph())
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0  # its noise is not what is compared
    images = torch.from_numpy(colour_batch(32, seed=5))
    for name, statistics in measure_statistics(model, merged, images.split(12)).items():
        set_statistics(model.get_submodule(name), *statistics)
    same_outputs(model, tiny_graph(), images.numpy())
    evaluated = run_torch(model, images.numpy())["probabilities"]
    training = copy.deepcopy(model).train()
    for name, module in training.named_modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.train(name in merged)  # the others have statistics of their own
    trained = run_torch(training, images.numpy())["probabilities"]
    np.testing.assert_allclose(trained, evaluated, atol=1e-3)
    without = other_weights(tiny_model().config)
    load_graph_weights(without, tiny_graph())
    assert np.abs(run_torch(without.train(), images.numpy())["probabilities"] - evaluated).max() > 0.05


def test_statistics_over_batches_of_different_sizes():
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm2d(3)

        def forward(self, x):
            return self.norm(x)

    images = torch.randn(11, 3, 5, 4) * 3 + 7
    found = measure_statistics(Twice(), ["norm"], [images[:1], images[1:8], images[8:]])
    mean, variance = found["norm"]
    np.testing.assert_allclose(mean, images.double().mean((0, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(variance, images.double().var((0, 2, 3), correction=0), rtol=1e-6)
    assert mean.dtype == torch.float64


def without(op_type: str, scope: str):
    graph = copy.deepcopy(tiny_graph())
    for node in graph.graph.node:
        if node.op_type == op_type and node.name.startswith(f"{scope}/"):
            node.name = f"elsewhere/{op_type}"
    return graph


@pytest.mark.parametrize(
    ("op_type", "scope", "entry"),
    [
        ("Gemm", "encoder.gate.fc1", "encoder.gate.fc1"),
        ("Conv", "encoder.landmark_reduce", "encoder.landmark_reduce"),
        ("LayerNormalization", "encoder.norm", "encoder.norm"),
        ("PRelu", "encoder.image_stream.stem.2", "encoder.image_stream.stem.2"),
        ("Add", "encoder.levels.2.attention", "encoder.levels.2.attention.relative_position_bias_table"),
        ("Mul", "encoder.levels.0", "encoder.levels.0.gamma1"),
        ("Sub", "head", "head.anchors"),
        ("Add", "encoder", "encoder.cls_token"),
        ("Gemm", "head.folded", "head.attentive.query"),
    ],
)
def test_a_graph_without_some_weights_is_refused(op_type, scope, entry):
    with pytest.raises(EdgefelError, match=f"^has no weights of {entry}$"):
        load_graph_weights(other_weights(tiny_model().config), without(op_type, scope))


def test_weights_of_another_shape_are_refused():
    model = build_model("arbex-nano", num_classes=7, encoder={"width": 48})
    with pytest.raises(EdgefelError, match=r"has shape \("):
        load_graph_weights(model, tiny_graph())
