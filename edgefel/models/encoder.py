"""The encoder: two streams, three levels of window cross-attention, a small ViT, a gate."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgefel.models.config import STREAM_SIZE, EncoderConfig
from edgefel.models.ir50 import ImageStream
from edgefel.models.layers import Mlp
from edgefel.models.mobilefacenet import LandmarkStream
from edgefel.models.window_attention import FusionLevel

TOKENS = 3 * 7 * 7
POSITION_STD = 1.0
QUERY_KEY_GAIN = 2.0


class SelfAttention(nn.Module):
    """Multi-head self-attention over tokens: [B, T, D] -> [B, T, D]."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.scale = (width // heads) ** -0.5
        self.qkv = nn.Linear(width, 3 * width)
        self.project = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        weights = ((q * self.scale) @ k.transpose(-2, -1)).softmax(dim=-1)  # [B, H, T, T]
        out: Tensor = self.project((weights @ v).transpose(1, 2).flatten(2))
        return out


class ViTBlock(nn.Module):
    """Pre-norm transformer block (Dosovitskiy et al., arXiv 2010.11929)."""

    def __init__(self, width: int, heads: int, mlp_ratio: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attention = SelfAttention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = Mlp(width, mlp_ratio)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class Gate(nn.Module):
    """x * sigmoid(W2 relu(W1 x)): [B, D] -> [B, D]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, width)
        self.fc2 = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.fc2(torch.relu(self.fc1(x))))


class Encoder(nn.Module):
    """POSTER++ encoder (arXiv 2301.12149). See EncoderConfig for the sizes."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        w1, w2, w3 = config.image_widths
        self.image_stream = ImageStream(config.image_stem, config.image_widths, config.image_units)
        self.landmark_stream = LandmarkStream(config.landmark_widths, config.landmark_units)
        self.landmark_reduce = nn.Conv2d(config.landmark_widths[2], w3, 3, padding=1)
        self.levels = nn.ModuleList(
            FusionLevel(
                config.image_widths[i],
                config.heads[i],
                config.windows[i],
                config.mlp_ratio,
                config.drop_path[i],
                config.layer_scale,
                config.query_projection,
            )
            for i in range(3)
        )
        self.embed = nn.ModuleList(
            [
                nn.Sequential(
                    nn.Conv2d(w1, config.width, 3, 2, 1), nn.Conv2d(config.width, config.width, 3, 2, 1)
                ),
                nn.Sequential(nn.Conv2d(w2, config.width, 3, 2, 1)),
                nn.Sequential(nn.Conv2d(w3, config.width, 1)),
            ]
        )
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.width))
        self.pos_embed = nn.Parameter(torch.zeros(1, TOKENS + 1, config.width))
        self.blocks = nn.ModuleList(
            ViTBlock(config.width, config.vit_heads, config.mlp_ratio) for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(config.width, eps=1e-6)
        self.gate = Gate(config.width)
        self._initialize()

    def _initialize(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        # With the usual small values every token looks alike to the class token, which then averages the
        # whole face, and training from scratch stays at chance for hundreds of steps. Positions as large as
        # the features and sharp first attention let it look at places from the start.
        nn.init.normal_(self.cls_token, std=POSITION_STD)
        nn.init.normal_(self.pos_embed, std=POSITION_STD)
        for block in self.blocks:
            assert isinstance(block, ViTBlock)
            query_key = block.attention.qkv.weight.detach()[: 2 * block.attention.qkv.in_features]
            nn.init.normal_(query_key, std=QUERY_KEY_GAIN * query_key.shape[1] ** -0.5)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Encodes images.

        Args:
            x: [B, 3, S, S], normalized RGB; S a multiple of 112. Larger inputs are sampled down with
                stride S/112, which is what nearest-neighbour resizing to 112 does.

        Returns:
            The gated embedding [B, D], and the normalized tokens [B, 148, D], cls first.
        """
        return self.relate(self.see(x))

    def see(self, x: Tensor) -> Tensor:
        """The two streams and their fusion: images [B, 3, S, S] -> tokens of the three levels [B, 147, D]."""
        stride = x.shape[-1] // STREAM_SIZE
        if stride != 1:
            x = x[:, :, ::stride, ::stride]
        landmark_maps = list(self.landmark_stream(x))
        landmark_maps[2] = self.landmark_reduce(landmark_maps[2])
        tokens = []
        for level, embed, image_map, landmark_map in zip(
            self.levels, self.embed, self.image_stream(x), landmark_maps, strict=True
        ):
            tokens.append(embed(level(image_map, landmark_map)).flatten(2).transpose(1, 2))  # [B, 49, D]
        return torch.cat(tokens, dim=1)

    def relate(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """The ViT and the gate: tokens [B, 147, D] -> embedding [B, D], tokens [B, 148, D]."""
        cls = self.cls_token.expand(tokens.shape[0], -1, -1)
        sequence = torch.cat([cls, tokens], dim=1) + self.pos_embed
        for block in self.blocks:
            sequence = block(sequence)
        sequence = self.norm(sequence)
        embedding: Tensor = self.gate(sequence[:, 0])
        return embedding, sequence
