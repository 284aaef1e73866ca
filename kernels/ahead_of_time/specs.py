"""Kernels with every size fixed, as ahead-of-time compilation takes them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from edgefel.kernels.ahead_of_time.kernel_spec import Argument, KernelSpec
from edgefel.kernels.anchor_softmax.op import launch_sizes
from edgefel.kernels.token_pooling.op import Tile, tile_for
from edgefel.kernels.window_cross_attention.launches import OLDER, TENSOR_CORES, Device, pick, rows_constants


def attention_spec(name: str, window: int, heads: int, width: int, windows: int, dtype: str) -> KernelSpec:
    """Forward window cross-attention. q is a channels-last map per window, k and v a joint [.., 2, H, D].

    As the batch is free, it is the row-aligned kernel, which reads the table itself. windows: per image, each with
    queries of its own, as the model partitions both maps in the same way.
    """
    problem = (name, window, heads, width, windows, dtype)
    return replace(_attention_spec(*problem, TENSOR_CORES), older=_attention_spec(*problem, OLDER))


def _attention_spec(
    name: str, window: int, heads: int, width: int, windows: int, dtype: str, device: Device
) -> KernelSpec:
    launch = pick(window, heads, width, dtype, None, device).default
    m, channels = window * window, heads * width
    batch = "N" if windows == 1 else f"N*{windows}"
    kv_strides = (2 * m * channels, width, 2 * channels, 1)
    kv_shape = f"[{batch}, {m}, 2, {heads}, {width}]"
    return KernelSpec(
        name=name,
        module="edgefel.kernels.window_cross_attention.kernel",
        function="forward_kernel",
        arguments=(
            Argument("q_ptr", dtype, f"[{batch}, {m}, {heads}, {width}]", "queries"),
            Argument("k_ptr", dtype, kv_shape, "keys: the first half of the joint projection"),
            Argument("v_ptr", dtype, kv_shape, f"values: the same array, {channels} elements further"),
            Argument("table_ptr", dtype, f"[{(2 * window - 1) ** 2}, {heads}]", "relative position bias"),
            Argument("out_ptr", dtype, f"[{batch}, {m}, {channels}]", "result"),
        ),
        constants={
            "scale": width**-0.5,
            "shared": 1,
            "q_strides": (m * channels, width, channels, 1),
            "k_strides": kv_strides,
            "v_strides": kv_strides,
            "table_strides": (heads, 1),
            **rows_constants(heads, window, width, launch),
            "PRECISION": "ieee",  # `compile_kernel` sets it for its target
        },
        programs_per_image=-(-m // launch.block_m) * heads * windows,
        warps=launch.warps,
        stages=launch.stages,
    )


def fused_attention_name(window: int, heads: int, width: int, dtype: str) -> str:
    """Name of an ONNX operator, of its kernel and of its TensorRT plugin."""
    return f"window_cross_attention_w{window}_h{heads}_d{width}_{dtype}"


def fused_attention_spec(window: int, heads: int, width: int, scale: float, dtype: str) -> KernelSpec:
    """Forward window cross-attention as an operator of an ONNX file takes it; N is the number of windows.

    q is [N, H, M, D], keys and values the joint projection [N, M, 2HD]: arrays in the order inputs, outputs.
    """
    problem = (window, heads, width, scale, dtype)
    return replace(_fused_attention(*problem, TENSOR_CORES), older=_fused_attention(*problem, OLDER))


def _fused_attention(
    window: int, heads: int, width: int, scale: float, dtype: str, device: Device
) -> KernelSpec:
    launch = pick(window, heads, width, dtype, None, device).default
    m, channels = window * window, heads * width
    return KernelSpec(
        name=fused_attention_name(window, heads, width, dtype),
        module="edgefel.kernels.window_cross_attention.kernel",
        function="joint_kernel",
        arguments=(
            Argument("q_ptr", dtype, f"[N, {heads}, {m}, {width}]", "queries"),
            Argument("kv_ptr", dtype, f"[N, {m}, {2 * channels}]", "keys, then values, of every token"),
            Argument("table_ptr", dtype, f"[{(2 * window - 1) ** 2}, {heads}]", "relative position bias"),
            Argument("out_ptr", dtype, f"[N, {m}, {channels}]", "result"),
        ),
        constants={
            "scale": scale,
            "q_strides": (m * channels, m * width, width, 1),
            "kv_strides": (2 * m * channels, width, 2 * channels, 1),
            "table_strides": (heads, 1),
            **rows_constants(heads, window, width, launch),
            "PRECISION": "ieee",  # `compile_kernel` sets it for its target
        },
        programs_per_image=-(-m // launch.block_m) * heads,
        warps=launch.warps,
        stages=launch.stages,
    )


def _one_stage(
    name: str, op: str, function: str, arguments: list[Argument], sizes: dict[str, Any], programs: int = 1
) -> KernelSpec:
    """A kernel without a load pipeline; `sizes` are its constants and `num_warps`."""
    constants = sizes.copy()
    warps = constants.pop("num_warps")
    module = f"edgefel.kernels.{op}.kernel"
    return KernelSpec(name, module, function, tuple(arguments), constants, programs, warps, stages=1)


def balance_spec(classes: int, per_class: int, width: int, attentive: bool, delta: float = 1.0) -> KernelSpec:
    """Reliability balancing; FP32. A branch that is off ignores its pointer."""
    unused = "not read: this branch is off"
    arguments = [
        Argument("logits_ptr", "fp32", f"[N, {classes}]", "of the primary classifier"),
        Argument("e_ptr", "fp32", f"[N, {width}]", "embedding"),
        Argument("anchors_ptr", "fp32", f"[{classes}, {per_class}, {width}]", "" if per_class else unused),
        Argument("attentive_ptr", "fp32", f"[N, {classes}]", "attentive logits" if attentive else unused),
        Argument("probabilities_ptr", "fp32", f"[N, {classes}]", "result"),
        Argument("confidence_ptr", "fp32", "[N]", "result"),
        Argument("primary_ptr", "fp32", f"[N, {classes}]", "result"),
    ]
    sizes = {"inverse_delta": 1.0 / delta, **launch_sizes(classes, per_class, width), "ATTENTIVE": attentive}
    return _one_stage("reliability_balance", "reliability_balance", "forward_kernel", arguments, sizes)


def anchor_spec(classes: int, per_class: int, width: int, delta: float = 1.0) -> KernelSpec:
    """The anchor softmax alone; FP32."""
    arguments = [
        Argument("e_ptr", "fp32", f"[N, {width}]", "embedding"),
        Argument("anchors_ptr", "fp32", f"[{classes}, {per_class}, {width}]"),
        Argument("out_ptr", "fp32", f"[N, {classes}]", "result"),
    ]
    sizes: dict[str, Any] = {"inverse_delta": 1.0 / delta, **launch_sizes(classes, per_class, width)}
    sizes |= {"distance_ptr": None, "STORE_DISTANCE": False}
    return _one_stage("anchor_softmax", "anchor_softmax", "forward_kernel", arguments, sizes)


def _pooling_sizes(
    tile: Tile, count: int, keep: int, width: int, strides: tuple[int, int, int]
) -> dict[str, Any]:
    """strides: of the source, by image, row and column."""
    named = zip(("stride_b", "stride_n", "stride_d"), strides, strict=True)
    return {"place_ptr": None, **tile.pooling_sizes(count, width, keep, False), **dict(named)}


def patch_pooling_spec(count: int, keep: int, width: int, dtype: str, batch: int = 1) -> KernelSpec:
    """Attentive patch pooling of a map in a convolution's layout, channels first; cut for `batch` images."""
    tile = tile_for(count, count, width, batch)
    arguments = [
        Argument("patches_ptr", dtype, f"[N, {width}, {count}]", "map of the embedding, without positions"),
        Argument("positions_ptr", dtype, f"[{count}, {width}]", "added to what is kept"),
        Argument("out_ptr", dtype, f"[N, {keep}, {width}]", "result"),
    ]
    sizes = _pooling_sizes(tile, count, keep, width, (count * width, 1, count)) | {"BLOCK_D": tile.block_d}
    return _one_stage("pool_patches", "token_pooling", "patch_kernel", arguments, sizes, tile.slices)


def token_pooling_spec(
    name: str, heads: int, count: int, keep: int, width: int, dtype: str, batch: int = 1
) -> KernelSpec:
    """Attentive token pooling of the class token and `count` others; cut for `batch` images."""
    rows = 1 + count
    tile = tile_for(count, rows, width, batch)
    products = f"[N, {heads}, {rows}, {rows}]"
    arguments = [
        Argument("tokens_ptr", dtype, f"[N, {rows}, {width}]", "class token first"),
        Argument("products_ptr", dtype, products, "q k / sqrt(d); only row 0 of each is read"),
        Argument("out_ptr", dtype, f"[N, {1 + keep}, {width}]", "result"),
    ]
    sizes = _pooling_sizes(tile, count, keep, width, (rows * width, width, 1)) | {
        "stride_pb": heads * rows * rows,
        "stride_ph": rows * rows,
        "stride_pk": 1,
        "H": heads,
    }
    return _one_stage(name, "token_pooling", "token_kernel", arguments, sizes, tile.slices)
