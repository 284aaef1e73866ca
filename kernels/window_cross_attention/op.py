"""Window cross-attention by Triton, with its gradient, as one operator that PyTorch knows.

`torch.ops.edgefel.window_cross_attention` is what torch.compile and torch.export see.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from edgefel.kernels.backend import check_runnable, check_same, dot_precision, on_device, type_name
from edgefel.kernels.tuning import Launch, Tuner
from edgefel.kernels.window_cross_attention import launches
from edgefel.kernels.window_cross_attention.reference import check_window_attention_shapes

# The bias gradient is summed over windows by at least this many programs, a fixed number on every device,
# so that the order of the sum is too.
_BIAS_PROGRAMS = 1024


def window_cross_attention(
    q: Tensor, k: Tensor, v: Tensor, bias_table: Tensor, window: int, scale: float
) -> Tensor:
    """softmax(scale * q k^T + bias) v within each window, in one kernel.

    Args:
        q: [B, H, M, D], shared by the nW windows of an image, or [B*nW, H, M, D]. Any strides.
        k, v: [B*nW, H, M, D]; the windows of one image follow each other. Any strides.
        bias_table: [(2W-1)^2, H]. Any strides; its type may differ from that of q.
        window: side W; M = W^2.
        scale: factor on q, usually D^-0.5.

    Returns:
        [B*nW, M, H*D], contiguous, in the type of q. Sums are FP32. Differentiable in all four tensors, and
        the gradients, like the result, have the same bits on every run. Under autocast q, k and v are
        taken in the autocast type.

    Raises:
        ValueError: a shape, type or device does not fit; names the argument, what was expected and what came.
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


_library = torch.library.Library("edgefel", "FRAGMENT")
_library.define(
    "window_cross_attention(Tensor q, Tensor k, Tensor v, Tensor bias_table, int window, float scale, "
    "bool differentiable) -> (Tensor out, Tensor lse)"
)
_library.define(
    "window_cross_attention_backward(Tensor grad, Tensor q, Tensor k, Tensor v, Tensor bias_table, Tensor out, "
    "Tensor lse, int window, float scale) -> (Tensor, Tensor, Tensor, Tensor)"
)


@lru_cache(maxsize=1)
def _tuners() -> tuple[Tuner, Tuner]:
    folder = Path(__file__).parent
    forward = (folder / "kernel.py").read_text()
    backward = forward + (folder / "backward_kernel.py").read_text()
    return Tuner("window_cross_attention", forward), Tuner("window_cross_attention_backward", backward)


def _problem(q: Tensor, k: Tensor, window: int) -> tuple[Any, ...]:
    total, heads, _, width = k.shape
    # batches within a factor of two are tuned together
    return window, heads, width, str(q.dtype), total.bit_length(), k.stride(3), q.stride(3)


def _default(q: Tensor, window: int, backward: bool = False) -> Launch:
    if not q.is_cuda:
        return launches.interpreted(window)
    width = q.shape[3]
    if backward:
        return launches.default_backward(window, width)
    return launches.default_forward(window, width, type_name(q.dtype))


def _run_forward(
    q: Tensor, k: Tensor, v: Tensor, bias_table: Tensor, window: int, scale: float, differentiable: bool
) -> tuple[Tensor, Tensor]:
    from edgefel.kernels.window_cross_attention.kernel import forward_kernel

    total, heads, m, width = k.shape
    out = torch.empty((total, m, heads * width), dtype=q.dtype, device=q.device)
    lse = torch.empty((total, heads, m) if differentiable else (0,), dtype=torch.float32, device=q.device)
    if total == 0:
        return out, lse

    def run(launch: Launch) -> None:
        tiles = -(-m // launch.block_m)
        forward_kernel[(tiles * heads * total,)](
            q,
            k,
            v,
            bias_table,
            out,
            lse,
            scale,
            total // q.shape[0],
            *q.stride(),
            *k.stride(),
            *v.stride(),
            *bias_table.stride(),
            H=heads,
            W=window,
            D=width,
            BLOCK_M=launch.block_m,
            BLOCK_N=launch.block_n,
            BLOCK_D=launches.block_d(width),
            STORE_LSE=differentiable,
            PRECISION=dot_precision(q.dtype),
            num_warps=launch.warps,
            num_stages=launch.stages,
        )

    with on_device(q):
        run(
            _tuners()[0].pick(
                (*_problem(q, k, window), differentiable),
                launches.forward_space(window, width),
                _default(q, window),
                run,
                q.device.index or 0,
            )
        )
    return out, lse


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
    images = q.shape[0]
    device = q.device
    grad = grad.contiguous()
    delta = torch.empty((total, heads, m), dtype=torch.float32, device=device)
    # [.., M, H, D] in memory: the order of the projections that the gradients flow into
    grad_q = torch.empty((images, m, heads, width), dtype=q.dtype, device=device)
    grad_k = torch.empty((total, m, heads, width), dtype=k.dtype, device=device)
    grad_v = torch.empty((total, m, heads, width), dtype=v.dtype, device=device)
    grad_table = torch.empty(bias_table.shape, dtype=torch.float32, device=device)
    gradients = (grad_q.transpose(1, 2), grad_k.transpose(1, 2), grad_v.transpose(1, 2))
    if total == 0:
        return (*gradients, grad_table.zero_().to(bias_table.dtype))

    strides = (*q.stride(), *k.stride(), *v.stride(), *bias_table.stride())
    padded = launches.block_d(width)
    inputs = (q, k, v, bias_table, grad, lse, delta)

    def run(launch: Launch) -> None:
        tiles_m, tiles_n = -(-m // launch.block_m), -(-m // launch.block_n)
        options = {
            "H": heads,
            "W": window,
            "D": width,
            "BLOCK_M": launch.block_m,
            "BLOCK_N": launch.block_n,
            "BLOCK_D": padded,
            "PRECISION": dot_precision(q.dtype),
            "num_warps": launch.warps,
            "num_stages": launch.stages,
        }
        shared = total // images
        kernels.backward_kv_kernel[(tiles_n * heads * total,)](
            *inputs, grad_k, grad_v, scale, shared, *strides, **options
        )
        kernels.backward_q_kernel[(tiles_m * heads * images,)](
            *inputs, grad_q, scale, shared, *strides, **options
        )
        splits = min(total, -(-_BIAS_PROGRAMS // (tiles_m * tiles_n * heads)))
        per_split = -(-total // splits)
        splits = -(-total // per_split)
        sums = torch.empty((splits, heads, m, m), dtype=torch.float32, device=device)
        kernels.backward_bias_kernel[(tiles_m * tiles_n * heads * splits,)](
            *inputs, sums, scale, shared, total, per_split, *strides, **options
        )
        kernels.sum_offsets_kernel[((2 * window - 1) * heads,)](
            sums,
            grad_table,
            splits,
            H=heads,
            W=window,
            BLOCK_W=max(launches.block_d(window), 16),
            BLOCK_R=launches.block_d(2 * window - 1),
        )

    with on_device(q):
        rows = total * m * heads
        block = max(4096 // padded, 1)
        kernels.delta_kernel[(-(-rows // block),)](
            out, grad, delta, rows, H=heads, M=m, D=width, BLOCK_R=block, BLOCK_D=padded
        )
        run(
            _tuners()[1].pick(
                (*_problem(q, k, window), total // images),
                launches.backward_space(window, width),
                _default(q, window, backward=True),
                run,
                q.device.index or 0,
            )
        )
    return (*gradients, grad_table.to(bias_table.dtype))


for _key in ("CUDA", "CPU"):
    _library.impl("window_cross_attention", _run_forward, _key)
    _library.impl("window_cross_attention_backward", _run_backward, _key)


def _fake_forward(
    q: Tensor, k: Tensor, v: Tensor, bias_table: Tensor, window: int, scale: float, differentiable: bool
) -> tuple[Tensor, Tensor]:
    total, heads, m, width = k.shape
    lse = (total, heads, m) if differentiable else (0,)
    return q.new_empty((total, m, heads * width)), q.new_empty(lse, dtype=torch.float32)


def _fake_backward(
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
    def like(x: Tensor) -> Tensor:
        batch, heads, m, width = x.shape
        return x.new_empty((batch, m, heads, width)).transpose(1, 2)

    return like(q), like(k), like(v), bias_table.new_empty(bias_table.shape)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    q, k, v, bias_table, ctx.window, ctx.scale, _ = inputs
    out, lse = output
    ctx.mark_non_differentiable(lse)
    ctx.save_for_backward(q, k, v, bias_table, out, lse)


def _backward(ctx: Any, grad: Tensor, _: Tensor | None) -> tuple[Tensor | None, ...]:
    q, k, v, bias_table, out, lse = ctx.saved_tensors
    gradients = torch.ops.edgefel.window_cross_attention_backward(
        grad, q, k, v, bias_table, out, lse, ctx.window, ctx.scale
    )
    return (*gradients, None, None, None)


torch.library.register_fake("edgefel::window_cross_attention", _fake_forward, lib=_library)
torch.library.register_fake("edgefel::window_cross_attention_backward", _fake_backward, lib=_library)
torch.library.register_autograd(
    "edgefel::window_cross_attention", _backward, setup_context=_setup_context, lib=_library
)
