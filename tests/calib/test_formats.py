"""FP8 and INT4: bits against ml_dtypes and float64, scales that FP16 holds, and bytes as ONNX reads them."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from edgefel.calib.formats import (
    BLOCK,
    E4M3_MAX,
    e4m3_bits,
    e4m3_values,
    fp8_scale,
    fp8_weight,
    half_scale,
    int4_weight,
    int8_weight,
    packed_int4,
)

E4M3 = ml_dtypes.float8_e4m3fn


def test_every_code_has_the_value_of_ml_dtypes():
    bits = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(e4m3_values(bits), bits.view(E4M3).astype(np.float64))


def test_every_value_and_every_middle_is_rounded_as_by_ml_dtypes():
    known = e4m3_values(np.arange(127, dtype=np.uint8))
    middles = (known[:-1] + known[1:]) / 2
    # ml_dtypes rounds by way of FP32
    middle = middles.astype(np.float32)
    near = np.concatenate([known, middle, *(np.nextafter(middle, np.float32(end)) for end in (0, 1e9))])
    values = np.concatenate([near, -near])
    np.testing.assert_array_equal(e4m3_bits(values), values.astype(E4M3).view(np.uint8))


def test_random_values_are_rounded_as_by_ml_dtypes_and_large_ones_saturate():
    values = np.random.default_rng(0).standard_normal(10007) * np.geomspace(1e-5, 100, 10007)
    np.testing.assert_array_equal(e4m3_bits(values), values.astype(E4M3).view(np.uint8))
    # a plain cast makes NaN of them; QuantizeLinear saturates
    assert e4m3_values(e4m3_bits(np.array([460.0, 480.0, 1e9, -1e9, -460.0]))).tolist() == [
        448,
        448,
        448,
        -448,
        -448,
    ]


def test_scales_are_numbers_of_fp16_and_never_zero():
    scale = half_scale(np.array([1e-12, 3e-7, 0.1, 1e9]))
    np.testing.assert_array_equal(scale, scale.astype(np.float16).astype(np.float32))
    assert (scale > 0).all()
    assert np.isfinite(scale).all()


def test_the_largest_value_of_an_fp8_activation_is_448():
    amax = 3.7
    assert fp8_scale(np.float32(amax / 127)) * E4M3_MAX == pytest.approx(amax, rel=1e-3)


@pytest.mark.parametrize(("quantize", "steps", "largest"), [(int8_weight, 127, 127), (fp8_weight, 14, 448)])
@pytest.mark.parametrize(("shape", "axis"), [((7, 5, 3, 3), 0), ((9, 11), 1), ((9, 11), 0)])
def test_a_weight_comes_back_within_half_a_step(quantize, steps, largest, shape, axis):
    weight = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    index = [slice(None)] * len(shape)
    index[axis] = 2
    weight[tuple(index)] *= 1e-3  # its own scale, or it is lost
    stored, scale = quantize(weight, axis)
    assert stored.shape == shape
    assert scale.shape == (shape[axis],)
    wide = scale.reshape([-1 if i == axis else 1 for i in range(len(shape))]).astype(np.float64)
    values = e4m3_values(stored) if stored.dtype == np.uint8 else stored.astype(np.float64)
    assert np.abs(values).max() <= largest
    top = np.abs(weight).max(axis=tuple(i for i in range(len(shape)) if i != axis), keepdims=True)
    assert (np.abs(values * wide - weight) <= top / steps / 2 * 1.05).all()


def test_a_channel_of_zeros_stays_zero():
    weight = np.zeros((3, 64), np.float32)
    weight[0] = 1.0
    for stored, scale in (fp8_weight(weight, 0), int8_weight(weight, 0), int4_weight(weight, 1)):
        assert not stored[1:].any()
        assert (scale > 0).all()


@pytest.mark.parametrize(("shape", "axis"), [((2 * BLOCK, 5), 0), ((5, 3 * BLOCK), 1), ((BLOCK, 1), 0)])
def test_int4_blocks_follow_the_axis_and_beat_plain_rounding(shape, axis):
    weight = np.random.default_rng(2).standard_normal(shape).astype(np.float32)
    values, scale = int4_weight(weight, axis)
    assert values.shape == shape
    assert values.min() >= -8
    assert values.max() <= 7
    blocks = list(shape)
    blocks[axis] //= BLOCK
    assert scale.shape == tuple(blocks)
    back = values * np.repeat(scale.astype(np.float64), BLOCK, axis=axis)
    plain = np.repeat(
        np.stack([np.abs(part).max(axis=axis) / 7 for part in np.split(weight, blocks[axis], axis)], axis),
        BLOCK,
        axis,
    )
    rounded = np.clip(np.rint(weight / plain), -8, 7) * plain
    assert np.square(back - weight).sum() <= np.square(rounded - weight).sum() * 1.001


def test_a_side_that_is_no_multiple_of_the_block_is_refused():
    with pytest.raises(ValueError, match="multiple of 64"):
        int4_weight(np.zeros((65, 3), np.float32), 0)


@pytest.mark.parametrize("count", [1, 2, 7, 16])
def test_packed_bytes_are_those_that_onnx_reads(count):
    values = np.resize(np.arange(-8, 8, dtype=np.int8), count)
    tensor = TensorProto(name="w", data_type=TensorProto.INT4, dims=(count,), raw_data=packed_int4(values))
    onnx.checker.check_tensor(tensor)
    np.testing.assert_array_equal(numpy_helper.to_array(tensor).astype(np.int8), values)
