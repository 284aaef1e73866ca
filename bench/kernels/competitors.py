"""Implementations of one op: ours, plain PyTorch, torch.compile, SDPA by each backend, FlexAttention.

Each is built for given inputs: one-time work (compiling, the bias where it needs no gradient) is not timed.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from importlib import import_module
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from edgefel.bench.kernels.problems import AttentionProblem, HeadProblem, PoolingProblem
from edgefel.kernels.window_cross_attention.reference import relative_position_bias

Problem = AttentionProblem | HeadProblem | PoolingProblem
# of the tensors that gradients flow to
Call = Callable[..., Any]

OURS = "edgefel"
# name -> backend of scaled_dot_product_attention
_SDPA = {
    "sdpa-math": SDPBackend.MATH,
    "sdpa-efficient": SDPBackend.EFFICIENT_ATTENTION,
    "sdpa-cudnn": SDPBackend.CUDNN_ATTENTION,
    "sdpa-flash": SDPBackend.FLASH_ATTENTION,
}
ALL = (OURS, "eager", "compile", *_SDPA, "flex")


def names(problem: Problem) -> tuple[str, ...]:
    """Of everything that computes the op."""
    others = (*_SDPA, "flex") if isinstance(problem, AttentionProblem) else ()
    return (OURS, "eager", "compile", *others)


def implementation(name: str, problem: Problem, inputs: dict[str, Tensor], backward: bool) -> Call:
    """A function of the problem's `leaves`. Raises ValueError for an unknown name.

    With `backward`, the bias of attention is built from the table inside the call, since its gradient flows there.
    """
    if name not in names(problem):
        raise ValueError(f"name: expected one of {', '.join(names(problem))}, got {name!r}")
    if isinstance(problem, AttentionProblem):
        if name in _SDPA:
            return _sdpa(_SDPA[name], problem, inputs["table"], backward)
        if name == "flex":
            return _flex(problem)
    module = import_module(f"edgefel.kernels.{problem.folder}.{'op' if name == OURS else 'reference'}")
    op: Any = getattr(module, problem.op)
    if name == "compile":
        op = torch.compile(op, dynamic=False)
    if isinstance(problem, AttentionProblem):
        return lambda q, kv, table: op(*_split(q, kv), table, problem.window, problem.width**-0.5)
    if isinstance(problem, HeadProblem):
        return lambda *tensors: op(*tensors, 1.0)
    products = (inputs["other"],) if problem.heads else ()
    return lambda *tensors: op(*tensors, *products, problem.keep)


def run(call: Call, leaves: tuple[Tensor, ...], grad: Tensor | None) -> Callable[[], tuple[Tensor, ...]]:
    """A function that computes the result and, given the gradient of it, those of the leaves."""
    if grad is None:

        def forward() -> tuple[Tensor, ...]:
            with torch.no_grad():
                out = call(*leaves)
            return out if isinstance(out, tuple) else (out,)

        return forward
    tensors = tuple(leaf.detach().clone().requires_grad_() for leaf in leaves)

    def both() -> tuple[Tensor, ...]:
        out = call(*tensors)
        return out, *torch.autograd.grad(out, tensors, grad)

    return both


def _split(q: Tensor, kv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    k, v = kv.unbind(2)
    return q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)


def _sdpa(backend: SDPBackend, problem: AttentionProblem, table: Tensor, backward: bool) -> Call:
    ready = None if backward else _padded_bias(table, problem.window)

    def call(q: Tensor, kv: Tensor, table: Tensor) -> Tensor:
        bias = _padded_bias(table, problem.window) if ready is None else ready
        with sdpa_kernel(backend):
            out = F.scaled_dot_product_attention(*_split(q, kv), attn_mask=bias, scale=problem.width**-0.5)
        return out.transpose(1, 2).flatten(2)

    return call


def _padded_bias(table: Tensor, window: int) -> Tensor:
    """The bias [1, H, M, M] in rows padded to 8 numbers; the memory-efficient kernel copies others each time."""
    bias = relative_position_bias(table, window)[None]
    keys = bias.shape[-1]
    return F.pad(bias, (0, -keys % 8))[..., :keys]


@lru_cache(maxsize=1)
def _compiled_flex() -> Any:
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention, dynamic=False)


def _flex(problem: AttentionProblem) -> Call:
    window, scale = problem.window, problem.width**-0.5

    def call(q: Tensor, kv: Tensor, table: Tensor) -> Tensor:
        def add_bias(score: Tensor, batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
            rows = query // window - key // window + window - 1
            columns = query % window - key % window + window - 1
            return score + table[rows * (2 * window - 1) + columns, head]

        out: Tensor = _compiled_flex()(*_split(q, kv), score_mod=add_bias, scale=scale)
        return out.transpose(1, 2).flatten(2)

    return call
