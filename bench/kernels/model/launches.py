"""The launches of our kernels that are counted: what is compiled, and what each does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

from edgefel.bench.kernels.model.count import Plan
from edgefel.bench.kernels.problems import AttentionProblem, PoolingProblem, poolings, pyramid_levels
from edgefel.kernels.ahead_of_time.kernel_spec import Argument, KernelSpec
from edgefel.kernels.ahead_of_time.specs import (
    anchor_spec,
    attention_spec,
    balance_spec,
    patch_pooling_spec,
    token_pooling_spec,
)
from edgefel.kernels.anchor_softmax.op import launch_sizes
from edgefel.kernels.backend import FLOAT_TYPES, next_power_of_two
from edgefel.kernels.token_pooling.op import tile_for
from edgefel.kernels.window_cross_attention import op as attention
from edgefel.models.config import ModelConfig
from edgefel.models.registry import model_config

_BACKWARD = "edgefel.kernels.window_cross_attention.backward_kernel"
_ANCHORS = "edgefel.kernels.anchor_softmax.kernel"
_POOLING = "edgefel.kernels.token_pooling.kernel"


@dataclass(frozen=True)
class ModelledLaunch:
    """One launch. op, problem, mode: as rows of the bench name them; level: of the pyramid, 0 for other ops."""

    op: str
    problem: str
    level: int
    batch: int
    dtype: str
    mode: str
    spec: KernelSpec
    plan: Plan

    @property
    def kernel(self) -> str:
        """Name of the Triton function."""
        return self.spec.function


def our_launches(
    batches: Sequence[int], dtype: Any, levels: Sequence[int] | None = None
) -> list[ModelledLaunch]:
    """Every launch of the fused kernels for the full-size models, forward and backward.

    dtype: of attention and poolings. levels: of the pyramid, which leave the other ops out; None for everything.
    """
    found: list[ModelledLaunch] = []
    for batch in batches:
        for problem in pyramid_levels(batch, dtype):
            if levels is None or problem.level in levels:
                found += [attention_forward(problem), *attention_backward(problem)]
        if levels is None:
            found += [*_head(batch, model_config("arbex")), *_poolings(batch, dtype)]
    return found


def attention_forward(problem: AttentionProblem) -> ModelledLaunch:
    """Scores, softmax and product with v of one level."""
    dtype, m, width = FLOAT_TYPES[problem.dtype], problem.window**2, problem.width
    spec = attention_spec(problem.name, problem.window, problem.heads, width, 1, dtype)
    block_m, block_n = spec.constants["BLOCK_M"], spec.constants["BLOCK_N"]
    programs = spec.programs_per_image * problem.batch
    size = _size(dtype)
    plan = Plan(
        unit="score",
        units=problem.batch * problem.heads * m * m,
        programs=programs,
        warps=spec.warps,
        tile=block_m * block_n,
        trips=(ceil(m / block_n),),
        l2_bytes=programs * size * width * (2 * block_m + 2 * m),
        dram_bytes=problem.work(backward=False).bytes,
        marker="products" if size == 2 else "",
        per_unit=2 * attention.padded(width),
    )
    return ModelledLaunch(
        problem.op, problem.name, problem.level, problem.batch, dtype, "forward", spec, plan
    )


def attention_backward(problem: AttentionProblem) -> Iterator[ModelledLaunch]:
    """The launches behind one another that give the four gradients."""
    dtype, window, width, heads = FLOAT_TYPES[problem.dtype], problem.window, problem.width, problem.heads
    m, size, total = window**2, _size(dtype), problem.batch
    launch = attention.default_backward(window)
    block_m, block_n = launch.block_m, launch.block_n
    tiles_m, tiles_n = ceil(m / block_m), ceil(m / block_n)
    channels, row = heads * width, width * size
    kv_strides = (2 * m * channels, width, 2 * channels, 1)
    common = {
        "q_strides": (m * channels, width, channels, 1),
        "k_strides": kv_strides,
        "v_strides": kv_strides,
        "table_strides": (heads, 1),
        **attention.constants(heads, window, width, launch),
        "scale": width**-0.5,
        "shared": 1,
        "PRECISION": "ieee",
    }
    inputs = (["q_ptr", "k_ptr", "v_ptr", "table_ptr", "grad_ptr"], ["lse_ptr", "delta_ptr"])
    pointers = dict.fromkeys(inputs[0], dtype) | dict.fromkeys(inputs[1], "fp32")
    pairs, maps = total * heads * m * m, total * heads * m * row
    splits = min(total, ceil(attention._BIAS_PROGRAMS / (tiles_m * tiles_n * heads)))
    per_split = ceil(total / splits)
    splits = ceil(total / per_split)
    # function, what it writes, products of a score, programs, trips, rows of a program's own tile and of its loop
    launches = [
        ("backward_kv_kernel", {"grad_k_ptr": dtype, "grad_v_ptr": dtype}, 4, tiles_n * heads * total,
         (tiles_m,), 4 * block_n + 2 * m, 6 * maps, {}),
        ("backward_q_kernel", {"grad_q_ptr": dtype}, 3, tiles_m * heads * total,
         (tiles_n,), 3 * block_m + 2 * m, 5 * maps, {}),
        ("backward_bias_kernel", {"sums_ptr": "fp32"}, 2, tiles_m * tiles_n * heads * splits,
         (per_split,), per_split * 2 * (block_m + block_n), 4 * maps + 4 * splits * heads * m * m,
         {"windows": total, "windows_per_split": per_split}),
    ]  # fmt: skip
    for function, results, products, programs, trips, rows, moved, more in launches:
        plan = Plan(
            "score", pairs, programs, launch.warps, block_m * block_n, trips, programs * rows * row, moved,
            "products" if size == 2 else "", products * attention.padded(width),
        )  # fmt: skip
        spec = _spec(_BACKWARD, function, pointers | results, common | more, launch.warps, launch.stages)
        yield ModelledLaunch(problem.op, problem.name, problem.level, total, dtype, "backward", spec, plan)


def _head(batch: int, config: ModelConfig) -> Iterator[ModelledLaunch]:
    """The reliability head and the anchor softmax with its gradient; a unit is one column of one anchor's distance."""
    assert config.head is not None
    classes, per_class, width = config.num_classes, config.head.anchors_per_class, config.head.embedding_dim
    sizes = launch_sizes(classes, per_class, width)
    tile, anchors = sizes["BLOCK_C"] * sizes["BLOCK_K"] * sizes["BLOCK_E"], classes * per_class
    steps = ceil(width / sizes["BLOCK_E"])
    moved = 4 * (anchors * width + batch * (width + 4 * classes + 1))
    pointers = dict.fromkeys(
        ["grad_ptr", "e_ptr", "anchors_ptr", "distance_ptr", "grad_e_ptr", "factor_ptr"], "fp32"
    )
    constants = {key: value for key, value in sizes.items() if key != "num_warps"} | {"inverse_delta": 1.0}
    each = _spec(_ANCHORS, "backward_e_kernel", pointers, constants, sizes["num_warps"], 1)
    block_r, block_e = min(32, next_power_of_two(anchors)), min(64, next_power_of_two(width))
    over_batch = _spec(
        _ANCHORS, "backward_anchors_kernel",
        dict.fromkeys(["e_ptr", "anchors_ptr", "factor_ptr", "grad_anchors_ptr"], "fp32"),
        {"batch": batch, "ANCHORS": anchors, "E": width, "BLOCK_R": block_r, "BLOCK_E": block_e}, 4, 1,
    )  # fmt: skip
    balance, softmax = (make(classes, per_class, width, *rest) for make, rest in (
        (balance_spec, (config.head.attentive, config.head.delta)), (anchor_spec, (config.head.delta,))
    ))  # fmt: skip
    for op, mode, spec in (
        ("reliability_balance", "forward", balance),
        ("anchor_softmax", "forward", softmax),
        ("anchor_softmax", "backward", each),
        ("anchor_softmax", "backward", over_batch),
    ):
        programs, size, trips = batch, tile, (steps,)
        if spec is over_batch:
            programs, size, trips = (
                ceil(anchors / block_r) * ceil(width / block_e),
                block_r * block_e,
                (batch,),
            )
        l2_bytes = programs * 4 * (anchors * width / (1 if spec is not over_batch else programs) + width)
        plan = Plan(
            "distance", batch * anchors * width, programs, spec.warps, size, trips, l2_bytes, moved,
            "ffma" if spec is not each else "",
        )  # fmt: skip
        yield ModelledLaunch(op, "head", 0, batch, "fp32", mode, spec, plan)


def _poolings(batch: int, dtype: Any) -> Iterator[ModelledLaunch]:
    """The poolings; a unit is one element that is copied."""
    for problem in poolings(batch, dtype):
        yield _pooling(problem, FLOAT_TYPES[dtype])


def _pooling(problem: PoolingProblem, dtype: str) -> ModelledLaunch:
    count, keep, width = problem.count, problem.keep, problem.width
    first = 1 if problem.heads else 0
    if problem.heads:
        spec = token_pooling_spec("pool_tokens", problem.heads, count, keep, width, dtype)
    else:
        spec = patch_pooling_spec(count, keep, width, dtype)
    tile = tile_for(count, first + count, width)
    programs = spec.programs_per_image * problem.batch
    scored = tile.slices * (problem.heads * count if problem.heads else count * width)
    plan = Plan(
        "element",
        problem.batch * (first + keep) * width,
        programs,
        spec.warps,
        tile.rows * tile.block_c,
        (ceil(width / tile.block_c),),
        _size(dtype) * problem.batch * (scored + 2 * (first + keep) * width),
        problem.work(backward=False).bytes,
        "stores",
        _size(dtype),
        "STG",
    )
    return ModelledLaunch(problem.op, problem.name, 0, problem.batch, dtype, "forward", spec, plan)


def _spec(
    module: str, function: str, pointers: dict[str, str], constants: dict[str, Any], warps: int, stages: int
) -> KernelSpec:
    arguments = tuple(Argument(name, kind, "") for name, kind in pointers.items())
    return KernelSpec(function, module, function, arguments, constants, 1, warps, stages)


def _size(dtype: str) -> int:
    """Bytes of an element."""
    return 4 if dtype == "fp32" else 2
