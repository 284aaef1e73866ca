"""Attentive patch pooling and attentive token pooling: score tokens, keep the best, in their order."""

from edgefel.kernels.token_pooling.reference import (
    best_tokens,
    keep_tokens,
    patch_scores,
    pool_patches,
    pool_tokens,
    token_scores,
)

__all__ = ["best_tokens", "keep_tokens", "patch_scores", "pool_patches", "pool_tokens", "token_scores"]
