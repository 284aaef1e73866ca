"""What a bundle says of itself beside its files (model, source, tools), and what an export tells its user."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgefel import __version__
from edgefel.export.precision.search import SearchResult
from edgefel.files.write import sha256
from edgefel.runtime.doctor.machine import installed_version
from edgefel.runtime.manifest import BundleFile, Manifest, ModelInfo

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


def tool_versions() -> dict[str, str]:
    """Versions of what makes an export, as far as they are installed."""
    found = {name: installed_version(name) for name in _TOOLS}
    return {"edgefel": __version__} | {
        name: version for name, version in found.items() if version is not None
    }


@dataclass(frozen=True)
class ExportReport:
    """A finished export: the folder's manifest, everything the user should be told, and how the precision mix
    was found (`auto`)."""

    manifest: Manifest
    warnings: tuple[str, ...]
    search: SearchResult | None = None

    @property
    def failed(self) -> tuple[BundleFile, ...]:
        """The files that failed their comparison with PyTorch; the runtime refuses these."""
        return tuple(file for file in self.manifest.files if file.verdict == "fail")

    @property
    def refused(self) -> bool:
        """Whether a file failed."""
        return bool(self.failed)


def summarize(report: ExportReport) -> list[dict[str, Any]]:
    """One row per file for tables and JSON; numbers are None where nothing was compared."""
    return [_row(file) for file in report.manifest.files]


def _row(file: BundleFile) -> dict[str, Any]:
    parity = file.parity or {}
    return {
        "file": file.name,
        "precision": file.precision,
        "megabytes": file.bytes / 1e6,
        "max_deviation": max(parity.get("max_abs", {}).values(), default=None),
        "logits_sqnr_db": parity.get("logits_sqnr_db"),
        "top1_agreement": parity.get("top1_agreement"),
        "verdict": file.verdict,
        "reasons": list(parity.get("reasons", ())),
    }
