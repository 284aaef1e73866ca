"""Predicted labels, for balanced calibration on unlabelled images."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np

from edgefel.calib.calibration_set import LabellingModel, calibration_pool
from edgefel.calib.reader import readable
from edgefel.data.dataset import ImageDataset, Sample
from edgefel.data.preprocessing import Preprocessing, Tensor
from edgefel.errors import EdgefelError
from edgefel.files.write import sha256
from edgefel.text import counted

BATCH = 16


@dataclass(frozen=True)
class FloatModel:
    """An FP32 model, open. labels: in the order of its outputs.

    probabilities: float32 [N, 3, S, S] -> float32 [N, C], after the reliability correction.
    """

    identity: LabellingModel
    labels: tuple[str, ...]
    preprocessing: Preprocessing
    probabilities: Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class PredictedLabels:
    """dataset: the images that calibration may use, labelled. skipped: those that cannot be read.

    never: classes that the model took no image for.
    """

    dataset: ImageDataset
    skipped: tuple[Path, ...]
    never: tuple[str, ...]


def float_model_of_checkpoint(path: str | os.PathLike[str]) -> FloatModel:
    """Opens a checkpoint folder, or the best checkpoint of a run; needs PyTorch. Raises EdgefelError."""
    import torch

    from edgefel.models.checkpoint import WEIGHTS_FILE, load_checkpoint

    checkpoint = load_checkpoint(Path(path))

    def probabilities(batch: Tensor) -> Tensor:
        with torch.inference_mode():
            result: Tensor = checkpoint.model(torch.from_numpy(batch)).probabilities.float().numpy()
        return result

    identity = LabellingModel(checkpoint.config.name, WEIGHTS_FILE, sha256(checkpoint.path / WEIGHTS_FILE))
    preprocessing = Preprocessing.from_dict(checkpoint.preprocessing)
    return FloatModel(identity, checkpoint.labels, preprocessing, probabilities)


def float_model_of_bundle(folder: str | os.PathLike[str], threads: int | None = None) -> FloatModel:
    """Opens a bundle's FP32 ONNX file in ONNX Runtime; torch-free. Raises EdgefelError if it holds none."""
    from edgefel.runtime.session import Session

    session = Session.open(folder, "fp32", "onnxruntime", threads, advise=False)
    manifest = session.manifest
    identity = LabellingModel(manifest.model.name, session.file.name, session.file.sha256)
    return FloatModel(
        identity, manifest.labels, manifest.preprocessing, lambda batch: session.run(batch).probabilities
    )


def predict_labels(
    dataset: ImageDataset, model: FloatModel, advance: Callable[[int, int], None] = lambda done, total: None
) -> PredictedLabels:
    """Labels the images that calibration may use with the model's argmax, whatever labels they have.

    Groups and splits stay. `advance` is told (images done, images). Raises EdgefelError if none of the
    images can be read, or the model's output is not finite.
    """
    pool = calibration_pool(dataset)
    skipped: list[Path] = []
    samples: list[Sample] = []
    crops = (
        (index, model.preprocessing.resize_image(image)) for index, image in readable(dataset, pool, skipped)
    )
    while batch := list(islice(crops, BATCH)):
        probabilities = model.probabilities(
            model.preprocessing.after_resizing.batch([crop for _, crop in batch])
        )
        if not np.isfinite(probabilities).all():
            raise EdgefelError(
                f"{model.identity.file}: its probabilities are not finite; use an earlier checkpoint"
            )
        for (index, _), label in zip(batch, probabilities.argmax(axis=1), strict=True):
            samples.append(replace(dataset.samples[index], label=int(label), soft=None))
        advance(len(samples) + len(skipped), len(pool))
    if not samples:
        raise EdgefelError(
            f"{dataset.root}: none of {counted(len(pool), 'image')} can be read, e.g. {skipped[0]}; repair the files"
        )
    advance(len(pool), len(pool))
    taken = {sample.label for sample in samples}
    never = tuple(label for i, label in enumerate(model.labels) if i not in taken)
    return PredictedLabels(ImageDataset(dataset.root, model.labels, tuple(samples)), tuple(skipped), never)
