"""Compiles the training kernels for targets and prints their resources: `python training_kernels.py 80 90`.

A program of its own, since Triton's interpreter, which the tests use, compiles nothing.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

from edgefel.kernels.ahead_of_time.compiler import compile_kernel
from edgefel.kernels.ahead_of_time.kernel_spec import Argument, KernelSpec
from edgefel.kernels.anchor_softmax.op import anchors_tile, launch_sizes
from edgefel.kernels.token_pooling.op import positions_tile, tile_for
from edgefel.kernels.window_cross_attention import launches

ATTENTION = "edgefel.kernels.window_cross_attention.backward_kernel"
ANCHORS = "edgefel.kernels.anchor_softmax.kernel"
POOLING = "edgefel.kernels.token_pooling.kernel"


def spec(
    module: str, function: str, pointers: str, launch: tuple[int, int], **constants: object
) -> KernelSpec:
    """`pointers`: names with their types, e.g. "q:fp16 out:fp32"."""
    arguments = tuple(Argument(*pointer.split(":"), shape="") for pointer in pointers.split())
    return KernelSpec(function, module, function, arguments, constants, 1, *launch)


def training_kernels(arch: int) -> list[KernelSpec]:
    """The full model's level 1 and its head, FP16 and FP32, with the launches of a GPU of that capability."""
    device = launches.Device(arch, 108, 40 << 20)
    window, heads, width, batch = 28, 2, 32, 64
    m, channels = window * window, heads * width
    kv_strides = (2 * m * channels, width, 2 * channels, 1)
    common = {
        "q_strides": (m * channels, width, channels, 1),
        "k_strides": kv_strides,
        "v_strides": kv_strides,
        "scale": 0.1768,
        "shared": 1,
        "PRECISION": "ieee",
    }
    inputs = "q_ptr:{0} k_ptr:{0} v_ptr:{0} bias_ptr:{1} grad_ptr:{0} lse_ptr:fp32 delta_ptr:fp32"
    head = launch_sizes(7, 10, 128) | {"inverse_delta": 1.0, "NEED_E": True, "NEED_ANCHORS": True}
    anchors = anchors_tile(batch, 128)
    dense = "edgefel.kernels.window_cross_attention.dense_kernel"
    specs = [
        spec(ATTENTION, "delta_kernel", "out_ptr:fp16 grad_ptr:fp16 delta_ptr:fp32", (4, 1),
             rows_total=batch * m * heads, **launches.delta_constants(heads, m, width)),
        spec(ATTENTION, "sum_offsets_kernel", "sums_ptr:fp32 grad_table_ptr:fp32", (4, 1),
             splits=4, **launches.offset_constants(heads, window)),
        spec(ANCHORS, "backward_e_kernel",
             "grad_ptr:fp32 e_ptr:fp32 anchors_ptr:fp32 distance_ptr:fp32 grad_e_ptr:fp32 factor_ptr:fp32",
             (head.pop("num_warps"), 1), **head),
        spec(ANCHORS, "backward_anchors_kernel",
             "e_ptr:fp32 anchors_ptr:fp32 factor_ptr:fp32 grad_anchors_ptr:fp32", (anchors.pop("num_warps"), 1),
             batch=batch, ANCHORS=70, E=128, **anchors),
    ]  # fmt: skip
    for dtype in ("fp16", "fp32"):
        given = inputs.format(dtype, dtype)
        most = launches.pick(window, heads, width, dtype, batch, device, differentiable=True).default
        side = launches.bias_side(window)
        specs += [
            spec(dense, "bias_kernel", f"table_ptr:fp32 bias_ptr:{dtype}", (4, 1),
                 table_strides=(heads, 1), W=window, SIDE=side, BLOCK=1024),
            spec(dense, "dense_kernel",
                 f"q_ptr:{dtype} k_ptr:{dtype} v_ptr:{dtype} bias_ptr:{dtype} out_ptr:{dtype} lse_ptr:fp32",
                 (most.warps, most.stages), **common | launches.dense_constants(heads, window, width, most),
                 windows=batch, parts=4, STORE_LSE=True),
        ]  # fmt: skip
        results = {
            "kv": f"grad_k_ptr:{dtype} grad_v_ptr:{dtype}",
            "q": f"grad_q_ptr:{dtype}",
            "table": "sums_ptr:fp32",
        }
        more = {"kv": {"NEED_K": True, "NEED_V": True}, "table": {"windows": batch, "windows_per_split": 16}}
        for name, result in results.items():
            tile = launches.backward_default(name, window, width, dtype, device)
            sizes = launches.tile_constants(heads, window, width, tile) | common | more.get(name, {})
            launch = tile.warps, tile.stages
            specs.append(spec(ATTENTION, f"backward_{name}_kernel", f"{given} {result}", launch, **sizes))
    return specs + pooling_kernels(batch)


def pooling_kernels(batch: int) -> list[KernelSpec]:
    """APViT's patch pooling and its first token pooling, half precision under autocast."""
    patches, tokens = tile_for(196, 196, 768, batch), tile_for(160, 161, 768, 4 * batch)
    kept, positions = {"D": 768, "KEEP": 160, "STORE_PLACE": True}, positions_tile(batch, 768)
    return [
        spec(POOLING, "patch_kernel", "patches_ptr:fp16 positions_ptr:fp32 out_ptr:fp32 place_ptr:i32",
             (patches.warps, 1), **kept, N=196, stride_b=196 * 768, stride_n=1, stride_d=196,
             SLICES=patches.slices, BLOCK_N=patches.block_n, BLOCK_D=patches.block_d, ROWS=patches.rows,
             BLOCK_C=patches.block_c),
        spec(POOLING, "token_kernel", "tokens_ptr:fp32 products_ptr:fp16 out_ptr:fp32 place_ptr:i32",
             (tokens.warps, 1), **kept | {"KEEP": 144}, N=160, H=8, stride_b=161 * 768, stride_n=768, stride_d=1,
             stride_pb=8 * 161**2, stride_ph=161**2, stride_pk=1,
             SLICES=tokens.slices, BLOCK_N=tokens.block_n, ROWS=tokens.rows, BLOCK_C=tokens.block_c),
        spec(POOLING, "backward_kernel", "grad_ptr:fp32 place_ptr:i32 grad_source_ptr:fp16", (patches.warps, 1),
             T=196, KEPT=160, D=768, SLICES=patches.slices, ROWS=patches.rows, BLOCK_C=patches.block_c),
        spec(POOLING, "backward_positions_kernel", "grad_ptr:fp32 place_ptr:i32 grad_positions_ptr:fp32",
             (positions.pop("num_warps"), 1), batch=batch, N=196, KEPT=160, D=768, **positions),
    ]  # fmt: skip


if __name__ == "__main__":
    rows = [
        {"name": kernel.function, "type": kernel.arguments[0].type, "arch": arch}
        | asdict(compile_kernel(kernel, int(arch)).resources)
        for arch in sys.argv[1:]
        for kernel in training_kernels(int(arch))
    ]
    print(json.dumps(rows))
