"""ONNX files on x86 CPUs by OpenVINO."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
import queue
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from edgefel.errors import EdgefelError
from edgefel.runtime.backends.base import Array, ModelFile, OnnxBackend
from edgefel.runtime.backends.openvino_prelu import own_prelus
from edgefel.runtime.backends.quiet import import_quietly
from edgefel.runtime.manifest import BundleFile
from edgefel.runtime.onnx_functions import has_functions, inlined
from edgefel.runtime.requirements import OPENVINO, too_old
from edgefel.runtime.telemetry.sysfs import lacks_vnni
from edgefel.text import one_line

_X86 = ("x86_64", "AMD64", "i686")
_INT8 = ("int8", "int8+fp16")


# Batch sizes that a network is compiled for; calls are put together from them. Compiled for any batch size it is
# slower: arbex-nano takes 1.6 times as long for 16 faces, and twice as long for one. Each size holds the weights anew,
# so there are fewer for files above LARGE bytes.
SIZES, SIZES_OF_LARGE = (16, 8, 6, 4, 3, 2, 1), (16, 4, 1)
LARGE = 32 << 20
# Images after which compiling for a larger size has paid off: arbex-nano takes 0.3 s and saves 0.5 to 1 ms an image.
PAYS = 400


class _Compiled:
    """The network for one batch size, and requests that no call uses; their number is the peak of concurrent calls."""

    def __init__(self, compiled: Any) -> None:
        self.compiled = compiled
        self._idle: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def infer(self, batch: Array, input_name: str, output_names: Sequence[str]) -> dict[str, Array]:
        """Every output by name, copied, because the next call overwrites the request's memory."""
        request = self.request()
        try:
            request.infer({input_name: batch}, share_inputs=True)
            return {name: np.array(request.get_tensor(name).data) for name in output_names}
        finally:
            self._idle.put(request)

    def request(self) -> Any:
        """An idle request, or a new one."""
        try:
            return self._idle.get_nowait()
        except queue.Empty:
            return self.compiled.create_infer_request()


class OpenVinoBackend(OnnxBackend):
    """OpenVINO's CPU plugin. Concurrent calls each use their own inference request.

    A network of any batch size is compiled for batches of 1, and for the larger SIZES when `prepare` asks for them or
    after PAYS images that one would have served. Which sizes a batch is split into changes its outputs in the last
    digits at most.
    """

    package: ClassVar[str] = "OpenVINO"

    def __init__(self, core: Any, network: Any, path: Path, threads: int) -> None:
        inputs, outputs = network.inputs, network.outputs
        sides = inputs[0].partial_shape if inputs else ()
        shape = tuple(side.get_length() if side.is_static else None for side in sides)
        names = tuple(port.any_name for port in inputs), tuple(map(_output_name, outputs))
        super().__init__(path, *names, shape)
        self._core, self._network, self._threads = core, network, threads
        self._lock = threading.Lock()
        self._images: Counter[int] = Counter()
        self._sizes = SIZES if path.stat().st_size <= LARGE else SIZES_OF_LARGE
        # of an input that varies in more than its batch size there is one network, under 0
        split = len(inputs) == 1 and shape[:1] == (None,) and None not in shape[1:]
        first = 1 if split else 0
        self._compiled = {first: self._compile(first)}

    @classmethod
    def unavailable_reason(cls, file: BundleFile) -> str | None:
        """OpenVINO is not installed or older than the file needs, or this is no x86 processor, or INT8 is wrong on it.

        Without VNNI, OpenVINO's INT8 kernels add two products in 16 bits, and a sum that does not fit becomes the
        largest one that does (its documentation says saturation). It has no option against that.
        """
        if platform.machine() not in _X86:
            return f"OpenVINO is for x86 processors, and this one is {platform.machine()}; use onnxruntime"
        if file.precision in _INT8 and lacks_vnni():
            return "OpenVINO's INT8 is wrong on an x86 processor without VNNI, as this one is; use onnxruntime, or FP32"
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
            core = import_quietly("openvino").Core()
            return cls(core, read_network(core, model.path), model.path, threads)
        except RuntimeError as error:
            raise EdgefelError(
                f"{model.path}: OpenVINO cannot load it ({cls._reason(error)}); choose --backend onnxruntime or export "
                "it again"
            ) from error
        except Exception as error:  # the package does not import, or is broken
            raise EdgefelError(
                f"OpenVINO does not load ({one_line(error)}); run: pip install --force-reinstall openvino"
            ) from error

    def prepare(self, batches: Sequence[int]) -> None:
        """Compiles the network for what batches of these sizes are split into."""
        if 0 not in self._compiled:
            for size in {size for batch in batches for size in _split(batch, self._sizes)}:
                self._add(size)

    def _infer(self, batch: Array) -> dict[str, Array]:
        if 0 in self._compiled:
            return self._compiled[0].infer(batch, self.input_names[0], self.output_names)
        parts, start = [], 0
        for size in self._parts(len(batch)):
            part = batch[start : start + size]
            parts.append(self._compiled[size].infer(part, self.input_names[0], self.output_names))
            start += size
        if len(parts) == 1:
            return parts[0]
        return {name: np.concatenate([part[name] for part in parts]) for name in self.output_names}

    def _parts(self, batch: int) -> list[int]:
        """The compiled sizes that make up a batch, after compiling what has paid off."""
        wanted = list(_split(batch, self._sizes))
        with self._lock:
            self._images.update({size: size * count for size, count in Counter(wanted).items()})
            due = [size for size in wanted if self._images[size] >= PAYS and size not in self._compiled]
        for size in due:
            self._add(size)
        return list(_split(batch, sorted(self._compiled, reverse=True)))

    def _add(self, size: int) -> None:
        with self._lock:
            if size not in self._compiled:
                self._compiled = {**self._compiled, size: self._compile(size)}

    def _compile(self, size: int) -> _Compiled:
        """size: of the batch; 0 leaves the shape as it is."""
        network = self._network
        if size:
            network = network.clone()
            network.reshape([size, *self.input_shape[1:]])
        return _Compiled(self._core.compile_model(network, "CPU", compile_options(self._threads)))

    @staticmethod
    def _reason(error: Exception) -> str:
        """The last line of OpenVINO's message, which states the failure; the lines above locate it in its sources."""
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        return lines[-1] if lines else type(error).__name__

    def close(self) -> None:
        """Frees the networks and their requests."""
        self._compiled = {}
        self._network = self._core = None


def read_network(core: Any, path: Path) -> Any:
    """The file as an `openvino.Model`, ready to be compiled: with fused operators written out, which OpenVINO does not
    know, and with PReLUs that it fuses."""
    network = core.read_model(inlined(path.read_bytes()) if has_functions(path) else str(path))
    own_prelus(network)
    return network


def _split(batch: int, sizes: Sequence[int]) -> Iterator[int]:
    """Sizes that add up to the batch, the largest first. sizes: falling, the last one 1."""
    for size in sizes:
        yield from [size] * (batch // size)
        batch %= size


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
