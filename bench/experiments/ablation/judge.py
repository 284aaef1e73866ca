"""Accuracy of a finished run on the test split, and the contribution of each part of its head."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgefel.data.loading.batches import ImageSource
from edgefel.data.open import open_dataset
from edgefel.data.preprocessing import Preprocessing
from edgefel.evaluation.inference import run_model
from edgefel.evaluation.metrics import compute_metrics
from edgefel.kernels.anchor_softmax.reference import anchor_softmax
from edgefel.kernels.reliability_balance.reference import confidence, correction
from edgefel.models.checkpoint import load_checkpoint
from edgefel.models.profile import profile
from edgefel.models.reliability import ReliabilityHead
from edgefel.training.config import TrainConfig
from edgefel.training.run_folder import RunFolder

_BATCH = 64
Probabilities = NDArray[np.float64]


def judge(run: Path, config: TrainConfig) -> dict[str, Any]:
    """Plain JSON values of the run's last checkpoint, with early stopping of its best, on the test split of its data.

    macs: multiply-accumulates of one image. corrected, primary: `Metrics` with and without the head. diagnosis: see
    `diagnose`. votes: of FER+, the file that labels come from. diverged: whether weights or outputs are not finite;
    then nothing is judged. Raises EdgefelError without a test split.
    """
    checkpoint = load_checkpoint(run) if config.patience else RunFolder(run).load_last()[0]
    data = open_dataset(config.data, "test", layout=config.full_layout).reordered(checkpoint.labels)
    voted = {} if data.votes is None else {"votes": data.votes.file}
    model = checkpoint.model
    finite = all(bool(torch.isfinite(weight).all()) for weight in model.state_dict().values())
    if finite:
        preprocessing = Preprocessing.from_dict(checkpoint.preprocessing)
        source = ImageSource(data, preprocessing, workers=config.compute.workers, cache_mb=0)
        batches = source.readable(range(len(data)), _BATCH)
        outputs = run_model(model, batches, preprocessing, len(data.labels), features=True)
        assert outputs.embeddings is not None or not len(outputs.indices)
        finite = bool(np.isfinite(outputs.corrected).all() and np.isfinite(outputs.primary).all())
    if not finite:
        return {"diverged": True, **voted}
    targets = data.targets()[outputs.indices]
    found = parts(model.head, torch.from_numpy(outputs.embeddings))
    return {
        "diverged": False,
        **voted,
        "macs": profile(model.config).macs,
        "images": len(targets),
        "classes": len(data.labels),
        "labels": list(data.labels),
        "corrected": dataclasses.asdict(compute_metrics(outputs.corrected, targets)),
        "primary": dataclasses.asdict(compute_metrics(outputs.primary, targets)),
        "diagnosis": diagnose(found, outputs.primary, outputs.corrected, targets),
    }


@dataclass(frozen=True)
class Parts:
    """What a head's branches say by themselves.

    branches: distributions [N, C], "geometric", "attentive" and "correcting", of those that it has. weight [N]: of the
    correction; the primary distribution has the rest. embedding [N, E], anchors [C, K, E].
    """

    branches: dict[str, Probabilities]
    weight: NDArray[np.float64] | None
    embedding: NDArray[np.float64]
    anchors: NDArray[np.float64] | None


@torch.inference_mode()
def parts(head: nn.Module, embedding: Tensor) -> Parts:
    """From embeddings [N, E]. There is no attentive branch where it attends to patches, which are not among them."""
    e = embedding.double()
    branches: dict[str, Tensor | None] = {}
    weight = anchors = None
    if isinstance(head, ReliabilityHead):
        head = head.double()
        geometric = attended = None
        if head.anchors is not None:
            anchors = head.anchors.detach().numpy()
            geometric = anchor_softmax(e, head.anchors, head.config.delta)
        if head.attentive is not None and head.config.attention_tokens == "embedding":
            attended = head.attentive(e, e.unsqueeze(1))
        correcting = correction(geometric, attended)
        attentive = None if attended is None else attended.softmax(-1)
        branches = {"geometric": geometric, "attentive": attentive, "correcting": correcting}
        if correcting is not None:
            own = confidence(correcting)
            weight = (own / (own + confidence(head.classifier(e).softmax(-1))).clamp_min(1e-12)).numpy()
    known = {name: found.numpy() for name, found in branches.items() if found is not None}
    return Parts(known, weight, e.numpy(), anchors)


def diagnose(
    found: Parts, primary: Probabilities, corrected: Probabilities, targets: NDArray[np.int64]
) -> dict[str, Any]:
    """Plain JSON values.

    accuracy, confidence: of each part by itself (confidence: mean of 1 - normalized entropy). weight: mean
    weight of the correction. changed, fixed, spoiled: share of images whose label the head changes, corrects,
    makes wrong. probabilities: std, max and min over classes, mean over images, without and with the head.
    anchors: see `_anchors`.
    """
    before, after = primary.argmax(1), corrected.argmax(1)
    known = {"primary": primary, **found.branches, "corrected": corrected}
    return {
        "accuracy": {name: float((p.argmax(1) == targets).mean()) for name, p in known.items()},
        "confidence": {name: float(confidence(torch.from_numpy(p)).mean()) for name, p in known.items()},
        "weight": None if found.weight is None else float(found.weight.mean()),
        "changed": float((before != after).mean()),
        "fixed": float(((before != targets) & (after == targets)).mean()),
        "spoiled": float(((before == targets) & (after != targets)).mean()),
        "probabilities": {
            name: {statistic: float(getattr(p, statistic)(1).mean()) for statistic in ("std", "max", "min")}
            for name, p in (("primary", primary), ("corrected", corrected))
        },
        "anchors": None if found.anchors is None else _anchors(found.embedding, found.anchors, targets),
    }


def _anchors(
    embedding: NDArray[np.float64], anchors: NDArray[np.float64], targets: NDArray[np.int64]
) -> dict[str, float]:
    """Whether anchors collapsed or diverged.

    used: share of anchors that are the nearest of at least one image. own_class: share of images whose nearest anchor
    is of their class. distance: root mean squared distance to the nearest, per dimension; spread: between anchors,
    embedding_spread: between images. between_classes: share of the anchors' variance between classes; 1/K or less
    means that the anchors of a class have nothing in common.
    """
    classes, count, width = anchors.shape
    points = anchors.reshape(-1, width)
    squared = ((embedding**2).sum(1)[:, None] + (points**2).sum(1)[None] - 2 * embedding @ points.T).clip(0)
    nearest = squared.argmin(1)
    means = anchors.mean(1)
    total = float(((points - points.mean(0)) ** 2).sum())
    between = float(count * ((means - means.mean(0)) ** 2).sum())
    return {
        "used": len(np.unique(nearest)) / (classes * count),
        "own_class": float((nearest // count == targets).mean()),
        "distance": float(np.sqrt(squared.min(1).mean() / width)),
        "spread": _root_spread(points),
        "embedding_spread": _root_spread(embedding),
        "between_classes": between / total if total else 0.0,
    }


def _root_spread(points: NDArray[np.float64]) -> float:
    """sqrt of the mean of ||p - q||^2 / E over pairs of different points."""
    centred = points - points.mean(0)
    return float(np.sqrt(2 * (centred**2).sum() / (max(len(points) - 1, 1) * points.shape[1])))
