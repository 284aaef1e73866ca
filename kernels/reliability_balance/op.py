"""Reliability balancing by Triton, in one launch, for inference."""

from __future__ import annotations

import torch
from torch import Tensor

from edgefel.kernels.anchor_softmax.op import check_size, launch_sizes
from edgefel.kernels.backend import check_runnable, check_same, define_operator, on_device
from edgefel.kernels.compile_options import COMPILE_OPTIONS
from edgefel.kernels.reliability_balance.reference import Balanced, check_balance_shapes


def reliability_balance(
    logits: Tensor, e: Tensor, anchors: Tensor | None, attentive_logits: Tensor | None, delta: float
) -> Balanced:
    """`reference.reliability_balance` in one kernel: same arguments and errors, C, C*K and E up to 1024.

    Returns FP32; a NaN in a row of an argument gives NaN in that row only. Not differentiable: training goes through
    `anchor_softmax`. Raises ValueError for a size, type or device that does not fit, too.
    """
    check_balance_shapes(logits, e, anchors, attentive_logits, delta)
    others = {"e": e, "anchors": anchors, "attentive_logits": attentive_logits}
    check_same(logits, "logits", **{name: x for name, x in others.items() if x is not None})
    if anchors is not None:
        check_size(anchors)
    check_runnable("logits", logits)
    return Balanced(*torch.ops.edgefel.reliability_balance(logits, e, anchors, attentive_logits, delta))


def _empty(
    logits: Tensor, e: Tensor, anchors: Tensor | None, attentive_logits: Tensor | None, delta: float
) -> tuple[Tensor, Tensor, Tensor]:
    whole = logits.new_empty(logits.shape, dtype=torch.float32)
    return whole, logits.new_empty(logits.shape[:1], dtype=torch.float32), torch.empty_like(whole)


def _run(
    logits: Tensor, e: Tensor, anchors: Tensor | None, attentive_logits: Tensor | None, delta: float
) -> tuple[Tensor, Tensor, Tensor]:
    from edgefel.kernels.reliability_balance.kernel import forward_kernel

    results = _empty(logits, e, anchors, attentive_logits, delta)
    batch, classes = logits.shape
    if batch == 0:
        return results
    logits = logits.contiguous()
    sizes = launch_sizes(classes, 0 if anchors is None else anchors.shape[1], e.shape[1])
    sizes["ATTENTIVE"] = attentive_logits is not None
    # a branch that is left out is never read
    branches = [logits if x is None else x.contiguous() for x in (anchors, attentive_logits)]
    with on_device(logits):
        forward_kernel[(batch,)](
            logits, e.contiguous(), *branches, *results, 1.0 / delta, **sizes, **COMPILE_OPTIONS
        )
    return results


define_operator(
    "reliability_balance(Tensor logits, Tensor e, Tensor? anchors, Tensor? attentive_logits, float delta) "
    "-> (Tensor probabilities, Tensor confidence, Tensor primary)",
    _run,
    _empty,
)
