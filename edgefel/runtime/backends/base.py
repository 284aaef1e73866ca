"""The interface of a backend, and the table of backends.

A backend is a module with a class that implements `Backend`, and an entry in BACKENDS. It is imported on first use,
so a device needs the packages of its own backend only.
"""

from __future__ import annotations

import pkgutil
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from edgefel.errors import EdgefelError
from edgefel.runtime.manifest import INPUT_NAME, BundleFile, Manifest
from edgefel.text import one_line

Array = npt.NDArray[Any]
# told the name of a stage and how many seconds it took
Record = Callable[[str, float], None]


@dataclass(frozen=True)
class ModelFile:
    """A file of a bundle and what the manifest promises of it.

    image_shape: of one image, (3, H, W) as float32 or (H, W, 3) as uint8. outputs: names, with [N] or [N, C]
    values each; output_shapes: what follows N. input_name: of the one input.
    """

    path: Path
    file: BundleFile
    image_shape: tuple[int, ...]
    dtype: np.dtype[Any]
    output_shapes: Mapping[str, tuple[int, ...]]
    input_name: str = INPUT_NAME

    @classmethod
    def of(cls, manifest: Manifest, file: BundleFile) -> ModelFile:
        """The file as the manifest describes it."""
        classes, width = manifest.model.num_classes, manifest.model.embedding_dim
        others: dict[str, tuple[int, ...]] = {"confidence": (), "embedding": (width,)}
        return cls(
            manifest.folder / file.name,
            file,
            tuple(int(side) for side in manifest.input_shape[1:]),
            np.dtype(manifest.input_type),
            {name: others.get(name, (classes,)) for name in manifest.outputs},
        )


class Backend(Protocol):
    """A loaded model file. `run` may be called from several threads at once; `close` is called once, when no
    `run` is under way, and none comes after it.

    max_batch: the largest batch that runs in one piece, None if there is no limit; `run` splits larger ones.
    notes: what a user should know of how it runs, one line each, such as why CUDA graphs are not used.
    It may have a method `prepare(batches)`: makes ready for batches of these sizes, which takes time.
    """

    input_names: tuple[str, ...]
    output_names: tuple[str, ...]
    max_batch: int | None
    notes: tuple[str, ...]

    @classmethod
    def unavailable_reason(cls, file: BundleFile) -> str | None:
        """Why this backend cannot run such a file here, in one line with what to do; None if it may.

        Looks at what is installed and at the manifest; opens no file.
        """
        ...

    @classmethod
    def open(cls, model: ModelFile, *, threads: int) -> Backend:
        """Loads the file for that many CPU threads per call; raises EdgefelError if it cannot be loaded."""
        ...

    def run(self, batch: Array, record: Record | None = None) -> Mapping[str, Array]:
        """float32 [N, 3, H, W] or uint8 [N, H, W, 3] with N >= 1, C-contiguous -> every output by name, on the
        host and the caller's own."""
        ...

    def close(self) -> None:
        """Frees what it holds."""
        ...


class OnnxBackend(ABC):
    """Base class of the backends that run ONNX files: batches of any size, and one stage, "inference".

    package: name of the inference engine in messages. input_shape: of the first input, None for a side that may vary.
    """

    package: ClassVar[str]
    max_batch: int | None = None
    notes: tuple[str, ...] = ()

    def __init__(
        self,
        path: Path,
        input_names: tuple[str, ...],
        output_names: tuple[str, ...],
        input_shape: tuple[int | None, ...],
    ) -> None:
        self._path = path
        self.input_names = input_names
        self.output_names = output_names
        self.input_shape = input_shape

    def run(self, batch: Array, record: Record | None = None) -> Mapping[str, Array]:
        """Every output by name; records "inference"."""
        start = time.perf_counter()
        try:
            outputs = self._infer(batch)
        except Exception as error:  # ONNX Runtime's exception classes have no public base
            raise EdgefelError(
                f"{self._path}: {self.package} cannot run it on {list(batch.shape)} ({self._reason(error)}); "
                "export it again"
            ) from error
        if record is not None:
            record("inference", time.perf_counter() - start)
        return outputs

    @abstractmethod
    def _infer(self, batch: Array) -> dict[str, Array]:
        """Every output by name, in memory that later calls do not overwrite."""

    @staticmethod
    def _reason(error: Exception) -> str:
        """The package's error message in one line."""
        return one_line(error)


@dataclass(frozen=True)
class BackendEntry:
    """The kind of file that a backend loads, "module:class", and whether "auto" tries it."""

    kind: str
    target: str
    auto: bool = True

    def load(self) -> type[Backend]:
        """The backend's class."""
        backend: type[Backend] = pkgutil.resolve_name(self.target)
        return backend


_HERE = "edgefel.runtime.backends"
# The order is the order in which "auto" tries them on a bundle. It leaves out ONNX Runtime's TensorRT provider,
# which builds an engine of its own for minutes when it first sees a model.
BACKENDS: dict[str, BackendEntry] = {
    "tensorrt": BackendEntry("engine", f"{_HERE}.tensorrt_backend:TensorRTBackend"),
    "onnxruntime-cuda": BackendEntry("onnx", f"{_HERE}.onnxruntime_backend:OnnxRuntimeCudaBackend"),
    "openvino": BackendEntry("onnx", f"{_HERE}.openvino_backend:OpenVinoBackend"),
    "onnxruntime": BackendEntry("onnx", f"{_HERE}.onnxruntime_backend:OnnxRuntimeBackend"),
    "onnxruntime-tensorrt": BackendEntry(
        "onnx", f"{_HERE}.onnxruntime_backend:OnnxRuntimeTensorRTBackend", auto=False
    ),
}


def backend_entry(name: str) -> BackendEntry:
    """The entry of that name; raises EdgefelError listing the names there are."""
    if name not in BACKENDS:
        raise EdgefelError(f"backend {name!r} is not known; choose one of: auto, {', '.join(BACKENDS)}")
    return BACKENDS[name]
