"""Outputs of PyTorch and of ONNX files on the same images."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from edgefel.errors import EdgefelError
from edgefel.progress import SILENT, Progress
from edgefel.runtime.manifest import INPUT_NAME, OUTPUT_NAMES

if TYPE_CHECKING:
    from edgefel.models.network import FacialExpressionModel

Outputs = Mapping[str, npt.NDArray[np.float32]]
Batch = npt.NDArray[Any]


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
) -> dict[str, npt.NDArray[np.float32]]:
    """The outputs of an ONNX file, or of a serialized model, in ONNX Runtime on the CPU for all batches, joined.

    outputs: which ones. threads: of one run, None for all cores. Raises EdgefelError for no batch, or a model
    that does not load or run.
    """
    options = ort.SessionOptions()
    options.log_severity_level = 3
    if threads is not None:
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
    source, name = (model, "the model") if isinstance(model, bytes) else (str(model), str(model))
    rows: list[Sequence[npt.NDArray[np.float32]]] = []
    try:
        session = ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exception classes have no public base
        raise EdgefelError(
            f"{name}: ONNX Runtime cannot load it ({_line(error)}); export it again"
        ) from error
    for batch in batches:
        try:
            rows.append(session.run(list(outputs), {INPUT_NAME: batch}))
        except Exception as error:
            raise EdgefelError(
                f"{name}: ONNX Runtime cannot run it on {list(batch.shape)} ({_line(error)}); export it again"
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


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
