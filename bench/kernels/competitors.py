"""Who computes the same: ours, plain PyTorch, torch.compile, SDPA by each backend, FlexAttention.

An implementation is made for given inputs and returns a function without arguments, so that what it may do
once (compile; materialise the bias, where no gradient is asked of it) is done before the clock runs.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from edgefel.bench.kernels.problems import AttentionProblem, HeadProblem, PoolingProblem
from edgefel.kernels import token_pooling
from edgefel.kernels.reliability_balance import reference as balance_reference
from edgefel.kernels.window_cross_attention import relative_position_bias
from edgefel.kernels.window_cross_attention.reference import window_cross_attention as reference

OURS = "edgefel"
Attention = Callable[[Tensor, Tensor, Tensor], Tensor]  # (q map, kv, table) -> [B, M, H D]
# name -> backend of scaled_dot_product_attention
_SDPA = {
    "sdpa-math": SDPBackend.MATH,
    "sdpa-efficient": SDPBackend.EFFICIENT_ATTENTION,
    "sdpa-cudnn": SDPBackend.CUDNN_ATTENTION,
    "sdpa-flash": SDPBackend.FLASH_ATTENTION,
}
ATTENTION_NAMES = (OURS, "eager", "compile", *_SDPA, "flex")


def attention(name: str, problem: AttentionProblem, inputs: dict[str, Tensor], backward: bool) -> Attention:
    """One implementation for one problem; raises ValueError for an unknown name.

    With `backward`, the bias is built from the table inside the call, since its gradient flows there.
    """
    if name == OURS:
        from edgefel.kernels.window_cross_attention.op import window_cross_attention

        return _by_op(window_cross_attention, problem)
    if name == "eager":
        return _by_op(reference, problem)
    if name == "compile":
        compiled: Any = torch.compile(reference, dynamic=False)
        return _by_op(compiled, problem)
    if name in _SDPA:
        return _by_sdpa(_SDPA[name], problem, inputs["table"], backward)
    if name == "flex":
        return _by_flex(problem)
    raise ValueError(f"name: expected one of {', '.join(ATTENTION_NAMES)}, got {name!r}")


def run(call: Attention, inputs: dict[str, Tensor], backward: bool) -> Callable[[], tuple[Tensor, ...]]:
    """A function that runs it once and returns the result and, with `backward`, the three gradients."""
    q, kv, table = inputs["q"], inputs["kv"], inputs["table"]
    if not backward:

        def forward() -> tuple[Tensor, ...]:
            with torch.no_grad():
                return (call(q, kv, table),)

        return forward
    leaves = tuple(x.detach().clone().requires_grad_() for x in (q, kv, table))

    def both() -> tuple[Tensor, ...]:
        out = call(*leaves)
        return out, *torch.autograd.grad(out, leaves, inputs["grad"])

    return both


def _split(q: Tensor, kv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    k, v = kv.unbind(2)
    return q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)


def _by_op(op: Callable[..., Tensor], problem: AttentionProblem) -> Attention:
    scale = problem.width**-0.5
    return lambda q, kv, table: op(*_split(q, kv), table, problem.window, scale)


def _by_sdpa(backend: SDPBackend, problem: AttentionProblem, table: Tensor, backward: bool) -> Attention:
    ready = None if backward else relative_position_bias(table, problem.window)[None].contiguous()

    def call(q: Tensor, kv: Tensor, table: Tensor) -> Tensor:
        bias = relative_position_bias(table, problem.window)[None] if ready is None else ready
        with sdpa_kernel(backend):
            out = F.scaled_dot_product_attention(*_split(q, kv), attn_mask=bias, scale=problem.width**-0.5)
        return out.transpose(1, 2).flatten(2)

    return call


@lru_cache(maxsize=1)
def _flex() -> Any:
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention, dynamic=False)


def _by_flex(problem: AttentionProblem) -> Attention:
    window, scale = problem.window, problem.width**-0.5

    def call(q: Tensor, kv: Tensor, table: Tensor) -> Tensor:
        def add_bias(score: Tensor, batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
            rows = query // window - key // window + window - 1
            columns = query % window - key % window + window - 1
            return score + table[rows * (2 * window - 1) + columns, head]

        out: Tensor = _flex()(*_split(q, kv), score_mod=add_bias, scale=scale)
        return out.transpose(1, 2).flatten(2)

    return call


HEAD_NAMES = (OURS, "eager", "compile")


def head(name: str, problem: HeadProblem, inputs: dict[str, Tensor]) -> Callable[[], tuple[Tensor, ...]]:
    """The head's arithmetic for inference; raises ValueError for an unknown name."""
    arguments = inputs["logits"], inputs["e"], inputs["anchors"], inputs["attentive"], 1.0
    if name == OURS:
        from edgefel.kernels.reliability_balance.op import reliability_balance

        op: Any = reliability_balance
    elif name == "eager":
        op = balance_reference.reliability_balance
    elif name == "compile":
        op = torch.compile(balance_reference.reliability_balance, dynamic=False)
    else:
        raise ValueError(f"name: expected one of {', '.join(HEAD_NAMES)}, got {name!r}")

    def call() -> tuple[Tensor, ...]:
        with torch.no_grad():
            return tuple(op(*arguments))

    return call


POOLING_NAMES = (OURS, "eager", "compile")


def pooling(
    name: str, problem: PoolingProblem, inputs: dict[str, Tensor], backward: bool
) -> Callable[[], tuple[Tensor, ...]]:
    """A function that pools once and returns the result and, with `backward`, the gradients.

    Raises ValueError for an unknown name.
    """
    if name not in POOLING_NAMES:
        raise ValueError(f"name: expected one of {', '.join(POOLING_NAMES)}, got {name!r}")
    op: Any = getattr(token_pooling, problem.op)
    if name == OURS:
        from edgefel.kernels.token_pooling import op as kernels

        op = getattr(kernels, problem.op)
    elif name == "compile":
        op = torch.compile(op, dynamic=False)
    if not backward:

        def forward() -> tuple[Tensor, ...]:
            with torch.no_grad():
                return (op(inputs["source"], inputs["other"], problem.keep),)

        return forward
    source = inputs["source"].detach().clone().requires_grad_()
    # products get no gradient: the choice has none
    other = inputs["other"] if problem.heads else inputs["other"].detach().clone().requires_grad_()
    leaves = tuple(x for x in (source, other) if x.requires_grad)

    def both() -> tuple[Tensor, ...]:
        out = op(source, other, problem.keep)
        return out, *torch.autograd.grad(out, leaves, inputs["grad"])

    return both
