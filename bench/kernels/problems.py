"""Sizes and inputs of the ops, and the operations and bytes that no implementation can avoid."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor

from edgefel.kernels.backend import FLOAT_TYPES
from edgefel.models.apvit import PATCHES, kept_counts
from edgefel.models.config import APViTConfig, EncoderConfig

DTYPES = {name: dtype for dtype, name in FLOAT_TYPES.items()}


@dataclass(frozen=True)
class Work:
    """Lower bounds: bytes of memory traffic, floating-point operations of matrix products, exponentials."""

    bytes: float
    flops: float
    exponentials: float


@dataclass(frozen=True)
class AttentionProblem:
    """One level of the pyramid: window side, heads, head width, batch, one window to an image."""

    level: int
    window: int
    heads: int
    width: int
    batch: int
    dtype: torch.dtype
    op: ClassVar[str] = "window_cross_attention"
    folder: ClassVar[str] = op
    leaves: ClassVar[tuple[str, ...]] = ("q", "kv", "table")

    @property
    def name(self) -> str:
        """For rows and plots."""
        return f"level {self.level}"

    def work(self, backward: bool) -> Work:
        """Floors: every input read once, every output written once; 2 products forward, 5 more backward."""
        size = torch.finfo(self.dtype).bits // 8
        row = self.batch * self.window**2 * self.heads * self.width * size
        table = (2 * self.window - 1) ** 2 * self.heads * size
        pairs = self.batch * self.heads * self.window**4
        product = 2 * pairs * self.width
        if not backward:
            return Work(4 * row + table, 2 * product, pairs)
        # again q, k, v, the result and its gradient in, three gradients out, and the scores once more
        return Work(4 * row + table + 8 * row + 2 * table, 7 * product, 2 * pairs)

    def inputs(self, device: torch.device) -> dict[str, Tensor]:
        """q map [B, M, H, D] (channels last), kv [B, M, 2, H, D] (the joint projection), table, grad."""
        draw = _normal(self.level, self.dtype, device)
        m, heads, width = self.window**2, self.heads, self.width
        return {
            "q": draw(self.batch, m, heads, width),
            "kv": draw(self.batch, m, 2, heads, width),
            "table": draw((2 * self.window - 1) ** 2, heads),
            "grad": draw(self.batch, m, heads * width),
        }


def _normal(seed: int, dtype: torch.dtype, device: torch.device) -> Callable[..., Tensor]:
    """Draws tensors of given sizes, always the same ones."""
    generator = torch.Generator().manual_seed(seed)
    return lambda *shape: torch.randn(*shape, generator=generator).to(dtype).to(device)


def pyramid_levels(
    batch: int, dtype: torch.dtype, encoder: EncoderConfig | None = None
) -> list[AttentionProblem]:
    """The three levels of the full-size model (or of `encoder`)."""
    encoder = encoder or EncoderConfig()
    return [
        AttentionProblem(
            level + 1,
            encoder.windows[level],
            encoder.heads[level],
            encoder.image_widths[level] // encoder.heads[level],
            batch,
            dtype,
        )
        for level in range(3)
    ]


@dataclass(frozen=True)
class HeadProblem:
    """The reliability head's arithmetic: classes, anchors to a class, embedding width, batch; FP32."""

    classes: int = 7
    per_class: int = 10
    width: int = 128
    batch: int = 1
    name: ClassVar[str] = "head"
    op: ClassVar[str] = "reliability_balance"
    folder: ClassVar[str] = op
    dtype: ClassVar[torch.dtype] = torch.float32
    leaves: ClassVar[tuple[str, ...]] = ("logits", "e", "anchors", "attentive")

    def work(self, backward: bool) -> Work:
        """Floors; the products are few and the kernel is bound by launches."""
        anchors = self.classes * self.per_class
        bytes_moved = 4 * (self.batch * (self.width + 4 * self.classes + 1) + anchors * self.width)
        return Work(
            bytes_moved, 3 * self.batch * anchors * self.width, self.batch * (anchors + 2 * self.classes)
        )

    def inputs(self, device: torch.device) -> dict[str, Tensor]:
        """logits [B, C], e [B, E], anchors [C, K, E], attentive logits [B, C]."""
        draw = _normal(0, self.dtype, device)
        return {
            "logits": draw(self.batch, self.classes),
            "e": draw(self.batch, self.width),
            "anchors": draw(self.classes, self.per_class, self.width),
            "attentive": draw(self.batch, self.classes),
        }


@dataclass(frozen=True)
class PoolingProblem:
    """Token pooling: `count` tokens of `width` columns, of which `keep` stay, batch.

    heads: of the products that score tokens; 0 is patch pooling, which scores by the patches themselves.
    """

    count: int
    keep: int
    width: int
    heads: int
    batch: int
    dtype: torch.dtype
    folder: ClassVar[str] = "token_pooling"

    @property
    def leaves(self) -> tuple[str, ...]:
        """Inputs that get a gradient; the choice by products has none."""
        return ("source",) if self.heads else ("source", "other")

    @property
    def op(self) -> str:
        """Name of the op that solves it."""
        return "pool_tokens" if self.heads else "pool_patches"

    @property
    def name(self) -> str:
        """For rows and plots."""
        return f"{self.count} to {self.keep}"

    def work(self, backward: bool) -> Work:
        """Floors: inputs of the score and tokens that stay, once; backward, the gradients of these and of all."""
        size = torch.finfo(self.dtype).bits // 8
        first = 1 if self.heads else 0
        kept, whole = (first + self.keep) * self.width, (first + self.count) * self.width
        read = kept + self.heads * self.count if self.heads else whole
        positions = 0 if self.heads else self.count * self.width
        moved = self.batch * (read + kept) + positions
        if backward:
            moved += self.batch * (kept + whole) + positions
        return Work(size * moved, 0, 0)

    def inputs(self, device: torch.device) -> dict[str, Tensor]:
        """source [B, N, D] (a map [B, D, N] for patches) or [B, 1 + N, D], other (positions [N, D] or products
        [B, H, 1 + N, 1 + N]), grad.

        All values are multiples of 1/64 up to 2: sums are exact in every order, so that there is one right choice.
        """
        generator = torch.Generator().manual_seed(self.count)

        def draw(*shape: int) -> Tensor:
            return (torch.randint(-128, 129, shape, generator=generator) / 64).to(self.dtype).to(device)

        if self.heads:
            rows = 1 + self.count
            source, other = draw(self.batch, rows, self.width), draw(self.batch, self.heads, rows, rows)
        else:
            source = draw(self.batch, self.width, self.count).transpose(1, 2)
            other = draw(self.count, self.width)
        kept = self.keep + (1 if self.heads else 0)
        return {"source": source, "other": other, "grad": draw(self.batch, kept, self.width)}


def poolings(batch: int, dtype: torch.dtype, encoder: APViTConfig | None = None) -> list[PoolingProblem]:
    """The patch pooling of the full-size APViT (or of `encoder`), and the first and last block that drop tokens."""
    encoder = encoder or APViTConfig()
    counts = (encoder.keep_patches, *kept_counts(encoder.keep_patches, encoder.keep_rates))
    pairs = [(n, m) for n, m in pairwise(counts) if m < n]
    sizes = [(PATCHES, encoder.keep_patches, 0)]
    sizes += [(n, m, encoder.vit_heads) for n, m in dict.fromkeys(pairs[:1] + pairs[-1:])]
    return [PoolingProblem(n, m, encoder.width, heads, batch, dtype) for n, m, heads in sizes]
