"""The gate: every file of an export runs on the same images as PyTorch and is judged by it."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from edgefel.calib.images import ComparedImages
from edgefel.data.preprocessing import Preprocessing
from edgefel.errors import EdgefelError
from edgefel.export.parity.compare import Before, Outputs, Parity, compare
from edgefel.export.parity.limits import LIMITS, ParityLimits
from edgefel.progress import SILENT, Progress
from edgefel.runtime.backends.onnxruntime_backend import session_options
from edgefel.runtime.manifest import INPUT_NAME, OUTPUT_NAMES
from edgefel.text import one_line

if TYPE_CHECKING:
    from edgefel.models.checkpoint import Checkpoint
    from edgefel.models.network import FacialExpressionModel

Batch = npt.NDArray[Any]


@dataclass
class Gate:
    """PyTorch's outputs on the images, ready to judge files by.

    The reference uses the checkpoint's own preprocessing, a file the bundle's: a resample that was moved out of
    the graph is part of the comparison. limits: per precision. seed: of the intervals. threads: of PyTorch and
    ONNX Runtime, None for all cores. before: the network before quantization-aware training, which every file is
    compared with too; it has no part in the verdict.

    Raises EdgefelError if an output of the model is not finite.
    """

    checkpoint: Checkpoint
    images: ComparedImages
    limits: Mapping[str, ParityLimits] = field(default_factory=lambda: LIMITS)
    _: KW_ONLY
    seed: int = 0
    threads: int | None = None
    progress: Progress = SILENT
    before: Checkpoint | None = None

    def __post_init__(self) -> None:
        self.progress.start("PyTorch reference", len(self.images))
        self.reference = self._outputs_of(self.checkpoint)
        broken = [name for name, values in self.reference.items() if not np.isfinite(values).all()]
        if broken:
            raise EdgefelError(
                f"{self.checkpoint.path}: {', '.join(broken)} of this model are not finite; its training has "
                "diverged, export an earlier checkpoint"
            )

        self.reference_before = None if self.before is None else self._outputs_of(self.before)

    def _outputs_of(self, checkpoint: Checkpoint) -> dict[str, npt.NDArray[np.float32]]:
        batches = self.images.batches(Preprocessing.from_dict(checkpoint.preprocessing))
        return reference_outputs(checkpoint.model, batches, self.progress, threads=self.threads)

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
        actual = onnx_outputs(
            model,
            batches,
            self.progress,
            outputs=outputs,
            threads=self.threads,
            # its optimizer moves FP8 tensors through operators that ONNX Runtime then refuses to run on FP8
            optimize=precision != "fp8",
        )
        parity = self._compare(self.reference, actual, precision, outputs)
        if self.reference_before is None or parity.top1_agreement is None:
            return parity
        beside = self._compare(self.reference_before, actual, precision, outputs)
        labels = [
            values["probabilities"].argmax(axis=-1) for values in (self.reference_before, self.reference)
        ]
        return dataclasses.replace(
            parity,
            before=Before(
                float((labels[0] == labels[1]).mean()),
                cast(float, beside.top1_agreement),
                cast("tuple[float, float]", beside.agreement_interval),
                cast(float, beside.kl_mean),
                beside.logits_sqnr_db,
                None if beside.labels is None else beside.labels.accuracy_reference,
            ),
        )

    def _compare(self, reference: Outputs, actual: Outputs, precision: str, outputs: Sequence[str]) -> Parity:
        return compare(
            reference,
            actual,
            self.limits[precision],
            outputs=outputs,
            targets=self.images.targets,
            labels=self.checkpoint.labels,
            columns=self.images.columns,
            seed=self.seed,
        )


def reference_outputs(
    model: FacialExpressionModel,
    batches: Iterable[Batch],
    progress: Progress = SILENT,
    *,
    threads: int | None = None,
) -> dict[str, npt.NDArray[np.float32]]:
    """The PyTorch FP32 outputs for all batches, joined. threads: of PyTorch, None for as many as it has."""
    import torch

    rows: list[Sequence[npt.NDArray[np.float32]]] = []
    model = model.eval()
    device = next(model.parameters()).device
    with torch.no_grad(), torch_threads(threads):
        for batch in batches:
            rows.append([value.float().cpu().numpy() for value in model(torch.from_numpy(batch).to(device))])
            progress.advance(len(batch))
    return _join(rows, OUTPUT_NAMES)


def onnx_outputs(
    model: Path | bytes,
    batches: Iterable[Batch],
    progress: Progress = SILENT,
    *,
    outputs: Sequence[str] = OUTPUT_NAMES,
    threads: int | None = None,
    optimize: bool = True,
) -> dict[str, npt.NDArray[np.float32]]:
    """The outputs of an ONNX file, or of a serialized model, in ONNX Runtime on the CPU for all batches, joined.

    outputs: which ones. threads: of one run, None for all cores. optimize: with graph optimizations.
    Raises EdgefelError for no batch, or a model that does not load or run.
    """
    options = session_options(threads)
    if not optimize:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    source, name = (model, "the model") if isinstance(model, bytes) else (str(model), str(model))
    rows: list[Sequence[npt.NDArray[np.float32]]] = []
    try:
        session = ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exception classes have no public base
        raise EdgefelError(
            f"{name}: ONNX Runtime cannot load it ({one_line(error)}); export it again"
        ) from error
    for batch in batches:
        try:
            rows.append(session.run(list(outputs), {INPUT_NAME: batch}))
        except Exception as error:
            raise EdgefelError(
                f"{name}: ONNX Runtime cannot run it on {list(batch.shape)} ({one_line(error)}); export it again"
            ) from error
        progress.advance(len(batch))
    return _join(rows, outputs)


@contextlib.contextmanager
def torch_threads(threads: int | None) -> Iterator[None]:
    """PyTorch on so many threads inside the block; None leaves their number as it is."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _join(
    rows: Sequence[Sequence[npt.NDArray[np.float32]]], outputs: Sequence[str]
) -> dict[str, npt.NDArray[np.float32]]:
    if not rows:
        raise EdgefelError("parity: no images were compared; give a data set with readable images")
    return {name: np.concatenate([row[i] for row in rows]) for i, name in enumerate(outputs)}
