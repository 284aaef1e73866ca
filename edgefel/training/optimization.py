"""Optimizers and learning rates of the papers: Adam with exponential decay (ARBEx), SGD with a cosine (APViT)."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn

from edgefel.training.config import TrainConfig

# position embeddings and the class token have no weight decay (APViT, arXiv 2212.05463)
NOT_DECAYED = ("pos_embed", "cls_token")
RESIZER = "resizer"
LR_FACTOR = "lr_factor"


def make_optimizer(config: TrainConfig, named: Iterable[tuple[str, nn.Parameter]]) -> torch.optim.Optimizer:
    """The optimizer for the named parameters that learn.

    Groups differ in weight decay, which positions and class tokens don't have, and in `LR_FACTOR`, the factor on the
    group's learning rate: `config.resizer_lr` for a resizer.
    """
    kinds: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in named:
        if parameter.requires_grad:
            decay = 0.0 if name.endswith(NOT_DECAYED) else config.weight_decay
            factor = config.resizer_lr if RESIZER in name.split(".") else 1.0
            kinds.setdefault((decay, factor), []).append(parameter)
    groups: list[dict[str, object]] = [
        {"params": parameters, "weight_decay": decay, LR_FACTOR: factor}
        for (decay, factor), parameters in sorted(kinds.items(), key=lambda item: item[0], reverse=True)
    ]
    if config.optimizer == "sgd":
        return torch.optim.SGD(
            groups, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay
        )
    return torch.optim.Adam(groups, lr=config.lr, weight_decay=config.weight_decay)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Sets the learning rate of every group, with its `LR_FACTOR`."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get(LR_FACTOR, 1.0)


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
