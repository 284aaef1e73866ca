"""Validation during training, divided over the processes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from edgefel.data.loading.batches import ImageSource
from edgefel.data.preprocessing import Preprocessing
from edgefel.evaluation.inference import run_model
from edgefel.evaluation.metrics import compute_metrics
from edgefel.models.network import FacialExpressionModel
from edgefel.training.distributed import gather_sum
from edgefel.training.losses import PROBABILITY_FLOOR

if TYPE_CHECKING:
    from lightning_fabric import Fabric

_BATCH = 64


def validate(
    model: FacialExpressionModel, source: ImageSource, preprocessing: Preprocessing, fabric: Fabric
) -> dict[str, float]:
    """Scores of the whole split, on every rank: the columns of metrics.csv that start with "val_".

    The correction has its full weight, as on the device, whatever the ramp in training. The loss is the mean of -log p
    of the true class, without smoothing.
    """
    dataset = source.dataset
    classes = model.config.num_classes
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
    return {
        "val_loss": float(-np.log(own).mean()),
        "val_accuracy": with_head.accuracy,
        "val_macro_f1": with_head.macro_f1,
        "val_ece": with_head.ece,
        "val_primary_accuracy": without.accuracy,
        "val_primary_macro_f1": without.macro_f1,
    }
