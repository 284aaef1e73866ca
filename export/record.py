"""Entries of the manifest beside the files: model, source, versions of tools."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from edgefel import __version__
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
        config=json.loads(json.dumps(config.to_dict())),  # lists for tuples, as when read again
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


def tool_versions() -> dict[str, str]:
    """Versions of what makes an export, as far as they are installed."""
    found = {name: installed_version(name) for name in _TOOLS}
    return {"edgefel": __version__} | {
        name: version for name, version in found.items() if version is not None
    }
