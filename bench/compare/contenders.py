"""One network in PyTorch and in every backend, behind one interface."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from edgefel.bench.compare.subjects import Subject
from edgefel.bench.sessions import fresh_process_memory_mb, peak_memory_mb
from edgefel.errors import EdgefelError
from edgefel.runtime.backends.base import BACKENDS
from edgefel.runtime.manifest import read_manifest
from edgefel.runtime.session import Session
from edgefel.text import one_line

Array = npt.NDArray[np.float32]

EAGER, COMPILED = "pytorch", "torch.compile"
PYTORCH = (EAGER, COMPILED)
# of the runtime's backends the ones that are compared by themselves; the rest are named on request
DEFAULT_BACKENDS = (EAGER, COMPILED, "onnxruntime", "openvino", "tensorrt")


@dataclass(frozen=True)
class Contender:
    """One form of a subject in one backend, ready to run.

    probabilities, logits: float32 [N, 3, H, W] -> [N, C]; logits is None where the bundle has none.
    peak_memory_mb: 10^6 bytes of a fresh process that opens it and runs one batch of that size.
    """

    subject: Subject
    precision: str
    backend: str
    file_bytes: int
    probabilities: Callable[[Array], Array]
    logits: Callable[[Array], Array] | None
    peak_memory_mb: Callable[[int], float]

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
) -> list[Contender]:
    """Every file of the subject in one backend.

    max_batch: largest batch, run in one piece. opened: closes them. Raises EdgefelError for an unusable backend.
    """
    if backend in PYTORCH:
        return [open_pytorch(subject, backend, threads)]
    found = _precisions(subject, backend, precisions)
    return [open_session(subject, name, backend, threads, opened, max_batch) for name in found]


def _precisions(subject: Subject, backend: str, wanted: Sequence[str]) -> list[str]:
    """Of the bundle's files that the backend can run. Raises EdgefelError where there is none."""
    if subject.bundle is None:
        return []
    if backend not in BACKENDS:
        known = ", ".join((*PYTORCH, *BACKENDS))
        raise EdgefelError(f"unknown backend '{backend}'; known: {known}")
    kind = BACKENDS[backend].kind
    files = read_manifest(subject.folder).files
    found = [file.precision for file in files if file.kind == kind and file.precision in wanted]
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

    if subject.checkpoint is None:
        raise EdgefelError(
            f"{subject.folder}: a bundle holds no PyTorch model; give its checkpoint to compare with {backend}"
        )
    loaded = load_checkpoint(subject.checkpoint)
    network: Any = loaded.model
    if backend == COMPILED:
        network = _compiled(network, loaded.config.input_size)

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


def _compiled(network: Any, size: int) -> Any:
    """The network by torch.compile. Raises EdgefelError where that fails, such as without a C++ compiler."""
    import torch

    compiled = torch.compile(network)
    try:
        with torch.inference_mode():
            compiled(torch.zeros(1, 3, size, size))
    except Exception as error:  # whatever the compiler or the tracer raises
        raise EdgefelError(f"{COMPILED}: {type(error).__name__}: {one_line(error)[:200]}") from None
    return compiled


def open_session(
    subject: Subject, precision: str, backend: str, threads: int, opened: ExitStack, max_batch: int = 16
) -> Contender:
    """One file of the bundle in one backend. Raises EdgefelError where it cannot be run."""
    # what the gate refused is compared all the same: its accuracy stands beside its speed
    session = opened.enter_context(
        Session.open(subject.folder, precision, backend, threads, force=True, max_batch=max_batch)
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
