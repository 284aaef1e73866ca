"""What a finished run is worth on the test split, and what each part of its head does there."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgefel.bench.ablation.diagnosis import diagnose, parts
from edgefel.data.loading.batches import ImageSource
from edgefel.data.open import open_dataset
from edgefel.data.preprocessing import Preprocessing
from edgefel.evaluation.inference import run_model
from edgefel.evaluation.metrics import compute_metrics
from edgefel.models.profile import profile
from edgefel.training.config import TrainConfig
from edgefel.training.run_folder import RunFolder

_BATCH = 64


def judge(run: Path, config: TrainConfig) -> dict[str, Any]:
    """Plain JSON values of the run's last checkpoint on the test split of its own data.

    macs: multiply-accumulates of one image. corrected, primary: `Metrics` with and without the head. diagnosis: see
    `diagnosis.diagnose`. votes: of FER+, the file that labels come from. diverged: whether weights or outputs are no
    numbers any more; then nothing was judged.
    Raises EdgefelError without a test split.
    """
    checkpoint, _, _ = RunFolder(run).load_last()
    data = open_dataset(config.data, "test", layout=config.full_layout)
    data = data.reordered(checkpoint.labels)
    voted = {} if data.votes is None else {"votes": data.votes.file}
    model = checkpoint.model
    if not all(bool(torch.isfinite(weight).all()) for weight in model.state_dict().values()):
        return {"diverged": True, **voted}
    preprocessing = Preprocessing.from_dict(checkpoint.preprocessing)
    source = ImageSource(data, preprocessing, workers=config.compute.workers, cache_mb=0)
    batches = source.readable(range(len(data)), _BATCH)
    outputs = run_model(model, batches, preprocessing, len(data.labels), features=True)
    assert outputs.embeddings is not None or not len(outputs.indices)
    if not (np.isfinite(outputs.corrected).all() and np.isfinite(outputs.primary).all()):
        return {"diverged": True, **voted}
    targets = data.targets()[outputs.indices]
    return {
        "diverged": False,
        **voted,
        "macs": profile(model.config).macs,
        "images": len(targets),
        "classes": len(data.labels),
        "labels": list(data.labels),
        "corrected": dataclasses.asdict(compute_metrics(outputs.corrected, targets)),
        "primary": dataclasses.asdict(compute_metrics(outputs.primary, targets)),
        "diagnosis": diagnose(
            parts(model.head, torch.from_numpy(outputs.embeddings)),
            outputs.primary,
            outputs.corrected,
            targets,
        ),
    }
