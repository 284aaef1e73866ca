"""Landmark stream: MobileFaceNet (Chen et al., arXiv 1804.07573) up to its last spatial map."""

from __future__ import annotations

from torch import Tensor, nn

from edgefel.models.layers import ConvBlock


class DepthwiseBlock(nn.Module):
    """1x1 expand, 3x3 depthwise, 1x1 project without activation; residual if the shape is kept."""

    def __init__(self, inputs: int, outputs: int, expanded: int, stride: int, residual: bool) -> None:
        super().__init__()
        self.expand = ConvBlock(inputs, expanded, kernel=1)
        self.depthwise = ConvBlock(expanded, expanded, stride=stride, groups=expanded)
        self.project = ConvBlock(expanded, outputs, kernel=1, act=False)
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.project(self.depthwise(self.expand(x)))
        return x + out if self.residual else out


class LandmarkStream(nn.Module):
    """[B, 3, 112, 112] -> F1 [B, w1, 28, 28], F2 [B, w2, 14, 14], F3 [B, w3, 7, 7]."""

    def __init__(self, widths: tuple[int, int, int], units: tuple[int, int, int]) -> None:
        super().__init__()
        w1, w2, w3 = widths
        self.stem = ConvBlock(3, w1, stride=2)
        self.stem_depthwise = ConvBlock(w1, w1, groups=w1)
        self.stages = nn.ModuleList(
            [
                self._stage(w1, w1, 2 * w1, units[0]),
                self._stage(w1, w2, 4 * w1, units[1]),
                self._stage(w2, w2, 4 * w2, units[2]),
            ]
        )
        self.head = ConvBlock(w2, w3, kernel=1)

    @staticmethod
    def _stage(inputs: int, outputs: int, expanded: int, units: int) -> nn.Sequential:
        down = DepthwiseBlock(inputs, outputs, expanded, stride=2, residual=False)
        blocks = [DepthwiseBlock(outputs, outputs, 2 * outputs, 1, residual=True) for _ in range(units)]
        return nn.Sequential(down, *blocks)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = self.stem_depthwise(self.stem(x))  # [B, w1, 56, 56]
        f1 = self.stages[0](x)  # [B, w1, 28, 28]
        f2 = self.stages[1](f1)  # [B, w2, 14, 14]
        f3 = self.head(self.stages[2](f2))  # [B, w3, 7, 7]
        return f1, f2, f3
