"""Attention as one operator, against float64 and against the decomposed form."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from exported import HAS_TENSORRT
from small_graphs import assert_close, images, make_model, node, op_types, plain_graph, plain_outputs, run

from edgefel.calib.graph import GraphIndex
from edgefel.export.onnx.attention import onnx_attention
from edgefel.export.onnx.passes import apply_passes
from edgefel.export.onnx.rewrite import opset_of
from edgefel.export.precision.half import to_half

HEADS, QUERIES, KEYS, WIDTH, SCALE = 2, 5, 7, 4, 0.37
RNG = np.random.default_rng(0)
BIAS = RNG.standard_normal((HEADS, QUERIES, KEYS)).astype(np.float32)


def written_out(*, mask: bool = True, axis: int = -1, perm=(0, 1, 3, 2), extra_reader: bool = False):
    nodes = [
        node("Mul", "q scale", "scaled"),
        node("Transpose", "k", "kt", perm=list(perm)),
        node("MatMul", "scaled kt", "scores"),
        node("Add", "bias scores", "biased"),
        node("Softmax", "biased" if mask else "scores", "weights", axis=axis),
        node("MatMul", "weights v", "y"),
    ]
    if not mask:
        del nodes[3]
    k = ["N", HEADS, KEYS, WIDTH] if tuple(perm) == (0, 1, 3, 2) else ["N", KEYS, HEADS, WIDTH]
    inputs = {"q": ["N", HEADS, QUERIES, WIDTH], "k": k, "v": ["N", HEADS, KEYS, 3]}
    outputs = {"y": ["N", HEADS, QUERIES, 3]}
    if extra_reader:
        outputs["weights"] = ["N", HEADS, QUERIES, KEYS]
    constants = {"scale": np.float32(SCALE)} | ({"bias": BIAS} if mask else {})
    return make_model(nodes, inputs, outputs, constants)


def feeds(perm=(0, 1, 3, 2)) -> dict[str, np.ndarray]:
    q = RNG.standard_normal((3, HEADS, QUERIES, WIDTH)).astype(np.float32)
    k = RNG.standard_normal((3, HEADS, KEYS, WIDTH)).astype(np.float32)
    v = RNG.standard_normal((3, HEADS, KEYS, 3)).astype(np.float32)
    return {"q": q, "k": k if perm == (0, 1, 3, 2) else k.swapaxes(1, 2).copy(), "v": v}


@pytest.mark.parametrize("mask", [True, False])
@pytest.mark.parametrize("perm", [(0, 1, 3, 2), (0, 2, 3, 1)])
def test_one_operator_says_the_same(mask, perm):
    model, made = onnx_attention(written_out(mask=mask, perm=perm))
    assert op_types(model) == ["Attention"] if perm[1] == 1 else ["Transpose", "Attention"]
    assert made == ("scope/Attention",)
    assert opset_of(model) == 23
    given = feeds(perm)
    q, k, v = (given[name].astype(np.float64) for name in "qkv")
    k = k if perm[1] == 1 else k.swapaxes(1, 2)
    scores = np.exp(SCALE * q @ k.swapaxes(-1, -2) + (BIAS if mask else 0))
    exact = scores / scores.sum(-1, keepdims=True) @ v
    for form in (model, written_out(mask=mask, perm=perm)):
        np.testing.assert_allclose(run(form, **given)["y"], exact, atol=2e-6)


@pytest.mark.parametrize(
    "change", [{"axis": 2}, {"extra_reader": True}], ids=["another axis", "weights are read"]
)
def test_what_is_no_attention(change):
    model, made = onnx_attention(written_out(**change))
    assert made == ()
    assert op_types(model) == op_types(written_out(**change))
    assert opset_of(model) == 20


@pytest.fixture(scope="module")
def simplified() -> onnx.ModelProto:
    return apply_passes(plain_graph())[0]


def test_every_attention_of_the_network(simplified):
    model, made = onnx_attention(simplified)
    assert made == (
        *(f"encoder.levels.{i}.attention/Attention" for i in range(3)),
        "encoder.blocks.0.attention/Attention",
    )
    softmaxes = [entry.name for entry in model.graph.node if entry.op_type == "Softmax"]
    assert softmaxes
    assert all(name.startswith("head/") for name in softmaxes)
    assert_close(run(model, image=images()), plain_outputs())


def test_the_mask_is_the_bias_with_a_batch_axis_and_scale_is_that_of_q(simplified):
    model, made = onnx_attention(simplified)
    index = GraphIndex(model.graph)
    before = GraphIndex(simplified.graph)
    for level in range(3):
        attention = index.nodes[made[level]]
        mask = onnx.numpy_helper.to_array(index.initializers[attention.input[3]])
        add = before.nodes[f"encoder.levels.{level}.attention/Add"]
        bias = onnx.numpy_helper.to_array(before.initializers[add.input[1]])
        np.testing.assert_array_equal(mask, bias[None])
        width = 8 if level < 2 else 16
        assert attention.attribute[0].f == pytest.approx(16**-0.5 if level else width**-0.5, rel=1e-6)


def test_by_default_q_is_scaled_right_before_the_product(simplified):
    """softmax((q * scale) k^T + bias) v: between the scaling and the product TensorRT's fusion wants nothing."""
    index = GraphIndex(simplified.graph)
    softmaxes = [n for n in simplified.graph.node if n.op_type == "Softmax" and "attention" in n.name]
    assert len(softmaxes) == 4
    for softmax in softmaxes:
        below = index.producers[softmax.input[0]]
        if below.op_type == "Add":
            assert below.input[1] in index.initializers
            below = index.producers[below.input[0]]
        assert below.op_type == "MatMul"
        scaled, key = (index.producers[name] for name in below.input)
        assert scaled.op_type == "Mul"
        assert any(name in index.initializers and not index.initializers[name].dims for name in scaled.input)
        assert (key.op_type, list(key.attribute[0].ints)) == ("Transpose", [0, 2, 3, 1])
        weighted = index.consumers[softmax.output[0]]
        assert [n.op_type for n in weighted] == ["MatMul"]
        # with a single head there is nothing to transpose
        assert index.producers[weighted[0].input[1]].op_type in ("Transpose", "Reshape")


def test_it_converts_to_half_precision(simplified):
    half, _ = to_half(onnx_attention(simplified)[0], ())
    actual = run(half, image=images())
    for name in ("probabilities", "confidence"):
        np.testing.assert_allclose(actual[name], plain_outputs()[name], atol=0.02, err_msg=name)


@pytest.mark.skipif(not HAS_TENSORRT, reason="needs TensorRT (pip install 'edgefel[rtx]')")
def test_tensorrt_builds_it_in_float32_too(simplified, tmp_path):
    """For FP32 it has no kernel of its own, and must be allowed to write the operator out."""
    from edgefel.export.onnx.trace import save_onnx
    from edgefel.export.tensorrt.engine import build_engine

    model, names = onnx_attention(simplified)
    save_onnx(model, tmp_path / "model.onnx")
    builder = build_engine(tmp_path / "model.onnx", tmp_path / "model.engine")
    assert builder["layer_report"]["attentions"] == len(names) > 0
