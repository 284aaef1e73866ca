"""The launches of our kernels that are counted: what is compiled, and what each does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import ceil
from typing import Any

from edgefel.bench.kernels.model.attention import attention_backward, attention_forward
from edgefel.bench.kernels.model.count import Plan
from edgefel.bench.kernels.model.modelled import ModelledLaunch, launch_spec
from edgefel.bench.kernels.problems import PoolingProblem, poolings, pyramid_levels
from edgefel.kernels.ahead_of_time.kernel_spec import KernelSpec
from edgefel.kernels.ahead_of_time.specs import (
    anchor_spec,
    balance_spec,
    patch_pooling_spec,
    token_pooling_spec,
)
from edgefel.kernels.anchor_softmax.op import anchors_tile, launch_sizes
from edgefel.kernels.backend import FLOAT_TYPES
from edgefel.kernels.token_pooling.op import positions_tile, tile_for
from edgefel.models.config import ModelConfig
from edgefel.models.registry import model_config

_ANCHORS = "edgefel.kernels.anchor_softmax.kernel"
_POOLING = "edgefel.kernels.token_pooling.kernel"


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
            found += _head(batch, model_config("arbex"))
            for pooled in poolings(batch, dtype):
                found += [_pooling(pooled), *_pooling_backward(pooled)]
    return found


def _head(batch: int, config: ModelConfig) -> Iterator[ModelledLaunch]:
    """The reliability head and the anchor softmax with its gradient; a unit is one column of one anchor's distance."""
    assert config.head is not None
    classes, per_class, width = config.num_classes, config.head.anchors_per_class, config.head.embedding_dim
    sizes, anchors = launch_sizes(classes, per_class, width), classes * per_class
    tile = sizes["BLOCK_C"] * sizes["BLOCK_K"] * sizes["BLOCK_E"]
    trips = (ceil(width / sizes["BLOCK_E"]),)
    moved = 4 * (anchors * width + batch * (width + 4 * classes + 1))

    def one(op: str, mode: str, spec: KernelSpec, marker: str) -> ModelledLaunch:
        """A program to each embedding."""
        plan = Plan(
            "distance", batch * anchors * width, batch, spec.warps, tile, trips, batch * 4 * (anchors + 1) * width,
            moved, marker,
        )  # fmt: skip
        return ModelledLaunch(op, "head", 0, batch, "fp32", mode, replace(spec, numbers=True), plan)

    yield one(
        "reliability_balance", "forward",
        balance_spec(classes, per_class, width, config.head.attentive, config.head.delta), "ffma",
    )  # fmt: skip
    yield one("anchor_softmax", "forward", anchor_spec(classes, per_class, width, config.head.delta), "ffma")
    pointers = ["grad_ptr", "e_ptr", "anchors_ptr", "distance_ptr", "grad_e_ptr", "factor_ptr"]
    constants = {**sizes, "inverse_delta": 1 / config.head.delta, "NEED_E": True, "NEED_ANCHORS": True}
    warps = int(constants.pop("num_warps"))
    yield one(
        "anchor_softmax", "backward",
        launch_spec(_ANCHORS, "backward_e_kernel", dict.fromkeys(pointers, "fp32"), constants, warps), "",
    )  # fmt: skip
    yield _anchors_backward(batch, anchors, width)


def _anchors_backward(batch: int, anchors: int, width: int) -> ModelledLaunch:
    sizes = anchors_tile(batch, width)
    warps = sizes.pop("num_warps")
    pointers = dict.fromkeys(["e_ptr", "anchors_ptr", "factor_ptr", "grad_anchors_ptr"], "fp32")
    constants = {"batch": batch, "ANCHORS": anchors, "E": width, **sizes}
    spec = launch_spec(_ANCHORS, "backward_anchors_kernel", pointers, constants, warps)
    columns = ceil(width / sizes["BLOCK_E"])
    plan = Plan(
        "distance", batch * anchors * width, anchors * columns, warps, sizes["BLOCK_B"] * sizes["BLOCK_E"],
        (ceil(batch / sizes["BLOCK_B"]),), 4 * anchors * (2 * width + batch * (width + columns)),
        4 * (2 * anchors * width + batch * (width + anchors)), "ffma",
    )  # fmt: skip
    return ModelledLaunch("anchor_softmax", "head", 0, batch, "fp32", "backward", spec, plan)


def _pooling(problem: PoolingProblem) -> ModelledLaunch:
    """A unit is one element that is copied."""
    count, keep, width, batch, size = (
        problem.count, problem.keep, problem.width, problem.batch, problem.dtype.itemsize
    )  # fmt: skip
    dtype, first = FLOAT_TYPES[problem.dtype], 1 if problem.heads else 0
    if problem.heads:
        spec = token_pooling_spec("pool_tokens", problem.heads, count, keep, width, dtype, batch)
    else:
        spec = patch_pooling_spec(count, keep, width, dtype, batch)
    tile = tile_for(count, first + count, width, batch)
    scored = tile.slices * (problem.heads * count if problem.heads else count * width)
    plan = Plan(
        "element", batch * (first + keep) * width, spec.programs_per_image * batch, spec.warps,
        tile.rows * tile.block_c, (ceil(width / tile.block_c),), size * batch * (scored + 2 * (first + keep) * width),
        problem.work(backward=False).bytes, "stores", size, "STG",
    )  # fmt: skip
    return ModelledLaunch(
        problem.op, problem.name, 0, batch, dtype, "forward", replace(spec, numbers=True), plan
    )


def _pooling_backward(problem: PoolingProblem) -> Iterator[ModelledLaunch]:
    """The gradient of what is pooled, and of positions; a unit is an element of a source row."""
    width, batch, size, dtype = (
        problem.width,
        problem.batch,
        problem.dtype.itemsize,
        FLOAT_TYPES[problem.dtype],
    )
    first = 1 if problem.heads else 0
    rows, kept = first + problem.count, first + problem.keep
    tile = tile_for(rows, rows, width, batch)
    sizes = {"T": rows, "KEPT": kept, "D": width, **tile.copy_sizes()}
    warps = sizes.pop("num_warps")
    pointers = {"grad_ptr": dtype, "place_ptr": "i32", "grad_source_ptr": dtype}
    moved = float(batch * (size * (rows + kept) * width + 4 * rows))
    plan = Plan(
        "element", batch * rows * width, batch * tile.slices, warps, tile.rows * tile.block_c,
        (ceil(width / tile.block_c),), moved, moved, "stores", size, "STG",
    )  # fmt: skip
    spec = launch_spec(_POOLING, "backward_kernel", pointers, sizes, warps)
    yield ModelledLaunch(problem.op, problem.name, 0, batch, dtype, "backward", spec, plan)
    if problem.heads:
        return
    block = positions_tile(batch, width)
    warps = block.pop("num_warps")
    pointers = {"grad_ptr": dtype, "place_ptr": "i32", "grad_positions_ptr": dtype}
    constants = {"batch": batch, "N": rows, "KEPT": kept, "D": width, **block}
    columns = ceil(width / block["BLOCK_C"])
    moved = float(size * (batch * kept + rows) * width)
    plan = Plan(
        "element", batch * rows * width, rows * columns, warps, block["BLOCK_B"] * block["BLOCK_C"],
        (ceil(batch / block["BLOCK_B"]),), moved + 4 * batch * rows * columns, moved + 4 * batch * rows, "fadd",
    )  # fmt: skip
    spec = launch_spec(_POOLING, "backward_positions_kernel", pointers, constants, warps)
    yield ModelledLaunch(problem.op, problem.name, 0, batch, dtype, "backward", spec, plan)
