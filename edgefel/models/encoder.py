"""The encoder of POSTER++ (arXiv 2301.12149): two streams, three levels of window cross-attention, a small ViT, a gate.

At a level, landmark queries attend to image windows, then both fuse (section 3.2).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgefel.kernels import backend
from edgefel.kernels.window_cross_attention import blocked
from edgefel.kernels.window_cross_attention.reference import window_cross_attention
from edgefel.models.backbones import ImageStream, LandmarkStream, to_stream_size
from edgefel.models.config import EncoderConfig
from edgefel.models.vit import Mlp, ViTBlock, initialize_from_scratch

TOKENS = 3 * 7 * 7


def window_partition(x: Tensor, window: int) -> Tensor:
    """[B, Hh, Ww, d] -> [B*nW, W*W, d]; the windows of one image follow each other, row by row."""
    _, height, width, channels = x.shape
    if height % window or width % window:
        raise ValueError(f"x: a {height}x{width} map cannot be cut into {window}x{window} windows")
    if height == window and width == window:
        return x.flatten(1, 2)
    rows, columns = height // window, width // window
    x = x.unflatten(2, (columns, window)).unflatten(1, (rows, window))
    return x.transpose(2, 3).reshape(-1, window * window, channels)


def window_reverse(windows: Tensor, window: int, height: int, width: int) -> Tensor:
    """The inverse of `window_partition`: [B*nW, W*W, d] -> [B, Hh, Ww, d]."""
    channels = windows.shape[-1]
    if height == window and width == window:
        return windows.unflatten(1, (window, window))
    x = windows.reshape(-1, height // window, width // window, window, window, channels)
    return x.transpose(2, 3).reshape(-1, height, width, channels)


class WindowCrossAttention(nn.Module):
    """W-MCSA: queries from the landmark map, keys and values from the image map."""

    def __init__(self, width: int, heads: int, window: int, query_projection: bool) -> None:
        super().__init__()
        self.heads, self.window = heads, window
        self.implementation: backend.Choice = "auto"
        self.scale = (width // heads) ** -0.5
        self.query = nn.Linear(width, width) if query_projection else nn.Identity()
        self.kv = nn.Linear(width, 2 * width)
        self.project = nn.Linear(width, width)
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)

    def forward(self, windows: Tensor, landmarks: Tensor) -> Tensor:
        """Attends within windows: [B*nW, M, d], the image map cut into windows -> [B*nW, M, d].

        landmarks: [B, M, d], one query map shared by the windows of an image, or [B*nW, M, d].
        """
        q = self._split_heads(self.query(landmarks))
        k, v = [self._split_heads(x) for x in self.kv(windows).chunk(2, dim=-1)]
        attend = window_cross_attention
        if backend.uses_triton(self.implementation, q):
            from edgefel.kernels.window_cross_attention.op import window_cross_attention as attend
        elif self.training and blocked.is_worthwhile(windows, self.heads):
            attend = blocked.window_cross_attention
        out: Tensor = self.project(
            attend(q, k, v, self.relative_position_bias_table, self.window, self.scale)
        )
        return out

    def _split_heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # [.., M, d] -> [.., H, M, D]


class DropPath(nn.Module):
    """Stochastic depth: drops the whole residual branch of an image (Huang et al., arXiv 1603.09382)."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0.0:
            return x
        keep = 1.0 - self.rate
        mask = torch.rand((x.shape[0],) + (1,) * (x.ndim - 1), device=x.device) < keep
        return x * (mask.to(x.dtype) / keep)

    def extra_repr(self) -> str:
        return f"rate={self.rate}"


class FusionLevel(nn.Module):
    """Window cross-attention and MLP, each a residual branch with layer scale and drop path. level: 0, 1 or 2."""

    def __init__(self, config: EncoderConfig, level: int) -> None:
        super().__init__()
        width, self.window = config.image_widths[level], config.windows[level]
        self.downsample = nn.Conv2d(width, width, 3, stride=2, padding=1)
        self.norm = nn.LayerNorm(width)
        self.attention = WindowCrossAttention(
            width, config.heads[level], self.window, config.query_projection
        )
        self.gamma1 = nn.Parameter(torch.full((width,), config.layer_scale))
        self.gamma2 = nn.Parameter(torch.full((width,), config.layer_scale))
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp = Mlp(width, config.mlp_ratio)
        self.drop_path = DropPath(config.drop_path[level])

    def forward(self, image: Tensor, landmarks: Tensor) -> Tensor:
        """Fuses one level into [B, d, S, S].

        image: [B, d, 2S, 2S], the image stream's map before this level's stride-2 convolution. landmarks: [B, d, S, S],
        or [B, d, W, W] to share one query map among the windows.
        """
        x = self.downsample(image).permute(0, 2, 3, 1)  # [B, S, S, d]
        shortcut = self.norm(x)  # the norm's output is also the shortcut
        height, width = shortcut.shape[1:3]
        queries = window_partition(landmarks.permute(0, 2, 3, 1), self.window)
        attended = self.attention(window_partition(shortcut, self.window), queries)
        attended = window_reverse(attended, self.window, height, width)
        y = shortcut + self.drop_path(self.gamma1 * attended)
        y = y + self.drop_path(self.gamma2 * self.mlp(self.mlp_norm(y)))
        return y.permute(0, 3, 1, 2)


class FeatureGate(nn.Module):
    """x * sigmoid(W2 relu(W1 x)): [B, D] -> [B, D]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, width)
        self.fc2 = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.fc2(torch.relu(self.fc1(x))))


class Encoder(nn.Module):
    """See EncoderConfig for the sizes."""

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
