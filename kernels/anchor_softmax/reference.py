"""Anchor-distance softmax in plain PyTorch: what the kernels are tested against.

Source: ARBEx (arXiv 2305.01486, section 3.3), GReFEL section 3.2.
"""

from __future__ import annotations

import torch
from torch import Tensor


def anchor_distances(e: Tensor, anchors: Tensor) -> Tensor:
    """Euclidean distance of each embedding e [B, E] to each anchor [C, K, E]: [B, C, K], FP32 at least.

    Half precision is widened, since a sum of E squares overflows FP16 easily. The gradient is 0 where an embedding
    equals an anchor (the distance has no derivative there).
    """
    dtype = torch.promote_types(e.dtype, torch.float32)
    difference = e.to(dtype)[:, None, None, :] - anchors.to(dtype)[None]  # [B, C, K, E]
    squared = difference.square().sum(dim=-1)
    # sqrt has an infinite slope at 0; the inner where keeps it out of the backward pass
    zero = squared == 0
    root = torch.where(zero, torch.ones_like(squared), squared).sqrt()
    return torch.where(zero, torch.zeros_like(root), root)


def anchor_softmax(e: Tensor, anchors: Tensor, delta: float) -> Tensor:
    """t_g[b, c] = sum over k of softmax over all (c, k) of -|e[b] - a[c, k]| / delta.

    e: [B, E]. anchors: [C, K, E]. delta: temperature. Returns [B, C], FP32 at least; rows sum to 1. A NaN in a row of
    `e` gives NaN in that row only. Raises ValueError for a shape that does not fit, or delta that is not positive.
    """
    check_anchor_arguments(e, anchors, delta)
    distances = anchor_distances(e, anchors)  # [B, C, K]
    weights = (-distances / delta).flatten(1).softmax(dim=-1)
    return weights.unflatten(1, anchors.shape[:2]).sum(dim=-1)


def check_anchor_arguments(e: Tensor, anchors: Tensor, delta: float) -> None:
    """Raises ValueError naming the first argument that does not fit."""
    if e.ndim != 2:
        raise ValueError(f"e: expected [B, E], got shape {tuple(e.shape)}")
    if anchors.ndim != 3 or anchors.shape[-1] != e.shape[-1]:
        raise ValueError(f"anchors: expected [C, K, {e.shape[-1]}], got shape {tuple(anchors.shape)}")
    if not delta > 0:
        raise ValueError(f"delta: expected a positive number, got {delta}")
