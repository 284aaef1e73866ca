"""Fake quantization: the float values of INT8 tensors, with gradients.

Forward it is what QuantizeLinear and DequantizeLinear compute, to the bit: round(x / s), half to even, clipped, times
s. Backward the rounding counts as the identity (straight-through estimator, Bengio et al., arXiv 1308.3432) where
nothing is clipped, and has no gradient where something is. The gradient of a step size is that of LSQ (Esser et al.,
arXiv 1902.08153).
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from edgefel.calib.thresholds import QMAX

QMIN = -QMAX - 1  # QuantizeLinear saturates there; weights stay within -QMAX..QMAX


def fake_quantize(x: Tensor, scale: Tensor) -> Tensor:
    """An activation as INT8 with one scale and zero point 0: x and the result have one shape; `scale` is 0-d.

    d/dx is 1 where round(x / s) is within -128..127, else 0. d/ds is round(x / s) - x / s there, else -128 or 127.
    """
    return cast(Tensor, _FakeQuantize.apply(x, scale))


class _FakeQuantize(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor) -> Tensor:
        steps = x / scale
        rounded = steps.round()
        kept = rounded.clamp(QMIN, QMAX)
        inside = kept == rounded
        slope = torch.where(inside, kept - steps, kept) if ctx.needs_input_grad[1] else None
        ctx.save_for_backward(inside, slope)
        return kept.mul_(scale) if slope is None else kept * scale

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None]:
        inside, slope = ctx.saved_tensors
        of_x = gradients[0] * inside if ctx.needs_input_grad[0] else None
        return of_x, None if slope is None else (gradients[0] * slope).sum()


def quantized_weight(weight: Tensor) -> tuple[Tensor, Tensor]:
    """INT8 values of a weight [O, ...] and the scale of each output channel [O, 1, ...]; max|w| / 127, 1 for zeros.

    The twin of `edgefel.calib.quantize.quantize_weight`: on a CPU both give the same bits.
    """
    top = weight.detach().abs().amax(dim=tuple(range(1, weight.ndim)), keepdim=True)
    # a division by a number may be a multiplication by its inverse, which rounds otherwise
    scale = torch.where(top > 0, top / torch.full_like(top, QMAX), torch.ones_like(top))
    return (weight.detach() / scale).round().clamp(-QMAX, QMAX).to(torch.int8), scale


def fake_quantize_weight(weight: Tensor) -> Tensor:
    """`quantized_weight` as floats, with the gradient of the identity: the largest weight sets the scale, so none is
    clipped."""
    values, scale = quantized_weight(weight)
    return values * scale + (weight - weight.detach())  # what is added is 0
