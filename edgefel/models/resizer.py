"""Neural Resizer (arXiv 2204.02181): a learned resize in front of a network, trained with it."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from edgefel.models.config import ResizerConfig

_SLOPE = 0.2


class ResizerBlock(nn.Module):
    """conv3x3, BN, LeakyReLU, conv3x3, BN, plus a skip: [B, n, H, W] -> [B, n, H, W]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.BatchNorm2d(channels),
            nn.LeakyReLU(_SLOPE),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.residual(x)
        return out


class NeuralResizer(nn.Module):
    """[B, 3, S, S] -> [B, 3, R, R]: the bilinearly resized image plus a learned residual.

    The last convolution starts at zero, so that a trained network behind the resizer first gets a plain resized image.
    """

    def __init__(self, config: ResizerConfig) -> None:
        super().__init__()
        n = config.channels
        self.config = config
        self.before = nn.Sequential(
            nn.Conv2d(3, n, 7, padding=3),
            nn.LeakyReLU(_SLOPE),
            nn.Conv2d(n, n, 1),
            nn.LeakyReLU(_SLOPE),
            nn.BatchNorm2d(n),
        )
        self.blocks = nn.Sequential(*(ResizerBlock(n) for _ in range(config.blocks)))
        self.after = nn.Sequential(nn.Conv2d(n, n, 3, padding=1), nn.BatchNorm2d(n))
        self.project = nn.Conv2d(n, 3, 7, padding=3)
        for parameter in self.project.parameters():
            nn.init.zeros_(parameter)

    def forward(self, image: Tensor) -> Tensor:
        features = self._resize(self.before(image))
        added: Tensor = self.project(features + self.after(self.blocks(features)))
        return added + self._resize(image)

    def _resize(self, x: Tensor) -> Tensor:
        scale = self.config.scale
        if scale is None:
            return F.interpolate(x, (self.config.output_size,) * 2, mode="bilinear", align_corners=False)
        # as in the published network: coordinates by the factor itself, not by the quotient of the sides
        return F.interpolate(
            x, scale_factor=scale, mode="bilinear", align_corners=False, recompute_scale_factor=False
        )

    def extra_repr(self) -> str:
        return f"output_size={self.config.output_size}, scale={self.config.scale}"
