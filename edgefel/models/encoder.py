"""The encoder of POSTER++: two streams, three levels of window cross-attention, a small ViT, a gate."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgefel.models.backbones import ImageStream, LandmarkStream, to_stream_size
from edgefel.models.config import EncoderConfig
from edgefel.models.vit import ViTBlock, initialize_from_scratch
from edgefel.models.window_attention import FusionLevel

TOKENS = 3 * 7 * 7


class FeatureGate(nn.Module):
    """x * sigmoid(W2 relu(W1 x)): [B, D] -> [B, D]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, width)
        self.fc2 = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.fc2(torch.relu(self.fc1(x))))


class Encoder(nn.Module):
    """POSTER++ encoder (arXiv 2301.12149). See EncoderConfig for the sizes."""

    backbones = ("image_stream", "landmark_stream")

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.feature_tokens = TOKENS
        w1, w2, w3 = config.image_widths
        self.image_stream = ImageStream(config.image_stem, config.image_widths, config.image_units)
        self.landmark_stream = LandmarkStream(config.landmark_widths, config.landmark_units)
        self.landmark_reduce = nn.Conv2d(config.landmark_widths[2], w3, 3, padding=1)
        self.levels = nn.ModuleList(FusionLevel(config, level) for level in range(3))
        d = config.width
        self.embed = nn.ModuleList(
            [
                nn.Sequential(nn.Conv2d(w1, d, 3, 2, 1), nn.Conv2d(d, d, 3, 2, 1)),
                nn.Sequential(nn.Conv2d(w2, d, 3, 2, 1)),
                nn.Sequential(nn.Conv2d(w3, d, 1)),
            ]
        )
        self.cls_token = nn.Parameter(torch.zeros(1, 1, d))
        self.pos_embed = nn.Parameter(torch.zeros(1, TOKENS + 1, d))
        self.blocks = nn.ModuleList(
            ViTBlock(d, config.vit_heads, config.mlp_ratio) for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(d, eps=1e-6)
        self.gate = FeatureGate(d)
        initialize_from_scratch(self)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Images [B, 3, S, S] -> gated embedding [B, D], and normalized tokens [B, 148, D], cls first.

        Images are normalized RGB, S a multiple of 112; both streams take 112 x 112 (`to_stream_size`).
        """
        return self.forward_head(self.forward_features(x))

    def forward_features(self, x: Tensor) -> Tensor:
        """The two streams and their fusion: images [B, 3, S, S] -> tokens of the three levels [B, 147, D]."""
        x = to_stream_size(x)
        landmark_maps = list(self.landmark_stream(x))
        landmark_maps[2] = self.landmark_reduce(landmark_maps[2])
        tokens = []
        for level, embed, image_map, landmark_map in zip(
            self.levels, self.embed, self.image_stream(x), landmark_maps, strict=True
        ):
            tokens.append(embed(level(image_map, landmark_map)).flatten(2).transpose(1, 2))  # [B, 49, D]
        return torch.cat(tokens, dim=1)

    def forward_head(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """The ViT and the gate: tokens [B, 147, D] -> embedding [B, D], tokens [B, 148, D]."""
        cls = self.cls_token.expand(tokens.shape[0], -1, -1)
        sequence = torch.cat([cls, tokens], dim=1) + self.pos_embed
        for block in self.blocks:
            sequence = block(sequence)
        sequence = self.norm(sequence)
        embedding: Tensor = self.gate(sequence[:, 0])
        return embedding, sequence
