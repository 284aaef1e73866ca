"""Optimizers and learning rates of the papers: Adam with exponential decay (ARBEx), SGD with a cosine (APViT)."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn

from edgefel.training.config import TrainConfig

# positions and the class token are places to stand, not weights to keep small (APViT, arXiv 2212.05463)
NOT_DECAYED = ("pos_embed", "cls_token")


def make_optimizer(config: TrainConfig, named: Iterable[tuple[str, nn.Parameter]]) -> torch.optim.Optimizer:
    """The optimizer for the named parameters that learn.

    With weight decay there are two groups of parameters, of which the second, positions and class tokens, has none.
    """
    learning = [(name, parameter) for name, parameter in named if parameter.requires_grad]
    groups: list[dict[str, object]] = [{"params": [parameter for _, parameter in learning]}]
    if config.weight_decay:
        kept = [parameter for name, parameter in learning if name.endswith(NOT_DECAYED)]
        decayed = [parameter for name, parameter in learning if not name.endswith(NOT_DECAYED)]
        groups = [{"params": decayed}, {"params": kept, "weight_decay": 0.0}]
    if config.optimizer == "sgd":
        return torch.optim.SGD(
            groups, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay
        )
    return torch.optim.Adam(groups, lr=config.lr, weight_decay=config.weight_decay)


def learning_rate(config: TrainConfig, epoch: int, step: int, planned: int) -> float:
    """The learning rate of a step (steps and epochs count from 0) in a run of `planned` steps.

    "exponential": `lr * lr_decay^epoch`. "cosine": `lr * (1 + cos(pi step / planned)) / 2`. Both rise linearly over the
    first `warmup_steps` steps.
    """
    if config.lr_schedule == "cosine":
        rate = config.lr * 0.5 * (1.0 + math.cos(math.pi * min(1.0, step / max(planned, 1))))
    else:
        rate = config.lr * config.lr_decay**epoch
    return rate * (min(1.0, (step + 1) / config.warmup_steps) if config.warmup_steps else 1.0)
