"""Window cross-attention by Triton, with its gradient, as an operator of PyTorch.

`torch.ops.edgefel.window_cross_attention` is what torch.compile and torch.export see.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from edgefel.kernels.backend import (
    FLOAT_TYPES,
    check_runnable,
    check_same,
    define_operator,
    dot_precision,
    next_power_of_two,
    on_device,
)
from edgefel.kernels.compile_options import COMPILE_OPTIONS
from edgefel.kernels.tuning import Launch, Tuner
from edgefel.kernels.window_cross_attention.reference import check_window_attention_shapes

# The bias gradient is summed over windows by at least this many programs. The number is the same on every device, so
# that the order of the sum is too.
_BIAS_PROGRAMS = 1024


def window_cross_attention(
    q: Tensor, k: Tensor, v: Tensor, bias_table: Tensor, window: int, scale: float
) -> Tensor:
    """`reference.window_cross_attention` in one kernel: same arguments and errors, any strides.

    q, k and v must agree in type; bias_table may have another. The result is contiguous and in the type of q; sums
    are FP32. Differentiable in all four tensors. Result and gradients are bitwise reproducible. Under autocast q, k
    and v are converted to the autocast type. Raises ValueError for a type or device that does not fit, too.
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


def padded(size: int) -> int:
    """The side of a tl.dot operand that holds `size`: a power of two, 16 at least."""
    return max(16, next_power_of_two(size))


def forward_space(window: int) -> list[Launch]:
    """Tiles no larger than the window needs; at most 9 launches, since each takes a second to compile."""
    tiles = [(32, 32), (64, 32), (64, 64), (128, 32)]
    launches = [Launch(m, n, 4, stages) for m, n in tiles for stages in (2, 3)]
    return _fitting(window, [*launches, Launch(128, 64, 8, 2)])


def backward_space(window: int) -> list[Launch]:
    """Tiles of the three large backward kernels, which hold two products at once; at most 5 launches."""
    tiles = [(32, 32), (32, 64), (64, 32), (64, 64)]
    return _fitting(window, [*(Launch(m, n, 4, 2) for m, n in tiles), Launch(64, 64, 8, 2)])


def _fitting(window: int, launches: list[Launch]) -> list[Launch]:
    most = padded(window * window)
    small = [launch for launch in launches if launch.block_m <= most and launch.block_n <= most]
    return small or [Launch(most, most, 4, 2)]


def default_forward(window: int, width: int, dtype: str) -> Launch:
    """A launch that keeps everything in registers on every target (report: docs/kernels.md).

    width: of a head. dtype: "fp32", whose products take twice the registers, or a 16-bit type.
    """
    narrow = dtype == "fp32" or padded(width) > 64
    return _clamped(window, 32 if narrow else 64, 32, 1 if narrow else 2)


def default_backward(window: int) -> Launch:
    """As `default_forward`, for the backward kernels."""
    return _clamped(window, 32, 32, 1)


def _clamped(window: int, block_m: int, block_n: int, stages: int) -> Launch:
    most = padded(window * window)
    return Launch(min(block_m, most), min(block_n, most), 4, stages)


def constants(heads: int, window: int, width: int, launch: Launch) -> dict[str, int]:
    """Sizes that the forward kernel and the three large backward kernels are compiled for."""
    return {
        "H": heads,
        "W": window,
        "D": width,
        "BLOCK_M": launch.block_m,
        "BLOCK_N": launch.block_n,
        "BLOCK_D": padded(width),
    }


def _options(k: Tensor, window: int, launch: Launch) -> dict[str, Any]:
    """`constants`, the precision of products, and the options of Triton's compiler."""
    return constants(k.shape[1], window, k.shape[3], launch) | {
        "PRECISION": dot_precision(k.dtype, k.device),
        "num_warps": launch.warps,
        "num_stages": launch.stages,
        **COMPILE_OPTIONS,
    }


@lru_cache(maxsize=1)
def _tuners() -> tuple[Tuner, Tuner]:
    folder = Path(__file__).parent
    forward = (folder / "kernel.py").read_text()
    backward = forward + (folder / "backward_kernel.py").read_text()
    return Tuner("window_cross_attention", forward), Tuner("window_cross_attention_backward", backward)


def _run_tuned(
    tuner: Tuner,
    q: Tensor,
    k: Tensor,
    window: int,
    detail: int,
    space: list[Launch],
    default: Launch,
    run: Callable[[Launch], None],
) -> None:
    """Runs the launch that `tuner` picks; `detail` is what else its time depends on.

    Triton's interpreter, whose time depends on the number of tiles more than on their size, gets large tiles.
    """
    total, heads, _, width = k.shape
    # batches within a factor of two are tuned together
    problem = (window, heads, width, str(q.dtype), total.bit_length(), k.stride(3), q.stride(3), detail)
    with on_device(q):
        if not q.is_cuda:
            default = _clamped(window, 64, 64, 1)
        run(tuner.pick(problem, space, default, run, q.device.index or 0))


def _empty_forward(
    q: Tensor, k: Tensor, v: Tensor, bias_table: Tensor, window: int, scale: float, differentiable: bool
) -> tuple[Tensor, Tensor]:
    total, heads, m, width = k.shape
    lse = q.new_empty((total, heads, m) if differentiable else (0,), dtype=torch.float32)
    return q.new_empty((total, m, heads * width)), lse


def _run_forward(
    q: Tensor, k: Tensor, v: Tensor, bias_table: Tensor, window: int, scale: float, differentiable: bool
) -> tuple[Tensor, Tensor]:
    from edgefel.kernels.window_cross_attention.kernel import forward_kernel

    total, heads, m, width = k.shape
    out, lse = _empty_forward(q, k, v, bias_table, window, scale, differentiable)

    inputs = (q, k, v, bias_table)

    def run(launch: Launch) -> None:
        options = _options(k, window, launch) | {"STORE_LSE": differentiable}
        strides = [x.stride() for x in inputs]
        forward_kernel[(-(-m // launch.block_m) * heads * total,)](
            *inputs, out, lse, scale, total // q.shape[0], *strides, **options
        )

    if total:
        default = default_forward(window, width, FLOAT_TYPES[q.dtype])
        _run_tuned(_tuners()[0], q, k, window, differentiable, forward_space(window), default, run)
    return out, lse


def _empty_like_projection(x: Tensor) -> Tensor:
    """[.., H, M, D] whose memory is [.., M, H, D]: the order of the projections that the gradients flow into."""
    batch, heads, m, width = x.shape
    return x.new_empty((batch, m, heads, width)).transpose(1, 2)


def _fake_backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, bias_table: Tensor, *_: Any
) -> tuple[Tensor, ...]:
    return *map(_empty_like_projection, (q, k, v)), bias_table.new_empty(bias_table.shape)


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
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    from edgefel.kernels.window_cross_attention import backward_kernel as kernels

    total, heads, m, width = k.shape
    grad_q, grad_k, grad_v = map(_empty_like_projection, (q, k, v))
    if total == 0:
        return grad_q, grad_k, grad_v, bias_table.new_zeros(bias_table.shape)
    grad_table = torch.empty(bias_table.shape, dtype=torch.float32, device=q.device)
    grad = grad.contiguous()
    delta = torch.empty_like(lse)
    shared = total // q.shape[0]
    inputs = (q, k, v, bias_table, grad, lse, delta)
    strides = [x.stride() for x in (q, k, v, bias_table)]

    def run(launch: Launch) -> None:
        tiles_m, tiles_n = -(-m // launch.block_m), -(-m // launch.block_n)
        options = _options(k, window, launch)
        kernels.backward_kv_kernel[(tiles_n * heads * total,)](
            *inputs, grad_k, grad_v, scale, shared, *strides, **options
        )
        kernels.backward_q_kernel[(tiles_m * heads * q.shape[0],)](
            *inputs, grad_q, scale, shared, *strides, **options
        )
        splits = min(total, -(-_BIAS_PROGRAMS // (tiles_m * tiles_n * heads)))
        per_split = -(-total // splits)
        splits = -(-total // per_split)
        sums = torch.empty((splits, heads, m, m), dtype=torch.float32, device=q.device)
        kernels.backward_bias_kernel[(tiles_m * tiles_n * heads * splits,)](
            *inputs, sums, scale, shared, total, per_split, *strides, **options
        )
        sizes = {"H": heads, "W": window, "BLOCK_W": padded(window), "BLOCK_R": padded(2 * window - 1)}
        kernels.sum_offsets_kernel[((2 * window - 1) * heads,)](
            sums, grad_table, splits, **sizes, **COMPILE_OPTIONS
        )

    rows = delta.numel()
    block = max(4096 // padded(width), 1)
    with on_device(q):
        kernels.delta_kernel[(-(-rows // block),)](
            out,
            grad,
            delta,
            rows,
            H=heads,
            M=m,
            D=width,
            BLOCK_R=block,
            BLOCK_D=padded(width),
            **COMPILE_OPTIONS,
        )
    space, default = backward_space(window), default_backward(window)
    _run_tuned(_tuners()[1], q, k, window, shared, space, default, run)
    return grad_q, grad_k, grad_v, grad_table.to(bias_table.dtype)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *tensors, ctx.window, ctx.scale, _ = inputs
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(*tensors, *output)


def _backward(ctx: Any, grad: Tensor, _: Tensor | None) -> tuple[Tensor | None, ...]:
    gradients = torch.ops.edgefel.window_cross_attention_backward(
        grad, *ctx.saved_tensors, ctx.window, ctx.scale
    )
    return (*gradients, None, None, None)


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
    "Tensor lse, int window, float scale) -> (Tensor, Tensor, Tensor, Tensor)",
    _run_backward,
    _fake_backward,
)
