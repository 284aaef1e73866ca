"""What is compared: registered models with random weights, trained checkpoints, exported bundles."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgefel.data.labels import expression_labels
from edgefel.data.preprocessing import Preprocessing, default_preprocessing
from edgefel.errors import EdgefelError
from edgefel.export.options import ExportOptions
from edgefel.progress import SILENT, Progress
from edgefel.runtime.manifest import MANIFEST_NAME, read_manifest

CLASSES = 7
# random weights: ranges and comparisons decide nothing about speed, so that a few images do
_PER_CLASS, _PARITY_IMAGES = 1, 4


@dataclass(frozen=True)
class Subject:
    """A model in every form that was asked for.

    name: of the model. checkpoint: for PyTorch; None where there is a bundle alone. bundle: for the runtime's backends;
    None where it is compared in PyTorch alone. trained: whether its labels mean anything.
    """

    name: str
    checkpoint: Path | None
    bundle: Path | None
    trained: bool
    labels: tuple[str, ...]
    preprocessing: Preprocessing

    @property
    def folder(self) -> Path:
        """The bundle, or else the checkpoint."""
        folder = self.bundle or self.checkpoint
        assert folder is not None
        return folder


def prepare(
    what: str,
    work: Path,
    precisions: Sequence[str],
    data: str | os.PathLike[str] | None = None,
    progress: Progress = SILENT,
    *,
    export: bool = True,
    layout: str | None = None,
) -> Subject:
    """Brings one subject into every form. Files are made in `work`, an existing folder.

    export: False leaves registered models and checkpoints in PyTorch alone, which saves a minute.

    what: a registered model (exported with random weights), a bundle (taken as it is), or a checkpoint or run folder
    (exported; INT8 is calibrated on `data`, whose layout is `layout`). Raises EdgefelError for anything else.
    """
    from edgefel.models.checkpoint import load_checkpoint
    from edgefel.models.registry import list_models

    folder = Path(what)
    if (folder / MANIFEST_NAME).is_file():
        manifest = read_manifest(folder)
        return Subject(manifest.model.name, None, folder, True, manifest.labels, manifest.preprocessing)
    random = what in list_models() and not folder.exists()
    if not random and not folder.exists():
        raise EdgefelError(
            f"{what}: no such folder, and no registered model; known models: {', '.join(list_models())}"
        )
    if random:
        folder = work / "checkpoint"
        _save_random(what, folder)
    loaded = load_checkpoint(folder)
    bundle = work / "bundle" if export else None
    if bundle is not None:
        _export(folder, bundle, precisions, None if random else data, layout, progress, random=random)
    preprocessing = Preprocessing.from_dict(loaded.preprocessing)
    return Subject(loaded.config.name, folder, bundle, not random, loaded.labels, preprocessing)


def _export(
    checkpoint: Path,
    bundle: Path,
    precisions: Sequence[str],
    data: str | os.PathLike[str] | None,
    layout: str | None,
    progress: Progress,
    *,
    random: bool,
) -> None:
    from edgefel.export.bundle import export_bundle

    few: dict[str, Any] = {"per_class": _PER_CLASS, "parity_images": _PARITY_IMAGES} if random else {}
    options = ExportOptions(precisions=tuple(precisions), layout=layout, cache=not random, **few)
    export_bundle(checkpoint, bundle, options, data=data, progress=progress)


def _save_random(name: str, folder: Path) -> None:
    """A checkpoint of random weights whose batch norms have seen data."""
    import torch

    from edgefel.models import build_model
    from edgefel.models.checkpoint import save_checkpoint

    state = torch.get_rng_state()
    torch.manual_seed(0)
    network = build_model(name, num_classes=CLASSES).train()
    size = network.config.input_size
    with torch.no_grad():
        network(torch.randn(4, 3, size, size))
    torch.set_rng_state(state)
    save_checkpoint(folder, network.eval(), expression_labels(CLASSES), default_preprocessing(size).to_dict())
