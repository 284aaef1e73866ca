"""Judges a checkpoint on a labelled data set, with and without the reliability head."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgefel.data.folder import ImageDataset, open_dataset
from edgefel.errors import EdgefelError
from edgefel.evaluation.coverage import Coverage, compute_coverage
from edgefel.evaluation.inference import Outputs, run_model
from edgefel.evaluation.metrics import Metrics, compute_metrics
from edgefel.files import atomic_folder, write_json
from edgefel.models.checkpoint import Checkpoint, load_checkpoint
from edgefel.models.network import FacialExpressionModel
from edgefel.runtime.preprocessing import Preprocessing
from edgefel.training.images import ImageSource

_BATCH = 64


@dataclass(frozen=True)
class Evaluation:
    """The result of `evaluate`.

    counts: pictures per class, in the order of `labels`. skipped: paths of unreadable pictures, which count
    nowhere. without_head judges the primary distribution, with_head the corrected one; with_head is None
    for a model without a reliability head, where there is nothing to compare. coverage: what abstaining would
    bring, of the distribution that the model predicts with.
    """

    model: str
    checkpoint: str
    dataset: str
    split: str
    labels: tuple[str, ...]
    pictures: int
    counts: tuple[int, ...]
    skipped: tuple[str, ...]
    with_head: Metrics | None
    without_head: Metrics
    coverage: Coverage

    @property
    def final(self) -> Metrics:
        """The metrics of what the model predicts: with the head where there is one."""
        return self.with_head or self.without_head

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return dataclasses.asdict(self)


def evaluate(
    checkpoint: str | os.PathLike[str] | Checkpoint,
    dataset: str | os.PathLike[str] | ImageDataset,
    split: str | None = "test",
    *,
    workers: int = 0,
    device: torch.device | str = "cpu",
    advance: Callable[[int], None] = lambda count: None,
) -> Evaluation:
    """Labels every readable picture of a split with the checkpoint's own preprocessing, and counts.

    `split` None takes all pictures, and is ignored for an opened data set. `advance` is told how many
    pictures are done. Raises EdgefelError if the checkpoint or data cannot be read, if their classes
    differ, or if no picture can be read.
    """
    loaded = checkpoint if isinstance(checkpoint, Checkpoint) else load_checkpoint(Path(checkpoint))
    data = dataset if isinstance(dataset, ImageDataset) else open_dataset(dataset, split)
    check_classes(loaded, data)
    preprocessing = Preprocessing.from_dict(loaded.preprocessing)
    source = ImageSource(data, preprocessing, workers=workers, cache_mb=0)
    outputs = run_model(
        loaded.model.to(device),
        source.readable(range(len(data)), _BATCH),
        preprocessing,
        len(loaded.labels),
        device,
        advance,
    )
    skipped = tuple(str(data.samples[index].path) for index in sorted(source.skipped))
    name = "given" if isinstance(dataset, ImageDataset) else (split or "all")
    return _judge(loaded, data, name, outputs, skipped)


def check_classes(checkpoint: Checkpoint, dataset: ImageDataset) -> None:
    """Raises EdgefelError unless both have the same classes in the same order."""
    if checkpoint.labels != dataset.labels:
        raise EdgefelError(
            f"{checkpoint.path}: predicts {len(checkpoint.labels)} classes ({', '.join(checkpoint.labels)}), "
            f"but {dataset.root} has {len(dataset.labels)} ({', '.join(dataset.labels)}); evaluate on data "
            "with the classes that it was trained on"
        )


def has_reliability_head(model: FacialExpressionModel) -> bool:
    """Whether anything corrects the primary distribution."""
    config = model.config.head
    return config is not None and (config.anchors_per_class > 0 or config.attentive)


def _judge(
    checkpoint: Checkpoint, data: ImageDataset, split: str, outputs: Outputs, skipped: tuple[str, ...]
) -> Evaluation:
    if len(outputs.indices) == 0:
        raise EdgefelError(
            f"{data.root}: none of the {len(data)} pictures can be read, e.g. {skipped[0]}; repair the files"
        )
    targets = np.array([data.samples[index].label for index in outputs.indices], np.int64)
    counts = np.bincount(targets, minlength=len(checkpoint.labels))
    corrected = (
        compute_metrics(outputs.corrected, targets) if has_reliability_head(checkpoint.model) else None
    )
    return Evaluation(
        model=checkpoint.config.name,
        checkpoint=str(checkpoint.path),
        dataset=str(data.root),
        split=split,
        labels=checkpoint.labels,
        pictures=len(targets),
        counts=tuple(int(count) for count in counts),
        skipped=skipped,
        with_head=corrected,
        without_head=compute_metrics(outputs.primary, targets),
        coverage=compute_coverage(outputs.corrected, targets),
    )


def write_evaluation(folder: str | os.PathLike[str], evaluation: Evaluation) -> None:
    """Writes evaluation.json, confusion.png and coverage.png into a new folder, all or nothing."""
    from edgefel.evaluation.plots import confusion_figure, coverage_figure

    with atomic_folder(folder) as temporary:
        write_json(temporary / "evaluation.json", evaluation.to_dict())
        confusion_figure(evaluation).savefig(temporary / "confusion.png", dpi=120)
        coverage_figure(evaluation).savefig(temporary / "coverage.png", dpi=120)
