"""Reliability balancing in plain PyTorch: what the kernel is tested against.

Source: ARBEx (arXiv 2305.01486), sections 3.3-3.4.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from edgefel.kernels.anchor_softmax.reference import anchor_softmax, check_anchor_arguments


class Balanced(NamedTuple):
    """probabilities [B, C] after correction, their confidence [B], and primary [B, C] before it; FP32 at least."""

    probabilities: Tensor
    confidence: Tensor
    primary: Tensor


def confidence(p: Tensor) -> Tensor:
    """c(p) = 1 - H(p) with H(p) = -sum p log p / log C: [B, C] -> [B], in [0, 1].

    Both papers print a division by C, but state that a uniform p gives H = 1, which only log C does.
    """
    # p log p is 0 at p = 0; the clamp keeps the log, and its slope, finite there
    plogp = p * p.clamp_min(1e-30).log()
    return (1.0 + plogp.sum(dim=-1) / math.log(p.shape[-1])).clamp(0.0, 1.0)


def weighted_mean(
    p: Tensor, q: Tensor, weight_p: Tensor, weight_q: Tensor, fallback_q: Tensor | float
) -> Tensor:
    """(w_p p + w_q q) / (w_p + w_q) per row; where both weights are 0, p and q weighted 1 : fallback_q.

    p, q: [B, C]. weight_p, weight_q: [B], not negative. fallback_q: scalar; 1 is the plain mean. Returns [B, C]; rows
    sum to 1 if those of p and q do.
    """
    total = weight_p + weight_q
    empty = total <= 0
    one = torch.ones_like(total)
    share = torch.where(empty, one, weight_q) / torch.where(empty, one, total)
    fallback = fallback_q / (1.0 + fallback_q)
    share = torch.where(empty, share * fallback, share).unsqueeze(-1)
    return p * (1.0 - share) + q * share


def correction(geometric: Tensor | None, attentive_logits: Tensor | None) -> Tensor | None:
    """t: the mean of t_g and t_a = softmax(attentive logits), weighted by their confidence [B, C].

    Where one of the branches is None it is the other, and None where both are.
    """
    if attentive_logits is None:
        return geometric
    attended = attentive_logits.softmax(dim=-1)
    if geometric is None:
        return attended
    return weighted_mean(geometric, attended, confidence(geometric), confidence(attended), 1.0)


def reliability_balance(
    logits: Tensor, e: Tensor, anchors: Tensor | None, attentive_logits: Tensor | None, delta: float
) -> Balanced:
    """Corrects softmax(logits) by anchors and attention, each weighted by its confidence, with the full correction.

    logits: [B, C], of the primary classifier. e: [B, E], compared with the anchors. anchors: [C, K, E], and
    attentive_logits: [B, C], are None where the branch is left out. delta: temperature of the anchor softmax.

    Rows of both distributions sum to 1. Raises ValueError for a shape that does not fit, or delta that is not positive.
    """
    check_balance_shapes(logits, e, anchors, attentive_logits, delta)
    wide = torch.promote_types(logits.dtype, torch.float32)
    primary = logits.to(wide).softmax(dim=-1)
    attentive = None if attentive_logits is None else attentive_logits.to(wide)
    geometric = None if anchors is None else anchor_softmax(e, anchors, delta)
    correcting = correction(geometric, attentive)
    if correcting is None:
        probabilities = primary.clone()
    else:
        probabilities = weighted_mean(primary, correcting, confidence(primary), confidence(correcting), 1.0)
    return Balanced(probabilities, confidence(probabilities), primary)


def check_balance_shapes(
    logits: Tensor, e: Tensor, anchors: Tensor | None, attentive_logits: Tensor | None, delta: float
) -> None:
    """Raises ValueError naming the first argument whose shape does not fit."""
    if logits.ndim != 2 or logits.shape[1] < 2:
        raise ValueError(f"logits: expected [B, C] with C of 2 or more, got shape {tuple(logits.shape)}")
    batch, classes = logits.shape
    if e.ndim != 2 or e.shape[0] != batch:
        raise ValueError(f"e: expected [{batch}, E], got shape {tuple(e.shape)}")
    if anchors is not None:
        check_anchor_arguments(e, anchors, delta)
        if anchors.shape[0] != classes:
            raise ValueError(
                f"anchors: expected [{classes}, K, {e.shape[1]}], got shape {tuple(anchors.shape)}"
            )
    elif not delta > 0:
        raise ValueError(f"delta: expected a positive number, got {delta}")
    if attentive_logits is not None and attentive_logits.shape != logits.shape:
        raise ValueError(
            f"attentive_logits: expected {tuple(logits.shape)} like logits, got {tuple(attentive_logits.shape)}"
        )
