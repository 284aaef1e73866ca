"""The two streams in front of the transformers: image features (IR-50) and landmark features (MobileFaceNet).

Sources: ArcFace (Deng et al., arXiv 1801.07698) for IR-50, Chen et al. (arXiv 1804.07573) for MobileFaceNet.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgefel.models.config import STREAM_SIZE


def to_stream_size(image: Tensor) -> Tensor:
    """[B, 3, S, S] -> [B, 3, 112, 112] with stride S/112, as nearest-neighbour resizing does; S a multiple of 112."""
    return thinned(image, image.shape[-1] // STREAM_SIZE)


def thinned(x: Tensor, stride: int) -> Tensor:
    """Every stride-th row and column of maps [B, C, H, W]."""
    return x if stride == 1 else x[:, :, ::stride, ::stride]


class PReLU(nn.PReLU):
    """`nn.PReLU` of maps [B, C, H, W], with faster gradients on a CPU.

    PyTorch's are not vectorized there, and were a fifth of a training step.
    """

    def forward(self, x: Tensor) -> Tensor:
        if self.training and x.device.type == "cpu":
            out: Tensor = _PReLUOnCpu.apply(x, self.weight)
            return out
        return super().forward(x)


class _PReLUOnCpu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, slopes: Tensor) -> Tensor:
        slopes = slopes.to(x.dtype)
        ctx.save_for_backward(x, slopes)
        return F.prelu(x, slopes)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        x, slopes = ctx.saved_tensors
        above = torch.ops.aten.threshold_backward(gradients[0], x, 0)
        below = gradients[0] - above  # exact: each element is in one of the two
        of_slopes = (below * x).flatten(2).sum(2).sum(0)
        return above.add_(below.mul_(slopes.view(-1, 1, 1))), of_slopes


class DepthwiseConv2d(nn.Conv2d):
    """A depthwise convolution; on a CPU in float32 also under autocast.

    The gradients of a strided one take 15 times as long in bfloat16 (torch 2.13, without AMX).
    """

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
            with torch.autocast("cpu", enabled=False):
                return super().forward(x.float()).to(x.dtype)
        return super().forward(x)


class ShortcutConv2d(nn.Conv2d):
    """A strided 1x1 convolution; where it learns on a CPU it is one of stride 1 after `thinned`, with the same result.

    oneDNN computes the gradient of a strided one's weights wrongly where channels come last and are fewer than a
    register holds, 16 in float32 with AVX-512: it writes past its buffer, which ends the process, now or later
    (https://github.com/uxlfoundation/oneDNN/issues/6035, torch 2.13).
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        # a graph that is captured in evaluation mode has the convolution itself
        captured = torch.compiler.is_compiling()
        learns = self.training or (self.weight.requires_grad and torch.is_grad_enabled() and not captured)
        if learns and x.device.type == "cpu":
            return F.conv2d(thinned(x, self.stride[0]), self.weight)
        return super().forward(x)


class ResidualUnit(nn.Module):
    """BN, conv3x3, PReLU, conv3x3 (stride here), BN, plus a shortcut.

    The shortcut is the strided identity, or a 1x1 convolution with batch norm where the width changes.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            nn.BatchNorm2d(inputs),
            nn.Conv2d(inputs, outputs, 3, 1, 1, bias=False),
            PReLU(outputs),
            nn.Conv2d(outputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.stride = stride
        self.shortcut: nn.Sequential | None = None
        if inputs != outputs:
            self.shortcut = nn.Sequential(ShortcutConv2d(inputs, outputs, stride), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        shortcut = self.shortcut(x) if self.shortcut is not None else thinned(x, self.stride)
        out: Tensor = self.residual(x) + shortcut
        return out


class ImageStream(nn.Module):
    """The first three bodies of IR-50: [B, 3, 112, 112] -> [B, w1, 56, 56], [B, w2, 28, 28], [B, w3, 14, 14]."""

    def __init__(self, stem: int, widths: tuple[int, int, int], units: tuple[int, int, int]) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, stem, 3, 1, 1, bias=False), nn.BatchNorm2d(stem), PReLU(stem))
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


class ConvBlock(nn.Module):
    """Convolution without bias, batch norm, and PReLU per channel unless `act` is off."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1, act: bool = True
    ) -> None:
        super().__init__()
        convolution = nn.Conv2d if groups == 1 else DepthwiseConv2d
        self.conv = convolution(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        self.act = PReLU(outputs) if act else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.act(self.norm(self.conv(x)))
        return out


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
    """MobileFaceNet up to its last map: [B, 3, 112, 112] -> [B, w1, 28, 28], [B, w2, 14, 14], [B, w3, 7, 7]."""

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
