"""Window cross-attention by Triton, with its gradient, as an operator of PyTorch.

`torch.ops.edgefel.window_cross_attention` is what torch.compile and torch.export see.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from edgefel.kernels.backend import (
    FLOAT_TYPES,
    check_runnable,
    check_same,
    define_operator,
    dot_precision,
    on_device,
)
from edgefel.kernels.compile_options import COMPILE_OPTIONS
from edgefel.kernels.tuning import Launch, Tuner
from edgefel.kernels.window_cross_attention.launches import (
    Device,
    backward_default,
    backward_space,
    bias_side,
    delta_constants,
    dense_constants,
    device_of,
    offset_constants,
    parts_of,
    pick,
    rows_constants,
    table_splits,
    tile_constants,
)
from edgefel.kernels.window_cross_attention.reference import check_window_attention_shapes


def window_cross_attention(
    q: Tensor, k: Tensor, v: Tensor, bias_table: Tensor, window: int, scale: float
) -> Tensor:
    """`reference.window_cross_attention` in one kernel, or two for a batch: same arguments and errors, any strides.

    q, k and v must agree in type; bias_table may have another. The result is contiguous and in the type of q; sums
    are FP32. Differentiable in all four tensors; only the gradients that are needed are computed. The same launch
    gives the same bits; tuning may choose another, but not under `torch.use_deterministic_algorithms(True)`. Under
    autocast q, k and v are converted to the autocast type. Raises ValueError for a type or device that does not fit,
    too.
    """
    if torch.is_autocast_enabled(q.device.type):
        dtype = torch.get_autocast_dtype(q.device.type)
        q, k, v = q.to(dtype), k.to(dtype), v.to(dtype)
    check_window_attention_shapes(q, k, v, bias_table, window)
    check_same(q, "q", k=k, v=v, bias_table=bias_table)
    for name, tensor in (("k", k), ("v", v)):
        if tensor.dtype != q.dtype:
            raise ValueError(f"{name}: expected {q.dtype} like q, got {tensor.dtype}")
    check_runnable("q", q)
    differentiable = torch.is_grad_enabled() and any(t.requires_grad for t in (q, k, v, bias_table))
    out, _ = torch.ops.edgefel.window_cross_attention(q, k, v, bias_table, window, scale, differentiable)
    return out


@lru_cache(maxsize=1)
def _tuners() -> dict[str, Tuner]:
    """Of each large kernel."""
    folder = Path(__file__).parent
    common = (folder / "kernel.py").read_text()
    dense, backward = ((folder / f"{name}_kernel.py").read_text() for name in ("dense", "backward"))
    sources = {"rows": common, "dense": common + dense}
    sources |= dict.fromkeys(("backward_kv", "backward_q", "backward_table"), common + dense + backward)
    return {name: Tuner(f"window_cross_attention_{name}", source) for name, source in sources.items()}


class _Problem(NamedTuple):
    """Arguments of the op."""

    q: Tensor
    k: Tensor
    v: Tensor
    bias_table: Tensor
    window: int
    scale: float

    @property
    def shared(self) -> int:
        """Windows to a map of queries."""
        return self.k.shape[0] // self.q.shape[0]


def _run_tuned(
    name: str,
    problem: _Problem,
    detail: tuple[int, ...],
    space: Sequence[Launch],
    default: Launch,
    run: Callable[[Launch], None],
) -> None:
    """Runs the launch that the tuner `name` picks; `detail` is what else its time depends on."""
    q, k = problem.q, problem.k
    total, heads, _, width = k.shape
    # batches within a factor of two are tuned together
    key = (problem.window, heads, width, str(q.dtype), total.bit_length(), k.stride(3), q.stride(3), *detail)
    run(_tuners()[name].pick(key, space, default, run, q.device.index or 0))


def _options(q: Tensor, launch: Launch) -> dict[str, Any]:
    """The precision of products, and options of Triton's compiler."""
    return {
        "PRECISION": dot_precision(q.dtype, q.device),
        "num_warps": launch.warps,
        "num_stages": launch.stages,
        **COMPILE_OPTIONS,
    }


def _dense_bias(bias_table: Tensor, window: int, dtype: torch.dtype) -> Tensor:
    """log2(e) times the bias of all pairs, [H, side, side], in FP32 for FP32 products, else FP16.

    Written anew for each pass: a training step changes the table, and a CUDA graph must read what it holds by then.
    """
    from edgefel.kernels.window_cross_attention.dense_kernel import bias_kernel

    heads, side = bias_table.shape[1], bias_side(window)
    kept = torch.float32 if dtype == torch.float32 else torch.float16
    bias = torch.empty((heads, side, side), dtype=kept, device=bias_table.device)
    block = min(1024, side * side)
    bias_kernel[(-(-side * side // block), heads)](
        bias_table, bias, bias_table.stride(), W=window, SIDE=side, BLOCK=block, **COMPILE_OPTIONS
    )
    return bias


def _empty_forward(
    q: Tensor, k: Tensor, v: Tensor, bias_table: Tensor, window: int, scale: float, differentiable: bool
) -> tuple[Tensor, Tensor]:
    total, heads, m, width = k.shape
    lse = q.new_empty((total, heads, 2, m) if differentiable else (0,), dtype=torch.float32)
    return q.new_empty((total, m, heads * width)), lse


def _run_forward(
    q: Tensor, k: Tensor, v: Tensor, bias_table: Tensor, window: int, scale: float, differentiable: bool
) -> tuple[Tensor, Tensor]:
    total, heads, _, width = k.shape
    results = _empty_forward(q, k, v, bias_table, window, scale, differentiable)
    if total == 0:
        return results
    device = device_of(q)
    plan = pick(window, heads, width, FLOAT_TYPES[q.dtype], total, device, differentiable)
    problem = _Problem(q, k, v, bias_table, window, scale)
    with on_device(q):
        name, launcher = ("dense", _dense_launcher) if plan.dense else ("rows", _rows_launcher)
        run = launcher(problem, results, device)
        _run_tuned(name, problem, (differentiable,), plan.space, plan.default, run)
    return results


def _rows_launcher(
    problem: _Problem, results: tuple[Tensor, Tensor], device: Device
) -> Callable[[Launch], None]:
    from edgefel.kernels.window_cross_attention.kernel import forward_kernel

    total, heads, m, width = problem.k.shape
    inputs = problem[:4]

    def run(launch: Launch) -> None:
        sizes = rows_constants(heads, problem.window, width, launch)
        forward_kernel[(-(-m // launch.block_m) * heads * total,)](
            *inputs,
            results[0],
            problem.scale,
            problem.shared,
            *(x.stride() for x in inputs),
            **sizes,
            **_options(problem.q, launch),
        )

    return run


def _dense_launcher(
    problem: _Problem, results: tuple[Tensor, Tensor], device: Device
) -> Callable[[Launch], None]:
    from edgefel.kernels.window_cross_attention.dense_kernel import dense_kernel

    total, heads, m, width = problem.k.shape
    window, projections = problem.window, problem[:3]
    bias = _dense_bias(problem.bias_table, window, problem.q.dtype)

    def run(launch: Launch) -> None:
        parts = parts_of(window, heads, total, launch, device)
        sizes = dense_constants(heads, window, width, launch) | {"STORE_LSE": results[1].numel() > 0}
        dense_kernel[(-(-m // launch.block_m) * heads * parts,)](
            *projections,
            bias,
            *results,
            problem.scale,
            problem.shared,
            total,
            parts,
            *(x.stride() for x in projections),
            **sizes,
            **_options(problem.q, launch),
        )

    return run


def _empty_like_projection(x: Tensor) -> Tensor:
    """[.., H, M, D] whose memory is [.., M, H, D]: the order of the projections that the gradients flow into."""
    batch, heads, m, width = x.shape
    return x.new_empty((batch, m, heads, width)).transpose(1, 2)


def _fake_backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, bias_table: Tensor, *rest: Any
) -> tuple[Tensor, ...]:
    """Gradients without values; empty where they are not needed."""
    *needed_projections, needs_table = rest[-4:]
    projections = [
        _empty_like_projection(x) if needed else x.new_empty(0)
        for x, needed in zip((q, k, v), needed_projections, strict=True)
    ]
    return *projections, bias_table.new_empty(bias_table.shape if needs_table else 0)


def _run_backward(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias_table: Tensor,
    out: Tensor,
    lse: Tensor,
    window: int,
    scale: float,
    needs_q: bool,
    needs_k: bool,
    needs_v: bool,
    needs_table: bool,
) -> tuple[Tensor, ...]:
    needs = (needs_q, needs_k, needs_v, needs_table)
    gradients = _fake_backward(grad, q, k, v, bias_table, *needs)
    if k.shape[0] == 0:
        gradients[3].zero_()
    elif any(needs):
        problem = _Problem(q, k, v, bias_table, window, scale)
        with on_device(q):
            _launch_backward(grad.contiguous(), problem, out, lse, needs, gradients)
    return gradients


def _delta(out: Tensor, grad: Tensor, width: int) -> Tensor:
    """Sums of out * grad, both [B nW, M, H D], over each head's `width` channels: [B nW, H, M], FP32."""
    from edgefel.kernels.window_cross_attention.backward_kernel import delta_kernel

    total, m, channels = out.shape
    heads = channels // width
    delta = torch.empty((total, heads, m), dtype=torch.float32, device=out.device)
    rows, sizes = delta.numel(), delta_constants(heads, m, width)
    delta_kernel[(-(-rows // sizes["BLOCK_R"]),)](out, grad, delta, rows, **sizes, **COMPILE_OPTIONS)
    return delta


def _launch_backward(
    grad: Tensor,
    problem: _Problem,
    out: Tensor,
    lse: Tensor,
    needs: tuple[bool, bool, bool, bool],
    gradients: tuple[Tensor, ...],
) -> None:
    """Launches what the needed gradients take; each large kernel has tiles of its own."""
    from edgefel.kernels.window_cross_attention import backward_kernel as kernels

    q, window, projections = problem.q, problem.window, problem[:3]
    total, heads, m, width = problem.k.shape
    # of probabilities alone, which the gradient of v takes, nothing is subtracted
    delta = _delta(out, grad, width) if needs[0] or needs[1] or needs[3] else lse
    inputs = (*projections, _dense_bias(problem.bias_table, window, q.dtype), grad, lse, delta)
    numbers, strides = (problem.scale, problem.shared), [x.stride() for x in projections]

    def options(launch: Launch) -> dict[str, Any]:
        return tile_constants(heads, window, width, launch) | _options(q, launch)

    def run_kv(launch: Launch) -> None:
        needed = {"NEED_K": needs[1], "NEED_V": needs[2]}
        kernels.backward_kv_kernel[(-(-m // launch.block_n) * heads * total,)](
            *inputs, gradients[1], gradients[2], *numbers, *strides, **needed, **options(launch)
        )

    def run_q(launch: Launch) -> None:
        kernels.backward_q_kernel[(-(-m // launch.block_m) * heads * q.shape[0],)](
            *inputs, gradients[0], *numbers, *strides, **options(launch)
        )

    def run_table(launch: Launch) -> None:
        splits, per_split = table_splits(window, heads, total, launch)
        sums = torch.empty((splits, heads, m, m), dtype=torch.float32, device=q.device)
        tiles = -(-m // launch.block_m) * -(-m // launch.block_n) * heads
        kernels.backward_table_kernel[(tiles * splits,)](
            *inputs, sums, *numbers, total, per_split, *strides, **options(launch)
        )
        kernels.sum_offsets_kernel[((2 * window - 1) * heads,)](
            sums, gradients[3], splits, **offset_constants(heads, window), **COMPILE_OPTIONS
        )

    def launch(kernel: str, detail: tuple[int, ...], run: Callable[[Launch], None]) -> None:
        default = backward_default(kernel, window, width, FLOAT_TYPES[q.dtype], device_of(q))
        _run_tuned(f"backward_{kernel}", problem, detail, backward_space(window), default, run)

    if needs[1] or needs[2]:
        launch("kv", (needs[1], needs[2]), run_kv)
    if needs[0]:
        launch("q", (problem.shared,), run_q)
    if needs[3]:
        launch("table", (), run_table)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *tensors, ctx.window, ctx.scale, _ = inputs
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(*tensors, *output)


def _backward(ctx: Any, grad: Tensor, _: Tensor | None) -> tuple[Tensor | None, ...]:
    needs = ctx.needs_input_grad[:4]
    gradients = torch.ops.edgefel.window_cross_attention_backward(
        grad, *ctx.saved_tensors, ctx.window, ctx.scale, *needs
    )
    needed = [gradient if need else None for gradient, need in zip(gradients, needs, strict=True)]
    return (*needed, None, None, None)


define_operator(
    "window_cross_attention(Tensor q, Tensor k, Tensor v, Tensor bias_table, int window, float scale, "
    "bool differentiable) -> (Tensor out, Tensor lse)",
    _run_forward,
    _empty_forward,
    _backward,
    _setup_context,
)
define_operator(
    "window_cross_attention_backward(Tensor grad, Tensor q, Tensor k, Tensor v, Tensor bias_table, Tensor out, "
    "Tensor lse, int window, float scale, bool needs_q, bool needs_k, bool needs_v, bool needs_table) "
    "-> (Tensor, Tensor, Tensor, Tensor)",
    _run_backward,
    _fake_backward,
)
