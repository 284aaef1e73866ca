"""Kernels with every size fixed: what ahead-of-time compilation compiles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgefel.kernels.anchor_softmax.op import tile_for
from edgefel.kernels.token_pooling.op import tile_for as pooling_tile
from edgefel.kernels.tuning import Launch
from edgefel.kernels.window_cross_attention import launches


@dataclass(frozen=True)
class Argument:
    """One pointer argument: name, element type, shape with `N` for the batch, and what it is."""

    name: str
    type: str
    shape: str
    note: str = ""


@dataclass(frozen=True)
class KernelSpec:
    """A kernel with all its sizes.

    name: of this variant, unique within a model. module, function: where the Triton source is. arguments: the
    pointers, in order; everything else is in `constants`, by parameter name. programs_per_image: the grid is
    (programs_per_image * N, 1, 1).
    """

    name: str
    module: str
    function: str
    arguments: tuple[Argument, ...]
    constants: Mapping[str, Any]
    programs_per_image: int
    warps: int
    stages: int


def attention_spec(
    name: str,
    window: int,
    heads: int,
    width: int,
    windows: int,
    dtype: str,
    launch: Launch | None = None,
) -> KernelSpec:
    """Forward window cross-attention. q is a channels-last map per window, k and v a joint [.., 2, H, D].

    `windows` of an image each have queries of their own, as the model cuts both maps alike.
    """
    launch = launch or launches.default_forward(window, width, dtype)
    m, channels = window * window, heads * width
    batch = "N" if windows == 1 else f"N*{windows}"
    strides = {
        **{
            f"stride_q{axis}": value
            for axis, value in zip("bhmd", (m * channels, width, channels, 1), strict=True)
        },
        **{
            f"stride_{x}{axis}": value
            for x in "kv"
            for axis, value in zip("bhmd", (2 * m * channels, width, 2 * channels, 1), strict=True)
        },
        "stride_tr": heads,
        "stride_th": 1,
    }
    map_shape = f"[{batch}, {m}, {heads}, {width}]"
    kv_shape = f"[{batch}, {m}, 2, {heads}, {width}]"
    return KernelSpec(
        name=name,
        module="edgefel.kernels.window_cross_attention.kernel",
        function="forward_kernel",
        arguments=(
            Argument("q_ptr", dtype, map_shape, "queries"),
            Argument("k_ptr", dtype, kv_shape, "keys: the first half of the joint projection"),
            Argument("v_ptr", dtype, kv_shape, f"values: the same array, {channels} elements further"),
            Argument("table_ptr", dtype, f"[{(2 * window - 1) ** 2}, {heads}]", "relative position bias"),
            Argument("out_ptr", dtype, f"[{batch}, {m}, {channels}]", "result"),
        ),
        constants={
            "lse_ptr": None,
            "scale": width**-0.5,
            "shared": 1,
            **strides,
            "H": heads,
            "W": window,
            "D": width,
            "BLOCK_M": launch.block_m,
            "BLOCK_N": launch.block_n,
            "BLOCK_D": launches.block_d(width),
            "STORE_LSE": False,
            "PRECISION": "ieee",
        },
        programs_per_image=-(-m // launch.block_m) * heads * windows,
        warps=launch.warps,
        stages=launch.stages,
    )


def _head_constants(classes: int, per_class: int, width: int, delta: float) -> tuple[dict[str, Any], int]:
    tile = tile_for(classes, max(per_class, 1), width)
    sizes = {
        "inverse_delta": 1.0 / delta,
        "C": classes,
        "K": per_class,
        "E": width,
        "BLOCK_C": tile.block_c,
        "BLOCK_K": tile.block_k,
        "BLOCK_E": tile.block_e,
    }
    return sizes, tile.warps


def balance_spec(classes: int, per_class: int, width: int, attentive: bool, delta: float = 1.0) -> KernelSpec:
    """Reliability balancing; FP32. A branch that is off ignores its pointer."""
    sizes, warps = _head_constants(classes, per_class, width, delta)
    unused = "not read: this branch is off"
    return KernelSpec(
        name="reliability_balance",
        module="edgefel.kernels.reliability_balance.kernel",
        function="forward_kernel",
        arguments=(
            Argument("logits_ptr", "fp32", f"[N, {classes}]", "of the primary classifier"),
            Argument("e_ptr", "fp32", f"[N, {width}]", "embedding"),
            Argument(
                "anchors_ptr", "fp32", f"[{classes}, {per_class}, {width}]", "" if per_class else unused
            ),
            Argument("attentive_ptr", "fp32", f"[N, {classes}]", "attentive logits" if attentive else unused),
            Argument("probabilities_ptr", "fp32", f"[N, {classes}]", "result"),
            Argument("confidence_ptr", "fp32", "[N]", "result"),
            Argument("primary_ptr", "fp32", f"[N, {classes}]", "result"),
        ),
        constants={**sizes, "ATTENTIVE": attentive},
        programs_per_image=1,
        warps=warps,
        stages=1,
    )


def anchor_spec(classes: int, per_class: int, width: int, delta: float = 1.0) -> KernelSpec:
    """The anchor softmax alone; FP32."""
    sizes, warps = _head_constants(classes, per_class, width, delta)
    return KernelSpec(
        name="anchor_softmax",
        module="edgefel.kernels.anchor_softmax.kernel",
        function="forward_kernel",
        arguments=(
            Argument("e_ptr", "fp32", f"[N, {width}]", "embedding"),
            Argument("anchors_ptr", "fp32", f"[{classes}, {per_class}, {width}]"),
            Argument("out_ptr", "fp32", f"[N, {classes}]", "result"),
        ),
        constants={
            **sizes,
            "distance_ptr": None,
            "STORE_DISTANCE": False,
        },
        programs_per_image=1,
        warps=warps,
        stages=1,
    )


def patch_pooling_spec(count: int, keep: int, width: int, dtype: str) -> KernelSpec:
    """Attentive patch pooling of a map as a convolution leaves it, channels first; cut for one image."""
    constants, slices, warps = _pooling_constants(count, count, keep, width)
    return KernelSpec(
        name="pool_patches",
        module="edgefel.kernels.token_pooling.kernel",
        function="patch_kernel",
        arguments=(
            Argument(
                "patches_ptr", dtype, f"[N, {width}, {count}]", "map of the embedding, without positions"
            ),
            Argument("positions_ptr", dtype, f"[{count}, {width}]", "added to what is kept"),
            Argument("out_ptr", dtype, f"[N, {keep}, {width}]", "result"),
        ),
        constants={
            **constants,
            "stride_b": count * width,
            "stride_n": 1,
            "stride_d": count,
            "BLOCK_D": pooling_tile(count, count, width).block_d,
        },
        programs_per_image=slices,
        warps=warps,
        stages=1,
    )


def token_pooling_spec(name: str, heads: int, count: int, keep: int, width: int, dtype: str) -> KernelSpec:
    """Attentive token pooling of the class token and `count` others; cut for one image."""
    constants, slices, warps = _pooling_constants(count, 1 + count, keep, width)
    rows = 1 + count
    return KernelSpec(
        name=name,
        module="edgefel.kernels.token_pooling.kernel",
        function="token_kernel",
        arguments=(
            Argument("tokens_ptr", dtype, f"[N, {rows}, {width}]", "class token first"),
            Argument(
                "products_ptr",
                dtype,
                f"[N, {heads}, {rows}, {rows}]",
                "q k / sqrt(d); only row 0 of each is read",
            ),
            Argument("out_ptr", dtype, f"[N, {1 + keep}, {width}]", "result"),
        ),
        constants={
            **constants,
            "stride_b": rows * width,
            "stride_n": width,
            "stride_d": 1,
            "stride_pb": heads * rows * rows,
            "stride_ph": rows * rows,
            "stride_pk": 1,
            "H": heads,
        },
        programs_per_image=slices,
        warps=warps,
        stages=1,
    )


def _pooling_constants(count: int, rows: int, keep: int, width: int) -> tuple[dict[str, Any], int, int]:
    tile = pooling_tile(count, rows, width)
    sizes = {
        "place_ptr": None,
        "N": count,
        "D": width,
        "KEEP": keep,
        "SLICES": tile.slices,
        "BLOCK_N": tile.block_n,
        "ROWS": tile.rows,
        "BLOCK_C": tile.block_c,
        "STORE_PLACE": False,
    }
    return sizes, tile.slices, tile.warps
