"""What is compared: registered models with random weights, trained checkpoints, exported bundles."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgefel.bench.networks import random_network
from edgefel.data.labels import expression_labels
from edgefel.data.preprocessing import Preprocessing, default_preprocessing
from edgefel.errors import EdgefelError
from edgefel.export.options import ExportOptions
from edgefel.progress import SILENT, Progress
from edgefel.runtime.manifest import MANIFEST_NAME, read_manifest

CLASSES = 7
# random weights: ranges and comparisons decide nothing about speed, so a few images are enough
_PER_CLASS, _PARITY_IMAGES = 1, 4


@dataclass(frozen=True)
class Subject:
    """A model in the forms to compare.

    name: of the model. checkpoint: for PyTorch; None for a bundle alone. bundle: for the runtime's backends;
    None for PyTorch alone. trained: whether its labels mean anything.
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
    """Exports one subject as needed. Files are made in `work`, an existing folder.

    what: a registered model (exported with random weights), a bundle (used as it is), or a checkpoint or run
    folder (exported; INT8 is calibrated on `data`, whose layout is `layout`). export: False keeps registered
    models and checkpoints in PyTorch alone, which saves a minute. Raises EdgefelError for anything else.
    """
    from edgefel.models.checkpoint import load_checkpoint, save_checkpoint
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
        network = random_network(what, passes=1, num_classes=CLASSES)
        preprocessing = default_preprocessing(network.config.input_size)
        save_checkpoint(folder, network, expression_labels(CLASSES), preprocessing.to_dict())
    loaded = load_checkpoint(folder)
    bundle = work / "bundle" if export else None
    if bundle is not None:
        from edgefel.export.bundle import export_bundle

        few: dict[str, Any] = {"per_class": _PER_CLASS, "parity_images": _PARITY_IMAGES} if random else {}
        wanted = ExportOptions(precisions=tuple(precisions), layout=layout, cache=not random, **few)
        export_bundle(folder, bundle, wanted, data=None if random else data, progress=progress)
    preprocessing = Preprocessing.from_dict(loaded.preprocessing)
    return Subject(loaded.config.name, folder, bundle, not random, loaded.labels, preprocessing)
