"""Image stream: the first three bodies of IR-50 (Deng et al., ArcFace, arXiv 1801.07698)."""

from __future__ import annotations

from torch import Tensor, nn


class ResidualUnit(nn.Module):
    """BN, conv3x3, PReLU, conv3x3 (stride here), BN, plus a shortcut.

    The shortcut is the strided identity, or a 1x1 convolution with batch norm where the width changes.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            nn.BatchNorm2d(inputs),
            nn.Conv2d(inputs, outputs, 3, 1, 1, bias=False),
            nn.PReLU(outputs),
            nn.Conv2d(outputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.stride = stride
        self.shortcut = (
            nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
            if inputs != outputs
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        if self.shortcut is not None:
            shortcut = self.shortcut(x)
        else:
            shortcut = x if self.stride == 1 else x[:, :, :: self.stride, :: self.stride]
        out: Tensor = self.residual(x) + shortcut
        return out


class ImageStream(nn.Module):
    """[B, 3, 112, 112] -> [B, w1, 56, 56], [B, w2, 28, 28], [B, w3, 14, 14]."""

    def __init__(self, stem: int, widths: tuple[int, int, int], units: tuple[int, int, int]) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, stem, 3, 1, 1, bias=False), nn.BatchNorm2d(stem), nn.PReLU(stem)
        )
        inputs = (stem, *widths[:2])
        self.stages = nn.ModuleList(
            nn.Sequential(
                ResidualUnit(inputs[level], widths[level], stride=2),
                *(ResidualUnit(widths[level], widths[level], stride=1) for _ in range(units[level] - 1)),
            )
            for level in range(3)
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x1 = self.stages[0](self.stem(x))
        x2 = self.stages[1](x1)
        x3 = self.stages[2](x2)
        return x1, x2, x3
