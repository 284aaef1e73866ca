"""Affine operators in front of layers: folded where that is exact, and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest
from small_graphs import (
    applied,
    assert_close,
    images,
    make_model,
    node,
    op_types,
    plain_graph,
    plain_outputs,
    run,
)

UNIT = 2.0**-24  # half an ulp of 1
RNG = np.random.default_rng(0)


def randoms(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


NORM = {"g": randoms(4), "b": randoms(4), "m": randoms(4), "v": np.abs(randoms(4)) + 0.1}
BATCH_NORM = node("BatchNormalization", "x g b m v", "normed", epsilon=1e-5)


def normalised(x: np.ndarray, sides: int) -> np.ndarray:
    g, b, m, v = (NORM[name].astype(np.float64).reshape(-1, *[1] * sides) for name in "gbmv")
    return (x.astype(np.float64) - m) / np.sqrt(v + 1e-5) * g + b


def within(actual: np.ndarray, exact: np.ndarray, magnitude: np.ndarray, terms: int) -> None:
    """|error| <= (terms + 8) u sum |w| |x|: rounding of the folded weights and of the sum."""
    np.testing.assert_array_less(np.abs(actual - exact), (terms + 8) * UNIT * magnitude + 1e-30)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("group", [1, 2])
def test_batch_norm_before_a_convolution_without_padding(bias, group):
    w, c, x = randoms(6, 4 // group, 3, 3), randoms(6), randoms(2, 4, 6, 6)
    conv = node("Conv", "normed w c" if bias else "normed w", "y", group=group, kernel_shape=[3, 3])
    constants = {**NORM, "w": w} | ({"c": c} if bias else {})
    model = make_model([BATCH_NORM, conv], {"x": ["N", 4, 6, 6]}, {"y": ["N", 6, 4, 4]}, constants)
    folded, report = applied("fold-affines", model)
    assert (op_types(folded), report.folded, report.left) == (["Conv"], ("scope/normed",), {})
    wide = np.lib.stride_tricks.sliding_window_view(normalised(x, 2), (3, 3), (2, 3))
    full = np.zeros((6, 4, 3, 3))
    for o in range(6):
        first = o // (6 // group) * (4 // group)
        full[o, first : first + 4 // group] = w[o]
    exact = np.einsum("nchwij,ocij->nohw", wide, full) + (c[:, None, None] if bias else 0)
    scale = np.einsum("nchwij,ocij->nohw", np.abs(wide) + 8 * np.abs(x).max(), np.abs(full)) + 3
    within(run(folded, x=x)["y"], exact, scale, 36)
    assert op_types(model) == ["BatchNormalization", "Conv"], "the model passed in was changed"


def test_a_shift_is_not_folded_behind_zero_padding():
    """The wrong fold is shown to differ: the border sees 0 before the batch norm, not behind it."""
    w, x = randoms(6, 4, 3, 3), randoms(1, 4, 5, 5)
    conv = node("Conv", "normed w", "y", kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    model = make_model([BATCH_NORM, conv], {"x": ["N", 4, 5, 5]}, {"y": ["N", 6, 5, 5]}, {**NORM, "w": w})
    kept, report = applied("fold-affines", model)
    assert op_types(kept) == ["BatchNormalization", "Conv"]
    assert report.left == {"scope/normed": "scope/y pads with zeros behind it"}
    unpadded = make_model(
        [BATCH_NORM, node("Conv", "normed w", "y", kernel_shape=[3, 3])],
        {"x": ["N", 4, 5, 5]},
        {"y": ["N", 6, 3, 3]},
        {**NORM, "w": w},
    )
    folded, _ = applied("fold-affines", unpadded)
    folded.graph.node[0].attribute.append(conv.attribute[1])
    for dim in folded.graph.output[0].type.tensor_type.shape.dim[2:]:
        dim.dim_value = 5
    right, wrong = run(model, x=x)["y"], run(folded, x=x)["y"]
    np.testing.assert_allclose(wrong[..., 1:-1, 1:-1], right[..., 1:-1, 1:-1], atol=1e-4)
    assert np.abs(wrong - right).max() > 0.1


def test_a_scale_alone_passes_zero_padding():
    nodes = [
        node("Mul", "x s", "scaled"),
        node("Conv", "scaled w", "y", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
    ]
    constants = {"s": randoms(4, 1, 1), "w": randoms(6, 4, 3, 3)}
    model = make_model(nodes, {"x": ["N", 4, 5, 5]}, {"y": ["N", 6, 5, 5]}, constants)
    folded, _ = applied("fold-affines", model)
    x = randoms(2, 4, 5, 5)
    assert op_types(folded) == ["Conv"]
    np.testing.assert_allclose(run(folded, x=x)["y"], run(model, x=x)["y"], atol=36 * 30 * UNIT)


@pytest.mark.parametrize("transposed", [0, 1])
def test_a_chain_before_a_gemm(transposed):
    """Batch norm, Mul, Add, Sub and Div, one after the other."""
    nodes = [
        BATCH_NORM,
        node("Mul", "two normed", "a"),
        node("Add", "a s", "b1"),
        node("Sub", "b1 t", "c1"),
        node("Div", "c1 d", "e"),
        node("Gemm", "e w c", "y", transB=transposed, alpha=0.5, beta=2.0),
    ]
    w = randoms(4, 3)
    constants = {**NORM, "two": np.float32(2), "s": randoms(4), "t": randoms(1, 4), "d": randoms(4) + 3}
    constants |= {"w": w.T.copy() if transposed else w, "c": randoms(3)}
    model = make_model(nodes, {"x": ["N", 4]}, {"y": ["N", 3]}, constants)
    folded, report = applied("fold-affines", model)
    assert op_types(folded) == ["Gemm"]
    assert len(report.folded) == 5
    x = randoms(5, 4)
    wide = (2 * normalised(x.T[None], 1)[0].T + constants["s"] - constants["t"]) / constants["d"].astype(
        float
    )
    exact = 0.5 * wide @ w.astype(np.float64) + 2 * constants["c"]
    magnitude = (np.abs(wide) + 40 * (1 + np.abs(x).max())) @ np.abs(w) + 2 * np.abs(constants["c"])
    within(run(folded, x=x)["y"], exact, magnitude, 8)


def test_batch_norm_into_batch_norm():
    second = {f"{name}2": values[::-1].copy() for name, values in NORM.items()}
    nodes = [BATCH_NORM, node("BatchNormalization", "normed g2 b2 m2 v2", "y")]
    model = make_model(nodes, {"x": ["N", 4, 3]}, {"y": ["N", 4, 3]}, {**NORM, **second})
    folded, report = applied("fold-affines", model)
    assert op_types(folded) == ["BatchNormalization"]
    assert list(report.left) == ["scope/y"]
    x = randoms(3, 4, 3)
    np.testing.assert_allclose(run(folded, x=x)["y"], run(model, x=x)["y"], rtol=1e-4, atol=1e-5)


def test_matmul_takes_a_shift_only_with_a_bias_behind_it():
    constants = {"s": randoms(4), "w": randoms(4, 3), "c": randoms(3)}
    shift, product = node("Add", "x s", "shifted"), node("MatMul", "shifted w", "y")
    alone = make_model([shift, product], {"x": ["N", 2, 4]}, {"y": ["N", 2, 3]}, constants)
    assert op_types(applied("fold-affines", alone)[0]) == ["Add", "MatMul"]
    nodes = [shift, node("MatMul", "shifted w", "p"), node("Add", "p c", "y")]
    model = make_model(nodes, {"x": ["N", 2, 4]}, {"y": ["N", 2, 3]}, constants)
    folded, _ = applied("fold-affines", model)
    assert op_types(folded) == ["MatMul", "Add"]
    x = randoms(3, 2, 4)
    np.testing.assert_allclose(run(folded, x=x)["y"], run(model, x=x)["y"], atol=1e-5)


@pytest.mark.parametrize("case", ["second reader", "graph output", "other axis", "reader's weights vary"])
def test_what_is_left_alone(case):
    x_shape, constants = ["N", 4, 4], {"s": randoms(4), "w": randoms(4, 4)}
    nodes = [node("Mul", "x s", "scaled"), node("MatMul", "scaled w", "y")]
    outputs = {"y": ["N", 4, 4]}
    inputs = {"x": x_shape}
    if case == "second reader":
        nodes.append(node("Relu", "scaled", "z"))
        outputs["z"] = ["N", 4, 4]
    elif case == "graph output":
        outputs["scaled"] = ["N", 4, 4]
    elif case == "other axis":
        constants["s"] = constants["s"].reshape(4, 1)
    else:
        inputs["w"] = [4, 4]
        del constants["w"]
    model = make_model(nodes, inputs, outputs, constants)
    kept, report = applied("fold-affines", model)
    assert op_types(kept) == op_types(model)
    assert report.folded == ()


def test_shared_weights_are_not_changed_for_the_other_reader():
    constants = {"s": randoms(4), "w": randoms(4, 4)}
    nodes = [node("Mul", "x s", "scaled"), node("MatMul", "scaled w", "y"), node("MatMul", "x w", "z")]
    model = make_model(nodes, {"x": ["N", 4]}, {"y": ["N", 4], "z": ["N", 4]}, constants)
    folded, _ = applied("fold-affines", model)
    x = randoms(3, 4)
    assert op_types(folded) == ["MatMul", "MatMul"]
    before, after = run(model, x=x), run(folded, x=x)
    np.testing.assert_array_equal(after["z"], before["z"])
    np.testing.assert_allclose(after["y"], before["y"], atol=1e-5)


def test_of_the_network_only_batch_norms_before_padding_are_left():
    folded, report = applied("fold-affines", plain_graph())
    assert len(report.folded) == 2
    assert all(name.startswith("head.classifier") for name in report.folded)
    assert len(report.left) == 3  # one for each residual unit
    for name, reason in report.left.items():
        assert name.endswith(".residual.0/BatchNormalization")
        assert (
            reason
            == f"{name.replace('.residual.0/BatchNormalization', '.residual.1/Conv')} pads with zeros behind it"
        )
    assert_close(run(folded, image=images()), plain_outputs())
