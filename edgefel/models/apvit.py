"""APViT's encoder (arXiv 2212.05463): an image stream, patch pooling, and a ViT with token pooling."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgefel.kernels import backend
from edgefel.kernels.token_pooling.reference import pool_patches
from edgefel.models.backbones import ImageStream, to_stream_size
from edgefel.models.config import APViTConfig
from edgefel.models.vit import ViTBlock, initialize_from_scratch

PATCHES = 14 * 14


def kept_counts(patches: int, rates: tuple[float, ...]) -> tuple[int, ...]:
    """Tokens after each block, without the class token: `max(int(n * rate), 1)` of the n before it."""
    counts = []
    for rate in rates:
        patches = max(int(patches * rate), 1)
        counts.append(patches)
    return tuple(counts)


class APViTEncoder(nn.Module):
    """See APViTConfig for the sizes."""

    backbones = ("image_stream",)

    def __init__(self, config: APViTConfig) -> None:
        super().__init__()
        self.feature_tokens = PATCHES
        self.keep_patches = config.keep_patches
        self.implementation: backend.Choice = "auto"
        self.image_stream = ImageStream(config.image_stem, config.image_widths, config.image_units)
        self.embed = nn.Conv2d(config.image_widths[2], config.width, 1)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.width))
        self.cls_pos_embed = nn.Parameter(torch.zeros(1, 1, config.width))
        self.patch_pos_embed = nn.Parameter(torch.zeros(1, PATCHES, config.width))
        before = config.keep_patches
        blocks = []
        for after in kept_counts(config.keep_patches, config.keep_rates):
            keep = after if after < before else None
            blocks.append(
                ViTBlock(config.width, config.vit_heads, config.mlp_ratio, qkv_bias=False, keep=keep)
            )
            before = after
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(config.width, eps=1e-6)
        initialize_from_scratch(self)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Images [B, 3, S, S] -> normalized class token [B, D], and all remaining tokens [B, 1 + N, D], cls first.

        Images are normalized RGB, S a multiple of 112; the stream takes 112 x 112 (`to_stream_size`).
        """
        return self.forward_head(self.forward_features(x))

    def forward_features(self, x: Tensor) -> Tensor:
        """The image stream: images [B, 3, S, S] -> patches [B, 196, D], without positions."""
        patches: Tensor = self.embed(self.image_stream(to_stream_size(x))[2])
        return patches.flatten(2).transpose(1, 2)

    def forward_head(self, patches: Tensor) -> tuple[Tensor, Tensor]:
        """Patch pooling and the ViT: patches [B, 196, D] -> class token [B, D], tokens [B, 1 + N, D]."""
        if self.keep_patches < PATCHES:
            pool = pool_patches
            # an exported graph has TopK, which every runtime knows
            if backend.uses_triton(self.implementation, patches) and not torch.compiler.is_exporting():
                from edgefel.kernels.token_pooling.op import pool_patches as pool
            placed = pool(patches, self.patch_pos_embed, self.keep_patches)
        else:
            placed = patches + self.patch_pos_embed
        cls = (self.cls_token + self.cls_pos_embed).expand(patches.shape[0], -1, -1)
        sequence = torch.cat([cls, placed], dim=1)
        for block in self.blocks:
            sequence = block(sequence)
        sequence = self.norm(sequence)
        return sequence[:, 0], sequence

    def extra_repr(self) -> str:
        return f"keep_patches={self.keep_patches}"
