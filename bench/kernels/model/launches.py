"""The launches of our kernels that are counted: what is compiled, and what each does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

from edgefel.bench.kernels.model.count import Plan
from edgefel.bench.kernels.model.gpus import GPUS
from edgefel.bench.kernels.problems import AttentionProblem, PoolingProblem, poolings, pyramid_levels
from edgefel.kernels.ahead_of_time.kernel_spec import Argument, KernelSpec
from edgefel.kernels.ahead_of_time.specs import (
    anchor_spec,
    balance_spec,
    patch_pooling_spec,
    token_pooling_spec,
)
from edgefel.kernels.anchor_softmax.op import launch_sizes
from edgefel.kernels.backend import FLOAT_TYPES, next_power_of_two
from edgefel.kernels.token_pooling.op import tile_for
from edgefel.kernels.tuning import Launch
from edgefel.kernels.window_cross_attention import launches as attention
from edgefel.kernels.window_cross_attention.op import _TABLE_PROGRAMS
from edgefel.models.config import ModelConfig
from edgefel.models.registry import model_config

_BACKWARD = "edgefel.kernels.window_cross_attention.backward_kernel"
_DENSE = "edgefel.kernels.window_cross_attention.dense_kernel"
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
    batches: Sequence[int], dtype: Any, arch: int, levels: Sequence[int] | None = None
) -> list[ModelledLaunch]:
    """Every launch of the fused kernels for the full-size models, forward and backward, untuned, on one target.

    dtype: of attention and poolings. levels: of the pyramid, which leave the other ops out; None for everything.
    """
    found: list[ModelledLaunch] = []
    for batch in batches:
        for problem in pyramid_levels(batch, dtype):
            if levels is None or problem.level in levels:
                found += [*attention_forward(problem, arch), *attention_backward(problem, arch)]
        if levels is None:
            found += [*_head(batch, model_config("arbex")), *_poolings(batch, dtype)]
    return found


def device_of(arch: int) -> attention.Device:
    """As the op sees the GPU of `GPUS`."""
    return attention.Device(arch, GPUS[arch].multiprocessors, GPUS[arch].cache_bytes)


def attention_forward(problem: AttentionProblem, arch: int) -> list[ModelledLaunch]:
    """Scores, softmax and product with v of one level; for the dense kernel the launch that writes its bias first."""
    shape = problem.window, problem.heads, problem.width, FLOAT_TYPES[problem.dtype]
    plan = attention.pick(*shape, problem.batch, device_of(arch))
    if not plan.dense:
        return [_rows_forward(problem, plan.default)]
    return [_bias(problem), _dense_forward(problem, plan.default, device_of(arch))]


def _strides(problem: AttentionProblem) -> dict[str, Any]:
    """Of a channels-last map of queries and a joint projection of keys and values, and the scale."""
    m, channels = problem.window**2, problem.heads * problem.width
    kv_strides = (2 * m * channels, problem.width, 2 * channels, 1)
    return {
        "q_strides": (m * channels, problem.width, channels, 1),
        "k_strides": kv_strides,
        "v_strides": kv_strides,
        "scale": problem.width**-0.5,
        "shared": 1,
        "PRECISION": "ieee",  # `compile_kernel` sets it for its target
    }


def _launch(problem: AttentionProblem, mode: str, spec: KernelSpec, plan: Plan) -> ModelledLaunch:
    dtype = FLOAT_TYPES[problem.dtype]
    return ModelledLaunch(problem.op, problem.name, problem.level, problem.batch, dtype, mode, spec, plan)


def _products(problem: AttentionProblem, number: int) -> dict[str, Any]:
    """Marker of a plan with so many products for each score."""
    marker = "products" if problem.dtype.itemsize == 2 else ""
    return {"marker": marker, "per_unit": number * attention.padded(problem.width)}


def _scores(problem: AttentionProblem) -> int:
    return problem.batch * problem.heads * problem.window**4


def _rows_forward(problem: AttentionProblem, launch: Launch) -> ModelledLaunch:
    m, size = problem.window**2, problem.dtype.itemsize
    sizes = attention.rows_constants(problem.heads, problem.window, problem.width, launch)
    constants = {**_strides(problem), "table_strides": (problem.heads, 1), **sizes}
    pointers = dict.fromkeys(["q_ptr", "k_ptr", "v_ptr", "table_ptr", "out_ptr"], FLOAT_TYPES[problem.dtype])
    programs = ceil(m / launch.block_m) * problem.heads * problem.batch
    plan = Plan(
        "score", _scores(problem), programs, launch.warps, launch.block_m * sizes["BLOCK_N"],
        (problem.window // sizes["ROWS"],), programs * size * problem.width * (2 * launch.block_m + 2 * m),
        problem.work(backward=False).bytes, **_products(problem, 2),
    )  # fmt: skip
    module = "edgefel.kernels.window_cross_attention.kernel"
    spec = _spec(module, "forward_kernel", pointers, constants, launch.warps, launch.stages)
    return _launch(problem, "forward", spec, plan)


def _bias(problem: AttentionProblem) -> ModelledLaunch:
    """A unit is an entry of the dense bias."""
    side, kept = attention.bias_side(problem.window), FLOAT_TYPES[problem.dtype]
    block = min(1024, side * side)
    constants = {"table_strides": (problem.heads, 1), "W": problem.window, "SIDE": side, "BLOCK": block}
    spec = _spec(_DENSE, "bias_kernel", {"table_ptr": kept, "bias_ptr": kept}, constants, 4, 1)
    entries = problem.heads * side * side
    moved = float(problem.dtype.itemsize * entries)
    plan = Plan("entry", entries, ceil(side * side / block) * problem.heads, 4, block, (), moved, moved)
    return _launch(problem, "forward", spec, plan)


def _dense_forward(problem: AttentionProblem, launch: Launch, device: attention.Device) -> ModelledLaunch:
    m, size = problem.window**2, problem.dtype.itemsize
    parts = attention.parts_of(problem.window, problem.heads, problem.batch, launch, device)
    sizes = attention.dense_constants(problem.heads, problem.window, problem.width, launch)
    dtype = FLOAT_TYPES[problem.dtype]
    pointers = dict.fromkeys(["q_ptr", "k_ptr", "v_ptr", "bias_ptr", "out_ptr"], dtype) | {"lse_ptr": "fp32"}
    constants = {**_strides(problem), "windows": problem.batch, "parts": parts, **sizes, "STORE_LSE": False}
    spec = _spec(_DENSE, "dense_kernel", pointers, constants, launch.warps, launch.stages)
    programs = ceil(m / launch.block_m) * problem.heads * parts
    rounds = ceil(problem.batch / launch.group / parts)
    # the last tile of keys lies before the loop over the others; of a small window it is the only one
    main = (m - 1) // launch.block_n * launch.block_n
    columns = launch.block_n if main else sizes["BLOCK_T"]
    trips = (rounds, (main + sizes["BLOCK_T"]) / columns) if main else (rounds,)
    rows = rounds * launch.group * (2 * launch.block_m + 2 * m) * problem.width
    bias = launch.block_m * sizes["SIDE"]
    moved = problem.work(backward=False).bytes + problem.heads * sizes["SIDE"] ** 2 * size
    plan = Plan(
        "score", _scores(problem), programs, launch.warps, launch.group * launch.block_m * columns, trips,
        float(programs * size * (rows + bias)), moved, **_products(problem, 2),
    )  # fmt: skip
    return _launch(problem, "forward", spec, plan)


def attention_backward(problem: AttentionProblem, arch: int) -> Iterator[ModelledLaunch]:
    """The large launches that give the four gradients."""
    dtype, m, width, heads = FLOAT_TYPES[problem.dtype], problem.window**2, problem.width, problem.heads
    total, row = problem.batch, width * problem.dtype.itemsize
    pointers = dict.fromkeys(["q_ptr", "k_ptr", "v_ptr", "bias_ptr", "grad_ptr"], dtype)
    pointers |= dict.fromkeys(["lse_ptr", "delta_ptr"], "fp32")
    maps = total * heads * m * row + heads * attention.bias_side(problem.window) ** 2 * problem.dtype.itemsize
    for name, results, products in (
        ("kv", {"grad_k_ptr": dtype, "grad_v_ptr": dtype}, 4), ("q", {"grad_q_ptr": dtype}, 3),
        ("table", {"sums_ptr": "fp32"}, 2),
    ):  # fmt: skip
        launch = attention.backward_default(name, problem.window, width, dtype, device_of(arch))
        block_m, block_n = launch.block_m, launch.block_n
        tiles_m, tiles_n = ceil(m / block_m), ceil(m / block_n)
        more: dict[str, Any] = {}
        if name == "kv":
            programs, trips, rows, moved = (
                tiles_n * heads * total,
                (tiles_m,),
                4 * block_n + 2 * m,
                6.0 * maps,
            )
            more = {"NEED_K": True, "NEED_V": True}
        elif name == "q":
            programs, trips, rows, moved = (
                tiles_m * heads * total,
                (tiles_n,),
                3 * block_m + 2 * m,
                5.0 * maps,
            )
        else:
            tiles = tiles_m * tiles_n * heads
            per_split = ceil(total / min(total, ceil(_TABLE_PROGRAMS / tiles)))
            splits = ceil(total / per_split)
            programs, trips, rows = tiles * splits, (per_split,), per_split * 2 * (block_m + block_n)
            moved = 4.0 * maps + 4 * splits * heads * m * m
            more = {"windows": total, "windows_per_split": per_split}
        plan = Plan(
            "score", _scores(problem), programs, launch.warps, block_m * block_n, trips, float(programs * rows * row),
            moved, **_products(problem, products),
        )  # fmt: skip
        sizes = attention.tile_constants(heads, problem.window, width, launch)
        constants = {**_strides(problem), **more, **sizes}
        spec = _spec(
            _BACKWARD, f"backward_{name}_kernel", pointers | results, constants, launch.warps, launch.stages
        )
        yield _launch(problem, "backward", spec, plan)


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
