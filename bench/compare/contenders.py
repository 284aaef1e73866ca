"""What is compared: models, checkpoints and bundles, each in PyTorch and in every backend behind one interface."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from edgefel.bench.compare.cuda import CUDA, OnDevice, open_on_device
from edgefel.bench.networks import random_network
from edgefel.bench.sessions import fresh_process_memory_mb, peak_memory_mb
from edgefel.data.labels import expression_labels
from edgefel.data.preprocessing import Preprocessing, default_preprocessing
from edgefel.errors import EdgefelError
from edgefel.export.options import ExportOptions
from edgefel.progress import SILENT, Progress
from edgefel.runtime.backends.base import BACKENDS
from edgefel.runtime.manifest import MANIFEST_NAME, BundleFile, read_manifest
from edgefel.runtime.session import Session
from edgefel.text import one_line

Array = npt.NDArray[np.float32]

EAGER, COMPILED = "pytorch", "torch.compile"
PYTORCH = (EAGER, COMPILED)
# of the runtime's backends the ones that are compared by themselves; the rest are named on request
DEFAULT_BACKENDS = (EAGER, COMPILED, "onnxruntime", "openvino", "tensorrt")
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


@dataclass(frozen=True)
class Contender:
    """One form of a subject in one backend, ready to run.

    probabilities, logits: float32 [N, 3, H, W] -> [N, C]; logits is None where the bundle has none.
    verdict: of the file's comparison with PyTorch, None where it has none.
    peak_memory_mb: 10^6 bytes of a fresh process that opens it and runs one batch of that size. ready: makes the call
    that is timed, where that is not `probabilities`.
    """

    subject: Subject
    precision: str
    backend: str
    file_bytes: int
    probabilities: Callable[[Array], Array]
    logits: Callable[[Array], Array] | None
    peak_memory_mb: Callable[[int], float]
    ready: Callable[[Array], Callable[[], Any]] | None = None
    verdict: str | None = None

    def call(self, batch: Array) -> Callable[[], Any]:
        """What is timed: `probabilities` of the batch, or, on a device, the work on images that are there already."""
        return partial(self.probabilities, batch) if self.ready is None else self.ready(batch)

    @property
    def name(self) -> str:
        """For people: "arbex int8 openvino"."""
        return f"{self.subject.name} {self.precision} {self.backend}"


def open_backend(
    subject: Subject,
    backend: str,
    precisions: Sequence[str],
    threads: int,
    max_batch: int,
    opened: ExitStack,
    skipped: dict[str, str],
) -> list[Contender]:
    """Every file of the subject in one backend, closed by `opened`; those that it cannot run here go to `skipped`.

    Raises EdgefelError for an unusable backend.
    """
    if backend in PYTORCH:
        return [open_pytorch(subject, backend, threads)]
    if backend in CUDA:
        return [
            _on_device(subject, backend, one)
            for one in open_on_device(_checkpoint(subject, backend), backend, precisions)
        ]
    files = _files(subject, backend, precisions)
    reasons = {file.precision: BACKENDS[backend].load().unavailable_reason(file) for file in files}
    if None in reasons.values():
        skipped |= {f"{precision} {backend}": why for precision, why in reasons.items() if why is not None}
        files = [file for file in files if reasons[file.precision] is None]
    return [open_session(subject, file.precision, backend, threads, opened, max_batch) for file in files]


def _checkpoint(subject: Subject, backend: str) -> Path:
    if subject.checkpoint is None:
        raise EdgefelError(
            f"{subject.folder}: a bundle holds no PyTorch model; give its checkpoint to compare with {backend}"
        )
    return subject.checkpoint


def _on_device(subject: Subject, backend: str, one: OnDevice) -> Contender:
    return Contender(
        subject,
        one.precision,
        backend,
        one.file_bytes,
        partial(one.output, "probabilities"),
        partial(one.output, "logits"),
        lambda batch: one.peak_memory_mb(batch, subject.preprocessing.output_size),
        one.ready,
    )


def _files(subject: Subject, backend: str, wanted: Sequence[str]) -> list[BundleFile]:
    """Of the bundle's files that the backend can run; "int8" is the INT8 file that is made for the backend, where the
    bundle has one. Raises EdgefelError where there is none."""
    if subject.bundle is None:
        return []
    kind = BACKENDS[backend].kind
    files = [file for file in read_manifest(subject.folder).files if file.kind == kind]
    quantized = [file for file in files if file.precision.startswith("int8")]
    own = [file for file in quantized if backend in file.backends] or [
        file for file in quantized if file.precision in wanted
    ]
    others = [file for file in files if file not in quantized and file.precision in wanted]
    found = [*others, *(own if "int8" in wanted else ())]
    if not found and kind == "engine":
        raise EdgefelError(
            f"{backend}: no engine of {subject.name} here; edgefel engine builds one beside a GPU"
        )
    if not found:
        raise EdgefelError(f"{subject.folder}: holds no file for {backend} of {', '.join(wanted)}")
    return found


def open_pytorch(subject: Subject, backend: str, threads: int) -> Contender:
    """The checkpoint in PyTorch, on the threads that are set when it runs; `threads` is for its memory.

    Raises EdgefelError for a bundle without a checkpoint, and where nothing compiles.
    """
    import torch

    from edgefel.models.checkpoint import load_checkpoint

    loaded = load_checkpoint(_checkpoint(subject, backend))
    network: Any = loaded.model
    if backend == COMPILED:
        network, size = torch.compile(network), loaded.config.input_size
        try:
            with torch.inference_mode():
                network(torch.zeros(1, 3, size, size))
        except (
            Exception
        ) as error:  # whatever the compiler or the tracer raises, such as without a C++ compiler
            raise EdgefelError(f"{COMPILED}: {type(error).__name__}: {one_line(error)[:200]}") from None

    def run(batch: Array) -> Any:
        with torch.inference_mode():
            return network(torch.from_numpy(batch))

    return Contender(
        subject,
        "fp32",
        backend,
        (loaded.path / "model.safetensors").stat().st_size,
        lambda batch: run(batch).probabilities.numpy(),
        lambda batch: run(batch).logits.numpy(),
        lambda batch: fresh_process_memory_mb(_MEMORY_OF_MODEL, (loaded.path, threads, batch, backend)),
    )


def open_session(
    subject: Subject, precision: str, backend: str, threads: int, opened: ExitStack, max_batch: int = 16
) -> Contender:
    """One file of the bundle in one backend. Raises EdgefelError where it cannot be run."""
    # what the gate refused is compared all the same: its accuracy stands beside its speed
    session = opened.enter_context(
        Session.open(
            subject.folder, precision, backend, threads, force=True, max_batch=max_batch, advise=False
        )
    )

    def logits(batch: Array) -> Array:
        return cast(Array, session.run(batch).logits)

    return Contender(
        subject,
        precision,
        backend,
        session.file.bytes,
        lambda batch: session.run(batch).probabilities,
        logits if "logits" in session.manifest.outputs else None,
        lambda batch: peak_memory_mb(session, batch),
        verdict=session.manifest.judged(session.file).verdict,
    )


_MEMORY_OF_MODEL = """
import sys
import torch
from edgefel.models.checkpoint import load_checkpoint
path, threads, batch, backend = sys.argv[1:]
torch.set_num_threads(int(threads))
loaded = load_checkpoint(path)
model = torch.compile(loaded.model) if backend == "torch.compile" else loaded.model
size = loaded.config.input_size
with torch.inference_mode():
    model(torch.zeros(int(batch), 3, size, size))
"""
