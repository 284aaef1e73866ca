"""Attentive patch pooling and attentive token pooling in plain PyTorch: what the kernels are tested against.

Neither has parameters: both score tokens by existing activations and keep a fixed number of the best, so that shapes
are static. Of equal scores the first token wins, in PyTorch as in ONNX's TopK. A NaN score wins over every other,
infinity included, so that errors stay visible; ONNX's TopK does not define this case.

Source: APViT (arXiv 2212.05463), sections 3.2 and 3.3.
"""

from __future__ import annotations

import torch
from torch import Tensor


def pool_patches(patches: Tensor, positions: Tensor, keep: int) -> Tensor:
    """Attentive patch pooling: the `keep` patches with the greatest scores, in their order, with their positions.

    patches: [B, N, D], without positions, which are not scored. positions: [N, D] or [1, N, D]. keep: 1 to N. Returns
    [B, keep, D] in the common type of both. Differentiable in both; the choice has no gradient. Raises ValueError
    naming the argument that does not fit.
    """
    check_patches(patches, positions, keep)
    return keep_tokens(patches + positions, patch_scores(patches), keep)


def pool_tokens(tokens: Tensor, products: Tensor, keep: int) -> Tensor:
    """Attentive token pooling: the class token, and the `keep` others with the greatest scores, in their order.

    tokens: [B, 1 + N, D], class token first. products: [B, H, 1 + N, 1 + N], q k / sqrt(d) before the softmax, of which
    only the class token's row is read. keep: 1 to N. Returns [B, 1 + keep, D]. Differentiable in tokens; the choice has
    no gradient, so products get none. Raises ValueError naming the argument that does not fit.
    """
    check_tokens(tokens, products, keep)
    kept = keep_tokens(tokens[:, 1:], token_scores(products), keep)
    return torch.cat([tokens[:, :1], kept], dim=1)


def patch_scores(patches: Tensor) -> Tensor:
    """Score of each patch: the sum of its absolute features, before positions are added. [B, N, D] -> [B, N].

    FP32 at least: rounded to FP16, sums of hundreds of features would tie by the dozen.
    """
    return _widened(patches).abs().sum(-1)


def token_scores(products: Tensor) -> Tensor:
    """Score of each token but the class token: its product with that token's query, summed over heads.

    products: [B, H, T, T], q k / sqrt(d) before the softmax, class token first. Returns [B, T - 1], FP32 at least.
    """
    return _widened(products[:, :, 0, 1:]).sum(1)


def best_tokens(scores: Tensor, keep: int) -> Tensor:
    """Indices of the `keep` greatest scores, ascending: [B, N] -> int64 [B, keep].

    Of equal scores the lower index wins; NaN wins over every number. Raises ValueError unless 1 <= keep <= N.
    """
    check_keep(keep, scores.shape[1])
    if torch.compiler.is_exporting():
        # ONNX's TopK takes the lower index of equal values; torch.topk does not promise it, so only its graph is used
        best = scores.topk(keep, dim=1).indices
    else:
        best = scores.argsort(dim=1, descending=True, stable=True)[:, :keep]
    return best.sort(dim=1).values


def keep_tokens(tokens: Tensor, scores: Tensor, keep: int) -> Tensor:
    """The `keep` tokens with the greatest scores, in their order: [B, N, D], [B, N] -> [B, keep, D]."""
    best = best_tokens(scores, keep)
    return tokens.gather(1, best.unsqueeze(-1).expand(-1, -1, tokens.shape[-1]))


def check_keep(keep: int, tokens: int) -> None:
    """Raises ValueError unless `keep` of `tokens` can be kept."""
    if not 1 <= keep <= tokens:
        raise ValueError(f"keep: expected 1 to {tokens}, got {keep}")


def check_patches(patches: Tensor, positions: Tensor, keep: int) -> None:
    """Raises ValueError naming the first argument of `pool_patches` that does not fit."""
    if patches.ndim != 3:
        raise ValueError(f"patches: expected [B, N, D], got shape {tuple(patches.shape)}")
    size = patches.shape[1:]
    if positions.shape not in (size, (1, *size)):
        raise ValueError(f"positions: expected [{size[0]}, {size[1]}], got shape {tuple(positions.shape)}")
    check_keep(keep, size[0])


def check_tokens(tokens: Tensor, products: Tensor, keep: int) -> None:
    """Raises ValueError naming the first argument of `pool_tokens` that does not fit."""
    if tokens.ndim != 3:
        raise ValueError(f"tokens: expected [B, 1 + N, D], got shape {tuple(tokens.shape)}")
    batch, count, _ = tokens.shape
    if products.ndim != 4 or products.shape[0] != batch or products.shape[2:] != (count, count):
        raise ValueError(
            f"products: expected [{batch}, H, {count}, {count}], got shape {tuple(products.shape)}"
        )
    check_keep(keep, count - 1)


def _widened(x: Tensor) -> Tensor:
    wide = torch.promote_types(x.dtype, torch.float32)
    return x if x.dtype == wide else x.to(wide)
