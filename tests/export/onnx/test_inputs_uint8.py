"""Normalisation in the graph: every byte as the runtime has it, in every precision."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from onnx.reference import ReferenceEvaluator
from small_graphs import assert_bitwise_equal, input_bytes, make_model, node, op_types, plain_graph, run

from edgefel.data.preprocessing import Preprocessing, default_preprocessing
from edgefel.errors import EdgefelError
from edgefel.export.onnx.inputs import SplitNormalisation, uint8_input
from edgefel.export.precision.half import to_half

SIDE = 16


def copy_model(stride: int = 1, kind: str = "plain") -> onnx.ModelProto:
    """Gives back its input, every `stride`-th pixel of it, through FP16 or INT8 if asked."""
    nodes, last = [], "image"
    if kind == "half":
        nodes.append(node("Cast", "image", "half", to=TensorProto.FLOAT16))
        last = "half"
    if stride > 1:
        nodes.append(node("Slice", f"{last} zero end axes steps", "resampled"))
        last = "resampled"
    if kind == "int8":
        nodes.append(node("QuantizeLinear", f"{last} scale point", "quantized"))
        nodes.append(node("DequantizeLinear", "quantized scale point", "y"))
    else:
        nodes.append(node("Cast", last, "y", to=TensorProto.FLOAT))
    constants = {"zero": np.zeros(2, np.int64), "end": np.full(2, 2**63 - 1), "axes": np.array([2, 3])}
    constants |= {"steps": np.array([stride] * 2), "scale": np.float32(0.02), "point": np.int8(0)}
    out = SIDE // stride
    return make_model(nodes, {"image": ["N", 3, SIDE, SIDE]}, {"y": ["N", 3, out, out]}, constants)


def every_byte() -> list[np.ndarray]:
    """256 pixels: each byte once in every channel."""
    return [np.repeat(np.arange(256, dtype=np.uint8).reshape(SIDE, SIDE, 1), 3, axis=2)]


def test_all_bytes_are_bitwise_the_runtimes():
    preprocessing = Preprocessing(SIDE, SIDE)
    model, report = uint8_input(copy_model(), preprocessing)
    assert report.inexact == 0
    assert (input_bytes(copy_model()), input_bytes(model)) == (SIDE * SIDE * 12, SIDE * SIDE * 3)
    np.testing.assert_array_equal(
        run(model, image=preprocessing.pixel_batch(every_byte()))["y"], preprocessing.batch(every_byte())
    )


@pytest.mark.parametrize("fused", [False, True])
def test_the_coarse_part_is_exact_with_and_without_a_fused_multiply_add(fused):
    split = SplitNormalisation.of(Preprocessing(SIDE, SIDE))
    x = np.arange(256, dtype=np.float32)
    coarse = split.scale[:, None] * x + split.shift[:, None]
    exact = split.scale.astype(np.float64)[:, None] * x + split.shift.astype(np.float64)[:, None]
    np.testing.assert_array_equal(coarse, exact)
    fine = split.fine_scale[:, None] * x + split.fine_shift[:, None]
    if fused:
        wide = split.fine_scale.astype(np.float64)[:, None] * x + split.fine_shift[:, None]
        fine = wide.astype(np.float32)
    np.testing.assert_array_equal(coarse + fine, Preprocessing(SIDE, SIDE).normalisation_table())


def test_plain_float32_constants_would_miss_them():
    """Why the constants are split: the direct form is many ulps off where a value is close to 0."""
    preprocessing = Preprocessing(SIDE, SIDE)
    mean, std = (np.asarray(v)[:, None] for v in (preprocessing.mean, preprocessing.std))
    x = np.arange(256, dtype=np.float32)
    direct = x * (1 / (255 * std)).astype(np.float32) + (-mean / std).astype(np.float32)
    table = preprocessing.normalisation_table()
    assert (np.abs(direct - table) / np.spacing(np.abs(table))).max() > 4


def test_other_constants_stay_within_one_ulp():
    rng = np.random.default_rng(0)
    for _ in range(50):
        mean, std = rng.uniform(0, 1, 3), rng.uniform(0.05, 1, 3)
        preprocessing = Preprocessing(SIDE, SIDE, mean=tuple(mean), std=tuple(std))
        assert uint8_input(copy_model(), preprocessing)[1].inexact <= 8


@pytest.mark.parametrize("kind", ["plain", "half", "int8"])
@pytest.mark.parametrize("stride", [1, 2])
def test_behind_any_first_node(kind, stride):
    """ONNX's own evaluator: ONNX Runtime may skip rounding to FP16 on a CPU."""
    preprocessing = Preprocessing(SIDE, SIDE)
    rng = np.random.default_rng(1)
    crops = [rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8) for _ in range(2)]
    before = copy_model(stride, kind)
    after, report = uint8_input(before, preprocessing)
    onnx.checker.check_model(after, full_check=True)
    assert op_types(after)[0] == "Cast", "TensorRT takes uint8 in front of a Cast only"
    assert report.hoisted == ("scope/resampled" if stride == 2 else None)
    if stride == 2:
        assert op_types(after)[:3] == ["Cast", "Slice", "Transpose"]
        assert op_types(after).count("Slice") == 1
    expected = ReferenceEvaluator(before).run(["y"], {"image": preprocessing.batch(crops)})[0]
    actual = ReferenceEvaluator(after).run(["y"], {"image": preprocessing.pixel_batch(crops)})[0]
    np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_the_network(precision):
    """FP32 is bitwise the same. In FP16, ONNX Runtime on a CPU drops the rounding of the image, nothing else."""
    graph = plain_graph() if precision == "fp32" else to_half(plain_graph(), ())[0]
    preprocessing = default_preprocessing(224)
    rng = np.random.default_rng(2)
    crops = [rng.integers(0, 256, (256, 256, 3), dtype=np.uint8) for _ in range(2)]
    model, report = uint8_input(graph, preprocessing)
    assert (input_bytes(graph), input_bytes(model)) == (602112, 150528)
    before = run(graph, image=preprocessing.batch(crops))
    after = run(model, image=preprocessing.pixel_batch(crops))
    if precision == "fp32":
        assert report.hoisted is not None
        assert_bitwise_equal(after, before)
    else:
        np.testing.assert_allclose(after["probabilities"], before["probabilities"], atol=1e-3)


def test_refusals():
    with pytest.raises(EdgefelError, match=r"the preprocessing makes float \[N, 3, 8, 8\]"):
        uint8_input(copy_model(), Preprocessing(SIDE, SIDE, 2))
    done, _ = uint8_input(copy_model(), Preprocessing(SIDE, SIDE))
    with pytest.raises(EdgefelError, match=r"the graph takes uint8 \[N, 16, 16, 3\]"):
        uint8_input(done, Preprocessing(SIDE, SIDE))
