"""Number formats beside INT8: FP8 (E4M3) and INT4 in blocks. Values, bits and scales of weights; no graph.

Scales are numbers that FP16 holds exactly, because the files have FP16 scales: a weight is quantized by the very scale
that dequantizes it. Source of the formats: https://onnx.ai/onnx/technical/float8.html and int4.html; of what TensorRT
takes: its documentation, "Quantization Schemes" (https://docs.nvidia.com/deeplearning/tensorrt/latest/
inference-library/quantized-types-schemes.html).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from edgefel.calib.thresholds import QMAX

E4M3_MAX = 448.0
INT4_MIN, INT4_MAX = -8, 7
# of the two sizes that TensorRT takes, 64 and 128, the one that loses less
BLOCK = 64
# shares of a block's largest weight among which the one that 7 stands for is chosen
_SHARES = np.linspace(0.7, 1.0, 16)
_HALF_TINY = 2.0**-24

Array = npt.NDArray[np.float32]


def _decoded() -> npt.NDArray[np.float64]:
    """The values of the codes 0 to 126, ascending: 4 bits of exponent with bias 7, 3 of mantissa, subnormals, no
    infinity; code 127 is NaN."""
    code = np.arange(127)
    exponent, mantissa = code >> 3, (code & 7) / 8.0
    return np.where(exponent == 0, mantissa * 2.0**-6, (1.0 + mantissa) * 2.0 ** (exponent - 7.0))


_E4M3 = _decoded()
_MIDDLES = (_E4M3[:-1] + _E4M3[1:]) / 2


def e4m3_bits(values: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """FP8 E4M3 (E4M3FN) bits of finite values, of the same shape: rounded to nearest, ties to even, beyond 448
    saturated, as QuantizeLinear does. The sign of a zero stays."""
    size = np.abs(values.astype(np.float64))
    code = np.searchsorted(_MIDDLES, size, side="left")
    tie = (code < len(_MIDDLES)) & (size == _MIDDLES[np.minimum(code, len(_MIDDLES) - 1)])
    code = np.where(tie & (code % 2 == 1), code + 1, code)
    return (code | (np.signbit(values).astype(np.int64) << 7)).astype(np.uint8)


def e4m3_values(bits: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """What the bits stand for."""
    code = bits & 0x7F
    size = np.where(code == 0x7F, np.nan, _E4M3[np.minimum(code, 126)])
    return np.where(bits & 0x80, -size, size)


def half_scale(scale: npt.NDArray[Any]) -> Array:
    """The nearest positive numbers that FP16 holds, as FP32."""
    rounded = np.clip(np.asarray(scale, np.float64), _HALF_TINY, np.finfo(np.float16).max).astype(np.float16)
    return rounded.astype(np.float32)


def fp8_scale(int8_scale: np.float32) -> Array:
    """The scale whose 448 is what 127 times `int8_scale` is: amax / 448 where the INT8 range is the largest value."""
    return half_scale(np.float64(int8_scale) * QMAX / E4M3_MAX)


def fp8_weight(weight: Array, axis: int) -> tuple[npt.NDArray[np.uint8], Array]:
    """E4M3 bits of `weight`'s shape and scales [channels of `axis`]; scale = max|w| / 448, 1 for a channel of zeros."""
    scale = _channel_scale(weight, axis, E4M3_MAX)
    return e4m3_bits(weight / scale.astype(np.float64)), scale.ravel()


def int8_weight(weight: Array, axis: int) -> tuple[npt.NDArray[np.int8], Array]:
    """INT8 values of `weight`'s shape and scales [channels of `axis`]; scale = max|w| / 127."""
    scale = _channel_scale(weight, axis, QMAX)
    values = np.clip(np.rint(weight / scale.astype(np.float64)), -QMAX, QMAX)
    return values.astype(np.int8), scale.ravel()


def int4_weight(weight: Array, axis: int) -> tuple[npt.NDArray[np.int8], Array]:
    """INT4 values of the matrix's shape, in INT8, and scales with a number for each BLOCK along `axis`.

    Each block's scale is the one of 16, from 0.7 to 1 times max|w| / 7, with the least squared error.
    Raises ValueError for a side that BLOCK does not divide.
    """
    rows = np.moveaxis(weight.astype(np.float64), axis, -1)
    if rows.ndim != 2 or rows.shape[-1] % BLOCK:
        raise ValueError(f"a matrix whose side {axis} is a multiple of {BLOCK} is needed, not {weight.shape}")
    blocks = rows.reshape(rows.shape[0], -1, BLOCK)
    top = np.abs(blocks).max(axis=-1, keepdims=True)
    top = np.where(top > 0, top, INT4_MAX)
    best = np.full(top.shape, np.inf)
    scale = np.zeros(top.shape, np.float32)
    for share in _SHARES:
        tried = half_scale(top * share / INT4_MAX)
        error = np.square(_int4(blocks, tried) * tried - blocks).sum(axis=-1, keepdims=True)
        scale, best = np.where(error < best, tried, scale), np.minimum(best, error)
    values = _int4(blocks, scale).reshape(rows.shape).astype(np.int8)
    return np.moveaxis(values, -1, axis), np.moveaxis(scale[..., 0], -1, axis)


def packed_int4(values: npt.NDArray[np.int8]) -> bytes:
    """Two values a byte, the first in the low bits, as ONNX stores INT4; 0 fills the last byte."""
    flat = np.ascontiguousarray(values).ravel()
    nibbles = np.append(flat, np.zeros(flat.size % 2, np.int8)).astype(np.uint8) & 0xF
    return (nibbles[0::2] | nibbles[1::2] << 4).tobytes()


def _channel_scale(weight: Array, axis: int, largest: float) -> Array:
    others = tuple(i for i in range(weight.ndim) if i != axis)
    top = np.abs(weight).max(axis=others, keepdims=True).astype(np.float64)
    return half_scale(np.where(top > 0, top / largest, 1.0))


def _int4(blocks: npt.NDArray[np.float64], scale: Array) -> npt.NDArray[np.float64]:
    return np.clip(np.rint(blocks / scale), INT4_MIN, INT4_MAX)
