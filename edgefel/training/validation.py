"""Validation during training, divided over the processes, and what it says about a run that learns nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from edgefel.data.loading.batches import ImageSource
from edgefel.data.preprocessing import Preprocessing
from edgefel.evaluation.inference import run_model
from edgefel.evaluation.metrics import compute_metrics
from edgefel.training.config import TrainConfig
from edgefel.training.distributed import gather_sum
from edgefel.training.losses import PROBABILITY_FLOOR

if TYPE_CHECKING:
    from lightning_fabric import Fabric

_BATCH = 64
# predictions are those of one class if it gets this share of them, and at least this much more than its due
_ONE_CLASS, _MORE_THAN_DUE = 0.98, 0.05
_DIVERGED = 1.5  # times the lowest training loss so far
_STANDSTILL = 10  # validations without a better one


@dataclass(frozen=True)
class Validation:
    """scores: the columns of metrics.csv that start with "val_". predicted, actual: int64 [C], images by class."""

    scores: dict[str, float]
    predicted: NDArray[np.int64]
    actual: NDArray[np.int64]

    def one_class(self) -> int | None:
        """The class that nearly all images are taken for though they are not of it, or None."""
        top, images = int(self.predicted.argmax()), int(self.actual.sum())
        given, due = int(self.predicted[top]) / images, int(self.actual[top]) / images
        return top if given >= _ONE_CLASS and given >= due + _MORE_THAN_DUE else None


def validate(
    model: nn.Module, source: ImageSource, preprocessing: Preprocessing, fabric: Fabric
) -> Validation:
    """Scores of the whole split, on every rank. model: images -> Prediction.

    The correction has its full weight, as on the device, whatever the ramp in training. The loss is the mean of -log p
    of the true class, without smoothing.
    """
    dataset = source.dataset
    classes = len(dataset.labels)
    mine = range(fabric.global_rank, len(dataset), fabric.world_size)
    with fabric.autocast():
        outputs = run_model(model, source.readable(mine, _BATCH), preprocessing, classes, fabric.device)
    table = torch.zeros(len(dataset), 2 * classes + 1, dtype=torch.float32)
    rows = torch.from_numpy(outputs.indices)
    table[rows, :classes] = torch.from_numpy(outputs.primary).float()
    table[rows, classes : 2 * classes] = torch.from_numpy(outputs.corrected).float()
    table[rows, -1] = 1.0
    table = gather_sum(table.to(fabric.device)).cpu()
    values = table[table[:, -1] > 0].double().numpy()
    read = np.flatnonzero(table[:, -1].numpy() > 0)
    targets = dataset.targets()[read]
    primary, corrected = values[:, :classes], values[:, classes : 2 * classes]
    with_head, without = compute_metrics(corrected, targets), compute_metrics(primary, targets)
    own = np.maximum(corrected[np.arange(len(targets)), targets], PROBABILITY_FLOOR)
    scores = {
        "val_loss": float(-np.log(own).mean()),
        "val_accuracy": with_head.accuracy,
        "val_macro_f1": with_head.macro_f1,
        "val_ece": with_head.ece,
        "val_primary_accuracy": without.accuracy,
        "val_primary_macro_f1": without.macro_f1,
    }
    predicted = np.bincount(corrected.argmax(1), minlength=classes)
    return Validation(scores, predicted, np.bincount(targets, minlength=classes))


def trouble(
    found: Validation,
    labels: Sequence[str],
    loss: float,
    lowest: float | None,
    epoch: int,
    best_epoch: int,
    config: TrainConfig,
) -> list[str]:
    """What is wrong with a run, each with what to try; empty for one that learns.

    loss, lowest: mean classification loss on train since the validation before, and the lowest of those before that.
    epoch, best_epoch: of this validation and of the best.
    """
    remarks = []
    slower = f"--lr {config.lr / 10:g}"
    clipped = [] if config.clip_norm else ["--clip-norm 1"]
    if (top := found.one_class()) is not None:
        given, due = (
            int(counts[top]) / int(found.actual.sum()) for counts in (found.predicted, found.actual)
        )
        tries = [slower, *([] if config.warmup_steps else ["--warmup-steps 100"]), *clipped]
        if config.weight_decay:
            tries.append(f"--weight-decay {config.weight_decay / 10:g}")
        if not (config.loss.lambda_auxiliary or config.init_from):
            tries.append("--lambda-auxiliary 1")
        remarks.append(
            f"the network takes {given:.0%} of val for {labels[top]}, which {due:.0%} is; if this lasts, try "
            f"{_listed(tries)}"
        )
    if lowest is not None and loss > max(lowest * _DIVERGED, lowest + 0.1):
        bounded = ["--anchor-loss hinge"] if config.loss.anchor_loss == "unbounded" else []
        remarks.append(
            f"the classification loss on train has risen from {lowest:.3f} to {loss:.3f}; try "
            f"{_listed([slower, *clipped, *bounded])}"
        )
    if (still := (epoch - best_epoch) // config.eval_every) >= _STANDSTILL and still % _STANDSTILL == 0:
        cosine = ["--lr-schedule cosine"] if config.lr_schedule != "cosine" else []
        mixing = (
            []
            if config.augment.mixup or config.augment.cutmix
            else ["--mixup 0.2 if train is far ahead of val"]
        )
        remarks.append(
            f"no validation has been better than that of epoch {best_epoch}, {still} ago; stop here, or try "
            f"{_listed([*cosine, 'another --lr', *mixing])}"
        )
    return remarks


def _listed(tries: Sequence[str]) -> str:
    return " or ".join(filter(None, (", ".join(tries[:-1]), tries[-1])))
