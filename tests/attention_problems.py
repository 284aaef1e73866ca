"""Problems of window cross-attention, their inputs, and what an implementation makes of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class Problem(NamedTuple):
    """images, windows per image that share a query map, heads, side of the window, head width."""

    images: int
    shared: int
    heads: int
    window: int
    width: int


def tensors(
    problem: Problem, device: torch.device, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Query map [B, M, H, D], joint keys and values [B nW, M, 2, H, D], table, and a gradient."""
    generator = torch.Generator().manual_seed(sum(problem))
    images, shared, heads, window, width = problem
    m = window * window

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).to(dtype).to(device)

    return (
        draw(images, m, heads, width),
        draw(images * shared, m, 2, heads, width),
        draw((2 * window - 1) ** 2, heads),
        draw(images * shared, m, heads * width),
    )


def attend(op: Callable[..., Tensor], q_map: Tensor, kv: Tensor, table: Tensor, problem: Problem) -> Tensor:
    """The op as the model calls it: q out of a channels-last map, k and v out of the joint projection."""
    k, v = kv.unbind(2)
    return op(
        q_map.transpose(1, 2),
        k.transpose(1, 2),
        v.transpose(1, 2),
        table,
        problem.window,
        problem.width**-0.5,
    )


def results(op: Callable[..., Tensor], problem: Problem, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Result and gradients of map, projection and table."""
    q_map, kv, table = (x.clone().requires_grad_() for x in inputs[:3])
    out = attend(op, q_map, kv, table, problem)
    return out, *torch.autograd.grad(out, (q_map, kv, table), inputs[3])
