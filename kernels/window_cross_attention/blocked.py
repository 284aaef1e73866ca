"""Window cross-attention for training on a CPU: plain PyTorch, as many windows at a time as the caches hold scores of.

All scores of a batch are gigabytes, which pass through memory once for each step of the softmax and of its gradient.
Here they stay in the caches, and the backward pass computes them again, as FlashAttention does (arXiv 2205.14135).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from edgefel.kernels.window_cross_attention.reference import (
    check_window_attention_shapes,
    relative_position_bias,
)

# scores of a block: 2 MB in FP32
BLOCK_SCORES = 2**19
# scores of a batch from which blocks are faster: about what a large cache holds
WORTHWHILE_SCORES = 2**23


def is_worthwhile(windows: Tensor, heads: int) -> bool:
    """Whether blocks are faster for a gradient through attention to `windows`, [B*nW, M, d], than the reference is."""
    total, m, _ = windows.shape
    on_cpu = windows.device.type == "cpu" and not torch.compiler.is_compiling()
    return on_cpu and total * heads * m * m >= WORTHWHILE_SCORES


def window_cross_attention(
    q: Tensor, k: Tensor, v: Tensor, bias_table: Tensor, window: int, scale: float
) -> Tensor:
    """`reference.window_cross_attention` block by block: same arguments, errors and, but for sums of gradients, bits.

    Memory is that of the arguments, the result and the bias. Under autocast q, k and v are converted to its type.
    """
    check_window_attention_shapes(q, k, v, bias_table, window)
    if torch.is_autocast_enabled(q.device.type):
        dtype = torch.get_autocast_dtype(q.device.type)
        q, k, v = q.to(dtype), k.to(dtype), v.to(dtype)
    if q.shape[0] != k.shape[0]:
        q = q.repeat_interleave(k.shape[0] // q.shape[0], dim=0)
    bias = relative_position_bias(bias_table, window).contiguous()
    out: Tensor = _Attention.apply(q * scale, k, v, bias)
    return out.flatten(2)


class _Attention(torch.autograd.Function):
    """softmax(q k^T + bias) v. q, k, v: [N, H, M, D]; bias: [H, M, M]. Returns [N, M, H, D]."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(q, k, v, bias)
        out = torch.empty_like(q.transpose(1, 2), memory_format=torch.contiguous_format)
        for block in _blocks(bias, len(q)):
            weights = _weights(q[block], k[block], bias)
            out[block] = (weights.to(v.dtype) @ v[block]).transpose(1, 2)
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, bias = ctx.saved_tensors
        of_out = gradients[0].transpose(1, 2)  # [N, H, M, D]
        of_q, of_k, of_v, of_bias = (
            torch.zeros_like(x, dtype=torch.float32 if x is bias else x.dtype) if needed else None
            for x, needed in zip((q, k, v, bias), ctx.needs_input_grad, strict=True)
        )
        for block in _blocks(bias, len(q)):
            weights = _weights(q[block], k[block], bias)
            if of_v is not None:
                of_v[block] = weights.to(v.dtype).mT @ of_out[block]
            if of_q is None and of_k is None and of_bias is None:
                continue
            of_weights = (of_out[block] @ v[block].mT).to(weights.dtype)
            of_scores = torch.ops.aten._softmax_backward_data(of_weights, weights, -1, weights.dtype)
            if of_bias is not None:
                of_bias += of_scores.sum(0) if len(of_scores) > 1 else of_scores[0]
            of_scores = of_scores.to(q.dtype)
            if of_q is not None:
                of_q[block] = of_scores @ k[block]
            if of_k is not None:
                of_k[block] = of_scores.mT @ q[block]
        return of_q, of_k, of_v, None if of_bias is None else of_bias.to(bias.dtype)


def _blocks(bias: Tensor, windows: int) -> Iterator[slice]:
    step = max(1, BLOCK_SCORES // max(1, bias.numel()))
    return (slice(start, start + step) for start in range(0, windows, step))


def _weights(q: Tensor, k: Tensor, bias: Tensor) -> Tensor:
    """softmax(q k^T + bias), at least in FP32."""
    scores = (q @ k.mT).add_(bias)
    return scores.softmax(dim=-1, dtype=torch.promote_types(scores.dtype, torch.float32))
