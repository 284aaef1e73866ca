"""The gate: every file of an export runs on the same images as PyTorch and is judged by it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgefel.data.preprocessing import Preprocessing
from edgefel.errors import EdgefelError
from edgefel.export.parity.compare import Parity, compare
from edgefel.export.parity.images import ParityImages
from edgefel.export.parity.limits import LIMITS, ParityLimits
from edgefel.export.parity.outputs import onnx_outputs, reference_outputs
from edgefel.progress import SILENT, Progress
from edgefel.runtime.manifest import OUTPUT_NAMES

if TYPE_CHECKING:
    from edgefel.models.checkpoint import Checkpoint


class Gate:
    """PyTorch's outputs on the images, ready to judge files by.

    The reference uses the checkpoint's own preprocessing, a file the bundle's: a resample that was moved out of
    the graph is part of the comparison. limits: per precision. seed: of the intervals. threads: of PyTorch and
    ONNX Runtime, None for all cores.

    Raises EdgefelError if an output of the model is not finite.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        images: ParityImages,
        limits: Mapping[str, ParityLimits] = LIMITS,
        *,
        seed: int = 0,
        threads: int | None = None,
        progress: Progress = SILENT,
    ) -> None:
        self.labels = checkpoint.labels
        self.images = images
        self.limits = limits
        self.seed = seed
        self.threads = threads
        self.progress = progress
        own = Preprocessing.from_dict(checkpoint.preprocessing)
        progress.start("PyTorch reference", len(images))
        self.reference = reference_outputs(checkpoint.model, images.batches(own), progress, threads=threads)
        broken = [name for name, values in self.reference.items() if not np.isfinite(values).all()]
        if broken:
            raise EdgefelError(
                f"{checkpoint.path}: {', '.join(broken)} of this model are not finite; its training has "
                "diverged, export an earlier checkpoint"
            )

    def judge(
        self,
        model: Path | bytes,
        precision: str,
        preprocessing: Preprocessing,
        *,
        input_type: str = "float32",
        outputs: Sequence[str] = OUTPUT_NAMES,
    ) -> Parity:
        """Runs an ONNX file (or a serialized model) with the bundle's preprocessing, type of input and outputs, and
        judges it by the limits of its precision."""
        self.progress.start(f"compare {precision} with PyTorch", len(self.images))
        batches = self.images.batches(preprocessing, input_type)
        actual = onnx_outputs(model, batches, self.progress, outputs=outputs, threads=self.threads)
        return compare(
            self.reference,
            actual,
            self.limits[precision],
            outputs=outputs,
            targets=self.images.targets,
            labels=self.labels,
            columns=self.images.columns,
            seed=self.seed,
        )
