"""Predictions of a checkpoint for a whole data set: in this process, or by the tasks of a cluster."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgefel.data.dataset import ImageDataset
from edgefel.data.loading.batches import ImageSource
from edgefel.data.preprocessing import Preprocessing
from edgefel.errors import EdgefelError
from edgefel.evaluation.inference import Outputs, run_model
from edgefel.models.checkpoint import Checkpoint, load_checkpoint
from edgefel.progress import Progress
from edgefel.tasks.runner import Runner
from edgefel.text import counted

_BATCH = 64
# images of a task: whole batches of those that are read at once, so that all batches are the same without a cluster
_PIECE = 256

Predicted = tuple[Outputs, dict[int, str]]


def predict(
    loaded: Checkpoint,
    data: ImageDataset,
    workers: int,
    runner: Runner | None,
    device: torch.device | str,
    progress: Progress,
) -> tuple[Outputs, tuple[str, ...]]:
    """The outputs for every readable image, with embeddings and logits, and the paths of the others.

    workers: threads that read. runner: of a cluster, whose machines load the checkpoint from the same path.
    Raises EdgefelError if no image can be read, or the outputs are not finite.
    """
    progress.start("evaluating", len(data))
    if runner is None:
        predictor = Predictor(loaded, data, device, workers)
        outputs, unreadable = predictor.of(range(len(data)), progress.advance)
    else:
        outputs, unreadable = _by_tasks(loaded.path, data, runner, device, progress)
    skipped = tuple(str(data.samples[index].path) for index in sorted(unreadable))
    if len(outputs.indices) == 0:
        raise EdgefelError(
            f"{data.root}: none of the {counted(len(data), 'image')} can be read, e.g. {skipped[0]}; repair the files"
        )
    if not (np.isfinite(outputs.corrected).all() and np.isfinite(outputs.primary).all()):
        raise EdgefelError(
            f"{loaded.path}: its outputs are not finite, so its weights are damaged or training diverged; "
            "take an earlier checkpoint"
        )
    return outputs, skipped


class Predictor:
    """Labels images of a data set."""

    def __init__(
        self, loaded: Checkpoint, data: ImageDataset, device: torch.device | str, workers: int = 0
    ) -> None:
        self._loaded, self._data, self._device, self._workers = loaded, data, device, workers
        self._model = loaded.model.to(device)
        self._preprocessing = Preprocessing.from_dict(loaded.preprocessing)

    def of(self, indices: Sequence[int], advance: Callable[[int], None] = lambda count: None) -> Predicted:
        """The outputs for the readable ones of these images, and why the others are unreadable, by index."""
        source = ImageSource(self._data, self._preprocessing, workers=self._workers, cache_mb=0)
        batches = source.readable(indices, _BATCH)
        classes, device = len(self._loaded.labels), self._device
        outputs = run_model(
            self._model, batches, self._preprocessing, classes, device, advance, features=True
        )
        return outputs, source.skipped


def _by_tasks(
    checkpoint: Path, data: ImageDataset, runner: Runner, device: torch.device | str, progress: Progress
) -> Predicted:
    pieces = [range(start, min(start + _PIECE, len(data))) for start in range(0, len(data), _PIECE)]
    found: dict[int, Predicted] = {}

    def keep(piece: range, predicted: Predicted) -> None:
        found[piece.start] = predicted

    make = partial(_make, checkpoint.absolute(), data, str(device))
    with closing(runner.run(make, pieces, keep)) as results:
        for outputs, unreadable in results:
            progress.advance(len(outputs.indices) + len(unreadable))
    parts = [found[piece.start] for piece in pieces]
    unreadable = {index: why for _, skipped in parts for index, why in skipped.items()}
    # a piece of which nothing can be read has no embeddings
    read = [outputs for outputs, _ in parts if len(outputs.indices)] or [parts[0][0]]
    if len(read) == 1:
        return read[0], unreadable
    names = [one.name for one in fields(Outputs)]
    joined: dict[str, Any] = {name: np.concatenate([getattr(one, name) for one in read]) for name in names}
    return Outputs(**joined), unreadable


def _make(
    checkpoint: Path, data: ImageDataset, device: str
) -> Callable[[range, Callable[[], bool]], Predicted]:
    predictor = Predictor(load_checkpoint(checkpoint), data, device)
    return lambda piece, stop: predictor.of(piece)
