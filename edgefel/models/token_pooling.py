"""Attentive patch pooling and attentive token pooling of APViT (arXiv 2212.05463 sections 3.2 and 3.3).

Neither has parameters: both score tokens by what is computed anyway and keep a fixed number of the best, so that
shapes are static. Of equal scores the token that comes first is the better one, in PyTorch as in ONNX's TopK.
"""

from __future__ import annotations

import torch
from torch import Tensor


def patch_scores(patches: Tensor) -> Tensor:
    """Score of each patch: the sum of its absolute features, before positions are added. [B, N, D] -> [B, N]."""
    return patches.abs().sum(-1)


def token_scores(products: Tensor) -> Tensor:
    """Score of each token but the class token: what the class token's query says to its key, over all heads.

    Args: `products` [B, H, T, T], q k / sqrt(d) before the softmax, class token first. Returns [B, T - 1].
    """
    return products[:, :, 0, 1:].sum(1)


def best_tokens(scores: Tensor, keep: int) -> Tensor:
    """Indices of the `keep` greatest scores, ascending: [B, N] -> int64 [B, keep].

    Of equal scores the lower index wins. Raises ValueError unless 1 <= keep <= N.
    """
    if not 1 <= keep <= scores.shape[1]:
        raise ValueError(f"cannot keep {keep} of {scores.shape[1]} tokens")
    if torch.compiler.is_exporting():
        # ONNX's TopK takes the lower index of equal values; torch.topk promises nothing, so only its graph is used
        best = scores.topk(keep, dim=1).indices
    else:
        best = scores.argsort(dim=1, descending=True, stable=True)[:, :keep]
    return best.sort(dim=1).values


def keep_tokens(tokens: Tensor, scores: Tensor, keep: int) -> Tensor:
    """The `keep` tokens with the greatest scores, in their order: [B, N, D], [B, N] -> [B, keep, D]."""
    best = best_tokens(scores, keep)
    return tokens.gather(1, best.unsqueeze(-1).expand(-1, -1, tokens.shape[-1]))


def kept_counts(patches: int, rates: tuple[float, ...]) -> tuple[int, ...]:
    """How many tokens, the class token apart, each block leaves: `max(int(n * rate), 1)` of the n before it."""
    counts = []
    for rate in rates:
        patches = max(int(patches * rate), 1)
        counts.append(patches)
    return tuple(counts)
