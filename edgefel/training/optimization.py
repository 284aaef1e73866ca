"""Optimizers, learning rates and averaged weights.

AdamW with exponential decay (ARBEx takes Adam, which is the same without weight decay), SGD with a cosine (APViT).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable

import torch
from torch import nn

from edgefel.errors import EdgefelError
from edgefel.training.config import TrainConfig

# without weight decay, besides all one-dimensional parameters (biases, norms, PReLU slopes, layer scales): positions
# and the class token (APViT, arXiv 2212.05463), tables of relative positions (Swin, arXiv 2103.14030), anchors
NOT_DECAYED = ("pos_embed", "cls_token", "relative_position_bias_table", "anchors")
RESIZER = "resizer"
RANGES = "ranges."
LR_FACTOR = "lr_factor"


def make_optimizer(config: TrainConfig, named: Iterable[tuple[str, nn.Parameter]]) -> torch.optim.Optimizer:
    """The optimizer for the named parameters that learn.

    Groups differ in weight decay, which only matrices and kernels have (see `NOT_DECAYED`), and in `LR_FACTOR`, the
    factor on the group's learning rate: `config.resizer_lr` for a resizer, `config.qat_range_lr` for ranges.
    """
    kinds: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in named:
        if parameter.requires_grad:
            decayed = parameter.ndim > 1 and not name.endswith(NOT_DECAYED)
            decay = config.weight_decay if decayed else 0.0
            factor = config.resizer_lr if RESIZER in name.split(".") else 1.0
            if name.startswith(RANGES):
                factor = config.qat_range_lr / config.lr
            kinds.setdefault((decay, factor), []).append(parameter)
    groups: list[dict[str, object]] = [
        {"params": parameters, "weight_decay": decay, LR_FACTOR: factor}
        for (decay, factor), parameters in sorted(kinds.items(), key=lambda item: item[0], reverse=True)
    ]
    if config.optimizer == "sgd":
        return torch.optim.SGD(
            groups, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay
        )
    return torch.optim.AdamW(groups, lr=config.lr, weight_decay=config.weight_decay)


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


class WeightAverage:
    """An exponential moving average of a model's weights, and of its BatchNorm statistics, which is what is kept.

    decay: of one step. It grows to that value as (1 + step) / (10 + step): the first weights are soon forgotten.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay = decay
        # optimizers and norms change their tensors in place, so that these stay the model's
        pairs = list(zip(self.model.state_dict().values(), model.state_dict().values(), strict=True))
        self._means, self._values = map(
            list, zip(*(p for p in pairs if p[0].is_floating_point()), strict=True)
        )
        self._counts = [pair for pair in pairs if not pair[0].is_floating_point()]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """After the optimizer's step number `step`, counted from 0."""
        share = 1.0 - min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self._means, self._values, share)
        for count, new in self._counts:
            count.copy_(new)


def check_weights(*models: nn.Module) -> None:
    """Raises EdgefelError for weights or statistics that are not finite, before they replace a good checkpoint."""
    for model in models:
        for name, value in model.state_dict().items():
            if value.is_floating_point() and not bool(value.isfinite().all()):
                raise EdgefelError(
                    f"{name} has NaN or infinite values: training diverged; start again with a lower --lr, or with "
                    "--clip-norm 1"
                )
