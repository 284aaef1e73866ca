"""Compiles the training kernels for one target and prints their resources: `python training_kernels.py 90`.

A program of its own, since Triton's interpreter, which the tests use, compiles nothing.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

from edgefel.kernels.ahead_of_time.compiler import compile_kernel
from edgefel.kernels.ahead_of_time.specs import Argument, KernelSpec
from edgefel.kernels.anchor_softmax.op import tile_for
from edgefel.kernels.window_cross_attention import launches

ATTENTION = "edgefel.kernels.window_cross_attention.backward_kernel"
ANCHORS = "edgefel.kernels.anchor_softmax.kernel"


def spec(
    module: str, function: str, pointers: str, launch: tuple[int, int], **constants: object
) -> KernelSpec:
    """`pointers`: names with their types, e.g. "q:fp16 out:fp32"."""
    arguments = tuple(Argument(*pointer.split(":"), shape="") for pointer in pointers.split())
    return KernelSpec(function, module, function, arguments, constants, 1, *launch)


def training_kernels() -> list[KernelSpec]:
    """The full model's level 1 and its head, FP16 and FP32."""
    window, heads, width, batch = 28, 2, 32, 64
    m, channels = window * window, heads * width
    tile = launches.default_backward(window, width)
    strides = {
        f"stride_q{axis}": value
        for axis, value in zip("bhmd", (m * channels, width, channels, 1), strict=True)
    }
    for x in "kv":
        strides |= {
            f"stride_{x}{axis}": value
            for axis, value in zip("bhmd", (2 * m * channels, width, 2 * channels, 1), strict=True)
        }
    sizes = {
        "H": heads,
        "W": window,
        "D": width,
        "BLOCK_M": tile.block_m,
        "BLOCK_N": tile.block_n,
        "BLOCK_D": 32,
    }
    common = {
        **strides,
        "stride_tr": heads,
        "stride_th": 1,
        **sizes,
        "scale": 0.1768,
        "shared": 1,
        "PRECISION": "ieee",
    }
    inputs = "q_ptr:{0} k_ptr:{0} v_ptr:{0} table_ptr:{0} grad_ptr:{0} lse_ptr:fp32 delta_ptr:fp32"
    launch = tile.warps, tile.stages
    classes = {"C": 7, "K": 10, "E": 128, "inverse_delta": 1.0}
    blocks = tile_for(7, 10, 128)
    padded = {"BLOCK_C": blocks.block_c, "BLOCK_K": blocks.block_k, "BLOCK_E": blocks.block_e}
    forward = "edgefel.kernels.window_cross_attention.kernel"
    specs = [
        spec(ATTENTION, "delta_kernel", "out_ptr:fp16 grad_ptr:fp16 delta_ptr:fp32", (4, 1),
             rows_total=batch * m * heads, H=heads, M=m, D=width, BLOCK_R=128, BLOCK_D=32),
        spec(ATTENTION, "sum_offsets_kernel", "sums_ptr:fp32 grad_table_ptr:fp32", (4, 1),
             splits=4, H=heads, W=window, BLOCK_W=32, BLOCK_R=64),
        spec(ANCHORS, "backward_e_kernel",
             "grad_ptr:fp32 e_ptr:fp32 anchors_ptr:fp32 distance_ptr:fp32 grad_e_ptr:fp32 factor_ptr:fp32",
             (blocks.warps, 1), **classes, **padded),
        spec(ANCHORS, "backward_anchors_kernel",
             "e_ptr:fp32 anchors_ptr:fp32 factor_ptr:fp32 grad_anchors_ptr:fp32", (4, 1),
             batch=batch, ANCHORS=70, E=128, BLOCK_R=32, BLOCK_E=64),
    ]  # fmt: skip
    for dtype in ("fp16", "fp32"):
        given = inputs.format(dtype)
        most = launches.default_forward(window, width, dtype)
        specs += [
            spec(forward, "forward_kernel",
                 f"q_ptr:{dtype} k_ptr:{dtype} v_ptr:{dtype} table_ptr:{dtype} out_ptr:{dtype} lse_ptr:fp32",
                 (most.warps, most.stages), **common | {"BLOCK_M": most.block_m, "BLOCK_N": most.block_n},
                 STORE_LSE=True),
            spec(ATTENTION, "backward_kv_kernel", f"{given} grad_k_ptr:{dtype} grad_v_ptr:{dtype}", launch, **common),
            spec(ATTENTION, "backward_q_kernel", f"{given} grad_q_ptr:{dtype}", launch, **common),
            spec(ATTENTION, "backward_bias_kernel", f"{given} sums_ptr:fp32", launch, **common,
                 windows=batch, windows_per_split=16),
        ]  # fmt: skip
    return specs


if __name__ == "__main__":
    rows = [
        {"name": kernel.function, "type": kernel.arguments[0].type}
        | asdict(compile_kernel(kernel, int(sys.argv[1])).resources)
        for kernel in training_kernels()
    ]
    print(json.dumps(rows))
