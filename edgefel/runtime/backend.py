"""What runs a model file: the interface, and the table of the backends there are.

A backend is one module with a class that follows `Backend`, and one line in BACKENDS. It is imported when
it is used, so that a device needs the packages of its own backend and of no other.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy.typing as npt

from edgefel.errors import EdgefelError
from edgefel.runtime.preprocessing import Tensor


class Backend(Protocol):
    """A loaded model file. `run` may be called from several threads at once.

    It frees what it holds when the last reference goes, so a session can be closed while calls still run.
    """

    @classmethod
    def open(cls, path: Path, *, threads: int) -> Backend:
        """Loads the file; raises EdgefelError if it cannot be loaded."""
        ...

    @property
    def input_names(self) -> tuple[str, ...]: ...

    @property
    def output_names(self) -> tuple[str, ...]: ...

    def run(self, batch: Tensor) -> Mapping[str, npt.NDArray[Any]]:
        """float32 [N, 3, H, W] with N >= 1, C-contiguous -> every output by name, on the host."""
        ...


@dataclass(frozen=True)
class BackendEntry:
    """Where a backend lives and the kind of file it loads."""

    kind: str
    module: str
    attribute: str

    def load(self) -> type[Backend]:
        """The backend's class."""
        backend: type[Backend] = getattr(importlib.import_module(self.module), self.attribute)
        return backend


# The order is the order in which "auto" tries them on a bundle.
BACKENDS: dict[str, BackendEntry] = {
    "onnxruntime": BackendEntry("onnx", "edgefel.runtime.onnxruntime_backend", "OnnxRuntimeBackend"),
}


def backend_entry(name: str) -> BackendEntry:
    """The entry of that name; raises EdgefelError listing the names there are."""
    if name not in BACKENDS:
        raise EdgefelError(f"backend {name!r} is not known; choose one of: auto, {', '.join(BACKENDS)}")
    return BACKENDS[name]
