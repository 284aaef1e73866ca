"""Reliability balancing by Triton, in one launch, for inference."""

from __future__ import annotations

import torch
from torch import Tensor

from edgefel.kernels.anchor_softmax.op import check_size, tile_for
from edgefel.kernels.backend import check_runnable, check_same, next_power_of_two, on_device
from edgefel.kernels.reliability_balance.reference import Balanced, check_balance_shapes


def reliability_balance(
    logits: Tensor, e: Tensor, anchors: Tensor | None, attentive_logits: Tensor | None, delta: float
) -> Balanced:
    """Corrects softmax(logits) by anchors and attention, each weighted by its confidence, with the full correction.

    Args:
        logits: [B, C], of the primary classifier; C up to 1024.
        e: [B, E], the embedding that is compared with the anchors.
        anchors: [C, K, E] with C*K up to 1024, or None to leave the branch out.
        attentive_logits: [B, C] of the attentive branch, or None to leave it out.
        delta: temperature of the anchor softmax, positive.

    Returns:
        Balanced, FP32. Rows of both distributions sum to 1; a NaN in a row of an argument gives NaN in that
        row only. Not differentiable: training goes through `anchor_softmax`.

    Raises:
        ValueError: a shape, type, device or delta does not fit; names the argument.
    """
    check_balance_shapes(logits, e, anchors, attentive_logits, delta)
    others = {"e": e, "anchors": anchors, "attentive_logits": attentive_logits}
    check_same(logits, "logits", **{name: x for name, x in others.items() if x is not None})
    if anchors is not None:
        check_size(anchors)
    check_runnable("logits", logits)
    return Balanced(*torch.ops.edgefel.reliability_balance(logits, e, anchors, attentive_logits, delta))


_library = torch.library.Library("edgefel", "FRAGMENT")
_library.define(
    "reliability_balance(Tensor logits, Tensor e, Tensor? anchors, Tensor? attentive_logits, float delta) "
    "-> (Tensor probabilities, Tensor confidence, Tensor primary)"
)


def _empty(logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    batch, classes = logits.shape
    whole = logits.new_empty((batch, classes), dtype=torch.float32)
    return whole, logits.new_empty((batch,), dtype=torch.float32), torch.empty_like(whole)


def _run(
    logits: Tensor, e: Tensor, anchors: Tensor | None, attentive_logits: Tensor | None, delta: float
) -> tuple[Tensor, Tensor, Tensor]:
    from edgefel.kernels.reliability_balance.kernel import forward_kernel

    probabilities, confidence, primary = _empty(logits)
    batch, classes = logits.shape
    if batch == 0:
        return probabilities, confidence, primary
    per_class = 0 if anchors is None else anchors.shape[1]
    width = e.shape[1]
    tile = tile_for(classes, max(per_class, 1), width)
    logits = logits.contiguous()
    with on_device(logits):
        forward_kernel[(batch,)](
            logits,
            e.contiguous(),
            # a branch that is left out is never read
            logits if anchors is None else anchors.contiguous(),
            logits if attentive_logits is None else attentive_logits.contiguous(),
            probabilities,
            confidence,
            primary,
            1.0 / delta,
            C=classes,
            K=per_class,
            E=width,
            BLOCK_C=next_power_of_two(classes),
            BLOCK_K=tile.block_k,
            BLOCK_E=tile.block_e,
            ATTENTIVE=attentive_logits is not None,
            num_warps=tile.warps,
        )
    return probabilities, confidence, primary


for _key in ("CUDA", "CPU"):
    _library.impl("reliability_balance", _run, _key)


def _fake(
    logits: Tensor, e: Tensor, anchors: Tensor | None, attentive_logits: Tensor | None, delta: float
) -> tuple[Tensor, Tensor, Tensor]:
    return _empty(logits)


torch.library.register_fake("edgefel::reliability_balance", _fake, lib=_library)
