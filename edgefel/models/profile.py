"""Parameters and multiply-accumulates of a model, counted without running it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from edgefel.models.config import ModelConfig
from edgefel.models.network import FacialExpressionModel


@dataclass(frozen=True)
class Profile:
    """Trained numbers, and multiply-accumulates of convolutions and matrix products at batch 1."""

    parameters: int
    macs: int


def profile(config: ModelConfig) -> Profile:
    """Counts on the meta device: no memory is filled and nothing is computed."""
    with torch.device("meta"):
        model = FacialExpressionModel(config).eval()
        image = torch.empty(1, 3, config.input_size, config.input_size)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(image)
    parameters = sum(p.numel() for p in model.parameters())
    # the counter reports two operations for each multiply-accumulate
    return Profile(parameters=parameters, macs=counter.get_total_flops() // 2)
