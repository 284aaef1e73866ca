"""Runs a model over images; shared by validation during training and by `edgefel evaluate`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from edgefel.data.loading.batches import Batch
from edgefel.data.preprocessing import Preprocessing


@dataclass(frozen=True)
class Outputs:
    """Per image: index in the data set [N], probabilities [N, C] without and with the reliability head.

    embeddings: float32 [N, D], what the anchors are compared with, and logits: float32 [N, C], of the primary
    classifier; None unless they were asked for.
    """

    indices: NDArray[np.int64]
    primary: NDArray[np.float64]
    corrected: NDArray[np.float64]
    embeddings: NDArray[np.float32] | None = None
    logits: NDArray[np.float32] | None = None


def run_model(
    model: nn.Module,
    batches: Iterable[Batch],
    preprocessing: Preprocessing,
    num_classes: int,
    device: torch.device | str = "cpu",
    advance: Callable[[int], None] = lambda count: None,
    *,
    features: bool = False,
) -> Outputs:
    """Labels batches with `model` in evaluation mode (the mode is put back afterwards).

    Images go through the runtime's own preprocessing, so that the numbers are those of the device.
    `advance` is told how many images are done. features: keep the embeddings and logits, too.
    """
    none = np.empty((0, num_classes))
    columns: tuple[list[Any], ...] = ([np.empty(0, np.int64)], [none], [none], [], [])
    dtype = next(model.parameters()).dtype
    training = model.training
    model.eval()
    rest = preprocessing.after_resizing
    try:
        with torch.inference_mode():
            for batch in batches:
                crops = rest.batch([p.transpose(1, 2, 0) for p in batch.pixels.numpy()])
                prediction = model(torch.from_numpy(crops).to(device, dtype))
                values = [batch.indices, prediction.primary.double(), prediction.probabilities.double()]
                if features:
                    values += [prediction.embedding.float(), prediction.logits.float()]
                for column, value in zip(columns, values, strict=False):
                    column.append(value.cpu().numpy())
                advance(len(crops))
    finally:
        model.train(training)
    joined: list[Any] = [np.concatenate(column) if column else None for column in columns]
    return Outputs(*joined)
