"""The launches of window cross-attention that are counted: what is compiled, and what each does."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil
from typing import Any

from edgefel.bench.kernels.model.count import Plan
from edgefel.bench.kernels.model.gpus import GPUS
from edgefel.bench.kernels.model.modelled import ModelledLaunch, launch_spec
from edgefel.bench.kernels.problems import AttentionProblem
from edgefel.kernels.ahead_of_time.kernel_spec import KernelSpec
from edgefel.kernels.backend import FLOAT_TYPES
from edgefel.kernels.tuning import Launch
from edgefel.kernels.window_cross_attention import launches as attention

_FORWARD, _DENSE, _BACKWARD = (
    f"edgefel.kernels.window_cross_attention.{name}" for name in ("kernel", "dense_kernel", "backward_kernel")
)


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
    spec = launch_spec(_FORWARD, "forward_kernel", pointers, constants, launch.warps, launch.stages)
    return _launch(problem, "forward", spec, plan)


def _bias(problem: AttentionProblem, mode: str = "forward") -> ModelledLaunch:
    """A unit is an entry of the dense bias."""
    side, kept = attention.bias_side(problem.window), FLOAT_TYPES[problem.dtype]
    block = min(1024, side * side)
    constants = {"table_strides": (problem.heads, 1), "W": problem.window, "SIDE": side, "BLOCK": block}
    spec = launch_spec(_DENSE, "bias_kernel", {"table_ptr": kept, "bias_ptr": kept}, constants)
    entries = problem.heads * side * side
    moved = float(problem.dtype.itemsize * entries)
    plan = Plan("entry", entries, ceil(side * side / block) * problem.heads, 4, block, (), moved, moved)
    return _launch(problem, mode, spec, plan)


def _dense_forward(problem: AttentionProblem, launch: Launch, device: attention.Device) -> ModelledLaunch:
    m, size = problem.window**2, problem.dtype.itemsize
    parts = attention.parts_of(problem.window, problem.heads, problem.batch, launch, device)
    sizes = attention.dense_constants(problem.heads, problem.window, problem.width, launch)
    dtype = FLOAT_TYPES[problem.dtype]
    pointers = dict.fromkeys(["q_ptr", "k_ptr", "v_ptr", "bias_ptr", "out_ptr"], dtype) | {"lse_ptr": "fp32"}
    constants = {**_strides(problem), "windows": problem.batch, "parts": parts, **sizes, "STORE_LSE": False}
    spec = launch_spec(_DENSE, "dense_kernel", pointers, constants, launch.warps, launch.stages)
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
    """The launches that give all four gradients, in their order."""
    device = device_of(arch)
    yield _delta(problem)
    yield _bias(problem, "backward")
    yield from (_large(problem, name, device) for name in ("kv", "q", "table"))
    yield _sum_offsets(problem, device)


def _backward_launch(problem: AttentionProblem, name: str, device: attention.Device) -> Launch:
    dtype = FLOAT_TYPES[problem.dtype]
    return attention.backward_default(name, problem.window, problem.width, dtype, device)


def _large(problem: AttentionProblem, name: str, device: attention.Device) -> ModelledLaunch:
    """One of the launches that compute scores: "kv", "q" or "table"."""
    dtype, m, width, heads = FLOAT_TYPES[problem.dtype], problem.window**2, problem.width, problem.heads
    launch, total, row = (
        _backward_launch(problem, name, device),
        problem.batch,
        width * problem.dtype.itemsize,
    )
    block_m, block_n = launch.block_m, launch.block_n
    tiles_m, tiles_n = ceil(m / block_m), ceil(m / block_n)
    # queries, keys, values and the result's gradient of all windows, and the bias
    one = total * heads * m * row
    bias = heads * attention.bias_side(problem.window) ** 2 * problem.dtype.itemsize
    results = {"grad_k_ptr": dtype, "grad_v_ptr": dtype}
    more: dict[str, Any] = {"NEED_K": True, "NEED_V": True}
    programs, trips, rows, products = tiles_n * heads * total, tiles_m, 4 * block_n + 2 * m, 4
    moved = 6.0 * one + bias
    if name == "q":
        results, more = {"grad_q_ptr": dtype}, {}
        programs, trips, rows, products = tiles_m * heads * total, tiles_n, 3 * block_m + 2 * m, 3
        moved = 5.0 * one + bias
    elif name == "table":
        splits, trips = attention.table_splits(problem.window, heads, total, launch)
        results, more = {"sums_ptr": "fp32"}, {"windows": total, "windows_per_split": trips}
        programs, rows, products = tiles_m * tiles_n * heads * splits, trips * 2 * (block_m + block_n), 2
        moved = 4.0 * one + bias + 4 * splits * heads * m * m
    plan = Plan(
        "score", _scores(problem), programs, launch.warps, block_m * block_n, (trips,), float(programs * rows * row),
        moved, **_products(problem, products),
    )  # fmt: skip
    pointers = dict.fromkeys(["q_ptr", "k_ptr", "v_ptr", "bias_ptr", "grad_ptr"], dtype)
    pointers |= dict.fromkeys(["lse_ptr", "delta_ptr"], "fp32") | results
    sizes = attention.tile_constants(heads, problem.window, width, launch)
    constants = {**_strides(problem), **more, **sizes}
    spec = launch_spec(_BACKWARD, f"backward_{name}_kernel", pointers, constants, launch.warps, launch.stages)
    return _launch(problem, "backward", spec, plan)


def _delta(problem: AttentionProblem) -> ModelledLaunch:
    """A unit is an element of the result."""
    m, heads, width, dtype = problem.window**2, problem.heads, problem.width, FLOAT_TYPES[problem.dtype]
    sizes, rows = attention.delta_constants(heads, m, width), problem.batch * heads * m
    pointers = {"out_ptr": dtype, "grad_ptr": dtype, "delta_ptr": "fp32"}
    spec = launch_spec(_BACKWARD, "delta_kernel", pointers, {"rows_total": rows, **sizes})
    moved = float(rows * (2 * width * problem.dtype.itemsize + 4))
    tile, programs = sizes["BLOCK_R"] * sizes["BLOCK_D"], ceil(rows / sizes["BLOCK_R"])
    return _launch(
        problem, "backward", spec, Plan("element", rows * width, programs, 4, tile, (), moved, moved)
    )


def _sum_offsets(problem: AttentionProblem, device: attention.Device) -> ModelledLaunch:
    """A unit is a pair's sum. A program of row offset r adds up W - |r| rows of each split."""
    window, heads, dtype = problem.window, problem.heads, FLOAT_TYPES[problem.dtype]
    launch = _backward_launch(problem, "table", device)
    splits, _ = attention.table_splits(window, heads, problem.batch, launch)
    sizes, programs = attention.offset_constants(heads, window), (2 * window - 1) * heads
    pointers = {"sums_ptr": "fp32", "grad_table_ptr": dtype}
    spec = launch_spec(_BACKWARD, "sum_offsets_kernel", pointers, {"splits": splits, **sizes})
    rows, pairs = window**2 / (2 * window - 1), splits * heads * window**4
    moved = 4.0 * pairs + problem.dtype.itemsize * (2 * window - 1) ** 2 * heads
    plan = Plan(
        "pair", pairs, programs, 4, sizes["BLOCK_S"] * sizes["BLOCK_W"] * sizes["BLOCK_R"],
        (ceil(splits / sizes["BLOCK_S"]), rows), moved, moved, "fadd", longest=window / rows,
    )  # fmt: skip
    return _launch(problem, "backward", spec, plan)
