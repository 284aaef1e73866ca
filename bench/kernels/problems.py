"""What is measured: sizes, inputs, and the operations and bytes that no implementation can avoid."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from edgefel.kernels.backend import FLOAT_TYPES
from edgefel.models.config import EncoderConfig

DTYPES = {name: dtype for dtype, name in FLOAT_TYPES.items()}


@dataclass(frozen=True)
class Work:
    """The least that has to happen: bytes of memory traffic, floating-point operations of matrix products,
    exponentials."""

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

    @property
    def name(self) -> str:
        """For rows and plots."""
        return f"level {self.level}"

    @property
    def tokens(self) -> int:
        """M."""
        return self.window * self.window

    def work(self, backward: bool) -> Work:
        """Floors: every input read once, every output written once; 2 products forward, 5 more backward."""
        size = torch.finfo(self.dtype).bits // 8
        row = self.batch * self.tokens * self.heads * self.width * size
        table = (2 * self.window - 1) ** 2 * self.heads * size
        pairs = self.batch * self.heads * self.tokens**2
        product = 2 * pairs * self.width
        if not backward:
            return Work(4 * row + table, 2 * product, pairs)
        # again q, k, v, the result and its gradient in, three gradients out, and the scores once more
        return Work(4 * row + table + 8 * row + 2 * table, 7 * product, 2 * pairs)

    def inputs(self, device: torch.device) -> dict[str, Tensor]:
        """q map [B, M, H, D] (channels last), kv [B, M, 2, H, D] (the joint projection), table, grad."""
        generator = torch.Generator().manual_seed(self.level)

        def draw(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator).to(self.dtype).to(device)

        m, heads, width = self.tokens, self.heads, self.width
        return {
            "q": draw(self.batch, m, heads, width),
            "kv": draw(self.batch, m, 2, heads, width),
            "table": draw((2 * self.window - 1) ** 2, heads),
            "grad": draw(self.batch, m, heads * width),
        }


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
    name: str = "head"

    def work(self, backward: bool) -> Work:
        """Floors; the products are few and the kernel is bound by launches."""
        anchors = self.classes * self.per_class
        bytes_moved = 4 * (self.batch * (self.width + 4 * self.classes + 1) + anchors * self.width)
        return Work(
            bytes_moved, 3 * self.batch * anchors * self.width, self.batch * (anchors + 2 * self.classes)
        )

    def inputs(self, device: torch.device) -> dict[str, Tensor]:
        """logits [B, C], e [B, E], anchors [C, K, E], attentive logits [B, C]."""
        generator = torch.Generator().manual_seed(0)

        def draw(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator).to(device)

        return {
            "logits": draw(self.batch, self.classes),
            "e": draw(self.batch, self.width),
            "anchors": draw(self.classes, self.per_class, self.width),
            "attentive": draw(self.batch, self.classes),
        }
