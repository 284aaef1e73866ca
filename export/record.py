"""What a bundle says of itself beside its files: the model, where it came from, what calibrated it, which tools."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgefel import __version__
from edgefel.calib.calibration_set import CalibrationImage, CalibrationSet, calibration_image
from edgefel.data.dataset import ImageDataset, UnreadableImageError
from edgefel.data.preprocessing import Preprocessing
from edgefel.files.write import sha256
from edgefel.runtime.doctor.machine import installed_version
from edgefel.runtime.manifest import ModelInfo

if TYPE_CHECKING:
    from edgefel.models.checkpoint import Checkpoint
    from edgefel.models.config import ModelConfig

CALIBRATION_NAME = "calibration.json"
_TOOLS = ("torch", "onnx", "onnxscript", "onnxsim", "onnxruntime", "numpy")


def model_info(config: ModelConfig) -> ModelInfo:
    """The manifest's entry of the network."""
    from edgefel.models.profile import profile

    counted = profile(config)
    return ModelInfo(
        name=config.name,
        num_classes=config.num_classes,
        parameters=counted.parameters,
        gmac=round(counted.macs / 1e9, 4),
        embedding_dim=config.encoder.width if config.head is None else config.head.embedding_dim,
    )


def source_entry(checkpoint: Checkpoint, home: Path) -> dict[str, str]:
    """Name and hash of the checkpoint, and its path relative to the bundle's folder `home`: a folder that holds
    both may move."""
    from edgefel.models.checkpoint import WEIGHTS_FILE

    return {
        "checkpoint": checkpoint.path.name,
        "path": os.path.relpath(checkpoint.path.resolve(), home.resolve()).replace(os.sep, "/"),
        "sha256": sha256(checkpoint.path / WEIGHTS_FILE),
    }


def calibration_record(
    dataset: ImageDataset,
    indices: Sequence[int],
    per_class: int,
    group_cap: int,
    seed: int,
    preprocessing: Preprocessing,
    *,
    layout: str | None = None,
) -> CalibrationSet:
    """The drawn images as a calibration set, each with its hash. One that cannot be read is left out: it is skipped,
    and named, where images are read. layout: what `dataset` was opened as, if that was said; of FER+ it is taken from
    the data set, with the file of votes."""
    return CalibrationSet(
        root=str(dataset.root.resolve()),
        labels=dataset.labels,
        images=tuple(image for index in indices if (image := _image(dataset, index)) is not None),
        per_class=per_class,
        group_cap=group_cap,
        seed=seed,
        labelled_by="labels",
        preprocessing=preprocessing.to_dict(),
        layout=layout if dataset.votes is None else dataset.votes.layout,
    )


def _image(dataset: ImageDataset, index: int) -> CalibrationImage | None:
    try:
        return calibration_image(dataset, index)
    except UnreadableImageError:
        return None


def tool_versions() -> dict[str, str]:
    """Versions of what makes an export, as far as they are installed."""
    found = {name: installed_version(name) for name in _TOOLS}
    return {"edgefel": __version__} | {
        name: version for name, version in found.items() if version is not None
    }
