"""ONNX files on x86 CPUs by OpenVINO."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
import queue
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from edgefel.errors import EdgefelError
from edgefel.runtime.backends.base import Array, ModelFile, OnnxBackend
from edgefel.runtime.backends.quiet import import_quietly
from edgefel.runtime.manifest import BundleFile
from edgefel.runtime.requirements import OPENVINO, too_old
from edgefel.text import one_line

_X86 = ("x86_64", "AMD64", "i686")


class OpenVinoBackend(OnnxBackend):
    """OpenVINO's CPU plugin. Concurrent calls each use their own inference request."""

    package: ClassVar[str] = "OpenVINO"

    def __init__(self, compiled: Any, path: Path) -> None:
        inputs, outputs = compiled.inputs, compiled.outputs
        sides = inputs[0].partial_shape if inputs else ()
        shape = tuple(side.get_length() if side.is_static else None for side in sides)
        names = tuple(port.any_name for port in inputs), tuple(map(_output_name, outputs))
        super().__init__(path, *names, shape)
        self._compiled = compiled
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
            openvino = import_quietly("openvino")
            compiled = openvino.Core().compile_model(str(model.path), "CPU", compile_options(threads))
        except RuntimeError as error:
            raise EdgefelError(
                f"{model.path}: OpenVINO cannot load it ({cls._reason(error)}); choose --backend onnxruntime or export "
                "it again"
            ) from error
        except Exception as error:  # the package does not import, or is broken
            raise EdgefelError(
                f"OpenVINO does not load ({one_line(error)}); run: pip install --force-reinstall openvino"
            ) from error
        return cls(compiled, model.path)

    def _infer(self, batch: Array) -> dict[str, Array]:
        request = self._request()
        try:
            request.infer({self.input_names[0]: batch}, share_inputs=True)
            # copied, because the next call overwrites the request's memory
            return {name: np.array(request.get_tensor(name).data) for name in self.output_names}
        finally:
            self._idle.put(request)

    def _request(self) -> Any:
        """An idle request, or a new one; their number is the peak of concurrent calls."""
        try:
            return self._idle.get_nowait()
        except queue.Empty:
            return self._compiled.create_infer_request()

    @staticmethod
    def _reason(error: Exception) -> str:
        """The last line of OpenVINO's message, which states the failure; the lines above locate it in its sources."""
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        return lines[-1] if lines else type(error).__name__

    def close(self) -> None:
        """Frees the model and its requests."""
        while not self._idle.empty():
            self._idle.get_nowait()
        self._compiled = None


def _output_name(port: Any) -> str:
    """The name in the ONNX file. A tensor that OpenVINO merged with another has the names of both."""
    name: str = port.node.friendly_name.rpartition("/sink_port_")[0]
    return name if name in port.names else str(port.any_name)


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
