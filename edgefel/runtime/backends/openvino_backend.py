"""ONNX files on x86 CPUs by OpenVINO."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
import queue
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from edgefel.errors import EdgefelError
from edgefel.runtime.backends.base import Array, ModelFile, Record
from edgefel.runtime.backends.quiet import import_openvino
from edgefel.runtime.manifest import INPUT_NAME, BundleFile
from edgefel.runtime.requirements import OPENVINO, too_old
from edgefel.text import one_line

_X86 = ("x86_64", "AMD64", "i686")


class OpenVinoBackend:
    """OpenVINO's CPU plugin. Threads that call at once each take an inference request of their own."""

    def __init__(self, compiled: Any, path: Any) -> None:
        self._compiled = compiled
        self._path = path
        self._idle: queue.SimpleQueue[Any] = queue.SimpleQueue()

    @classmethod
    def unavailable_reason(cls, file: BundleFile) -> str | None:
        """OpenVINO is not installed or older than the file needs, or this is no x86 processor."""
        if platform.machine() not in _X86:
            return f"OpenVINO is for x86 processors, and this one is {platform.machine()}; use onnxruntime"
        if importlib.util.find_spec("openvino") is None:
            return "OpenVINO is not installed; run: pip install 'edgefel[openvino]'"
        try:
            installed = importlib.metadata.version(OPENVINO)
        except importlib.metadata.PackageNotFoundError:  # one that was built here and put on the path
            return None
        return too_old(file, installed, OPENVINO)

    @classmethod
    def open(cls, model: ModelFile, *, threads: int) -> OpenVinoBackend:
        """Compiles the file for that many CPU threads per call; raises EdgefelError if it cannot be compiled."""
        try:
            openvino = import_openvino()
            compiled = openvino.Core().compile_model(str(model.path), "CPU", compile_options(threads))
        except RuntimeError as error:
            raise EdgefelError(
                f"{model.path}: OpenVINO cannot load it ({_reason(error)}); choose --backend onnxruntime or export "
                "it again"
            ) from error
        except Exception as error:  # the package does not import, or is broken
            raise EdgefelError(
                f"OpenVINO does not load ({one_line(error)}); run: pip install --force-reinstall openvino"
            ) from error
        return cls(compiled, model.path)

    @property
    def input_names(self) -> tuple[str, ...]:
        return tuple(port.any_name for port in self._compiled.inputs)

    @property
    def output_names(self) -> tuple[str, ...]:
        return tuple(port.any_name for port in self._compiled.outputs)

    @property
    def max_batch(self) -> int | None:
        return None

    @property
    def notes(self) -> tuple[str, ...]:
        return ()

    def run(self, batch: Array, record: Record | None = None) -> Mapping[str, Array]:
        """Every output by name; records "inference"."""
        start = time.perf_counter()
        request = None
        try:
            request = self._request()
            request.infer({INPUT_NAME: batch}, share_inputs=True)
            # copied: the request's own memory is written again by its next call
            outputs = {name: np.array(request.get_tensor(name).data) for name in self.output_names}
        except Exception as error:
            raise EdgefelError(
                f"{self._path}: OpenVINO cannot run it on {list(batch.shape)} ({_reason(error)}); export it again"
            ) from error
        finally:
            if request is not None:
                self._idle.put(request)
        if record is not None:
            record("inference", time.perf_counter() - start)
        return outputs

    def _request(self) -> Any:
        """One that is idle, else a new one: there are as many as calls were under way at once."""
        try:
            return self._idle.get_nowait()
        except queue.Empty:
            return self._compiled.create_infer_request()

    def close(self) -> None:
        """Frees the model and its requests."""
        while not self._idle.empty():
            self._idle.get_nowait()
        self._compiled = None


def compile_options(threads: int) -> dict[str, Any]:
    """Options of the CPU plugin for one call at a time on that many threads.

    Without the precision it takes bfloat16 for FP32 files on processors that have it. Pinned, the threads of two
    sessions would wait for the same cores.
    """
    return {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": "f32",
        "ENABLE_CPU_PINNING": False,
    }


def _reason(error: Exception) -> str:
    """The last line of OpenVINO's message says what failed, those before it where in its sources."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
