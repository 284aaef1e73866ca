"""TensorRT engines, by `tensorrt` 10.3 and later or `tensorrt_rtx`.

A call copies its images into pinned memory, and puts on a stream of the session: the copy to the GPU, the engine (from
the second call of a batch size on as a CUDA graph), and the copies back. On a Jetson, where CPU and GPU share the
memory, there is nothing to copy.
"""

from __future__ import annotations

import ctypes
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from types import ModuleType
from typing import Any

import numpy as np

from edgefel.errors import EdgefelError
from edgefel.runtime.backends.base import Array, ModelFile, Record
from edgefel.runtime.backends.cuda import (
    Buffer,
    CaptureRefused,
    CudaDevice,
    GraphDriver,
    import_pycuda,
    load_libcuda,
)
from edgefel.runtime.backends.tensorrt_binding import (
    Binding,
    Piece,
    check_binding,
    check_version,
    cut,
    read_binding,
)
from edgefel.runtime.backends.tensorrt_context import BatchContext, ContextFactory
from edgefel.runtime.engines import check_engine, explained, listen, load_package, start_runtime
from edgefel.runtime.manifest import BundleFile
from edgefel.text import one_line

# contexts kept, one per batch size; each takes some MB of host memory
_CONTEXTS = 16
# CU_STREAM_NON_BLOCKING of cuda.h, which pycuda does not name
_NON_BLOCKING = 1
_log = logging.getLogger("edgefel.runtime")


class TensorRTBackend:
    """One engine with its memory, stream and contexts. One call runs at a time, others wait; sessions beside it,
    also of the same engine, run on streams of their own."""

    def __init__(self, device: CudaDevice, trt: ModuleType, model: ModelFile) -> None:
        """For use inside `device.current()`, as `open` does."""
        self._begun = False
        self._device = device
        self._where = str(model.path)
        self._binding, self._factory, self._logger = _load(trt, model)
        self.input_names = tuple(spec.name for spec in self._binding.inputs)
        self.output_names = tuple(spec.name for spec in self._binding.outputs)
        self.max_batch: int | None = self._binding.max_batch
        self.notes: tuple[str, ...] = ()
        self._lock = threading.Lock()
        self._contexts: OrderedDict[tuple[int, int], BatchContext] = OrderedDict()
        self._graphs: GraphDriver | None = None
        self._stream: Any = None
        self._events: list[Any] = []
        self._scratch: Any = None
        self._buffers: dict[str, Buffer] = {}
        if not self._factory.captures_itself:
            try:
                self._graphs = GraphDriver(device.libcuda)
            except CaptureRefused as error:
                self._without_graphs(error)
        cuda = device.cuda
        try:
            # It does not wait for the default stream, nor that for it: while a stream that does is captured, the
            # default one is unusable in the whole process, and torch works on it (CUDA driver API,
            # cuStreamIsCapturing). On the default one TensorRT synchronises too often.
            self._stream = cuda.Stream(_NON_BLOCKING)
            # with a time; waiting for it leaves the CPU core to other threads
            self._events = [cuda.Event(cuda.event_flags.BLOCKING_SYNC) for _ in range(4)]
            self._scratch = cuda.mem_alloc(max(self._factory.scratch_bytes, 1))
            for spec in (*self._binding.inputs, *self._binding.outputs):
                self._buffers[spec.name] = Buffer(device, spec, self._binding.max_batch)
        except cuda.Error as error:
            self._free_memory()
            raise EdgefelError(
                f"{self._where}: the GPU's memory does not hold it ({one_line(error)}); close other programs, or "
                "build the engine with a smaller --max-batch"
            ) from error
        self._begun = True

    @classmethod
    def unavailable_reason(cls, file: BundleFile) -> str | None:
        """The engine does not fit this GPU or TensorRT, or pycuda is missing."""
        if (reason := check_engine(file)) is not None:
            return reason
        try:
            import_pycuda()
        except EdgefelError as error:
            return str(error)
        return None

    @classmethod
    def open(cls, model: ModelFile, *, threads: int) -> TensorRTBackend:
        """Loads the engine and takes its memory, for the largest batch of its profiles; `threads` is not used.

        Raises EdgefelError for an engine that does not load, or is not what the manifest says.
        """
        package = str((model.file.builder or {}).get("package"))
        trt = load_package(package)
        if not isinstance(trt, ModuleType):
            reason = f"does not load here ({trt})" if trt else "is not installed here"
            raise EdgefelError(f"{model.path}: needs {package}, which {reason}; run 'edgefel doctor'")
        check_version(trt)
        with ExitStack() as undo:
            device = CudaDevice(import_pycuda(), load_libcuda())
            undo.callback(device.release)
            with device.current():
                backend = cls(device, trt, model)
            undo.pop_all()
        return backend

    def run(self, batch: Array, record: Record | None = None) -> Mapping[str, Array]:
        """Every output by name; records "copy in", "gpu" and "copy out", once for each piece of a batch that is
        larger than the engine's profiles."""
        with self._lock:
            if self._device.closed:
                raise EdgefelError(f"{self._where}: the engine is closed; open a new session")
            with self._device.current(), self._explained(batch):
                parts = [self._run(batch, piece, record) for piece in cut(len(batch), self._binding.profiles)]
        if len(parts) == 1:
            return parts[0]
        return {name: np.concatenate([part[name] for part in parts]) for name in self.output_names}

    def close(self) -> None:
        """Frees contexts, memory and the hold on the GPU's context, when a call that is running has ended; a
        second call does nothing."""
        with self._lock:
            if self._device.closed:
                return
            try:
                with self._device.current():
                    self._factory.save()
                    # a call that failed may have left copies under way
                    self._stream.synchronize()
                    for context in self._contexts.values():
                        context.free()
                    self._contexts.clear()
                    self._free_memory()
                    # before the GPU's context may end
                    self._factory.free()
                self._device.release()
            except self._device.cuda.Error as error:
                # after an error on the GPU the driver refuses to free as well; that error is the one to report
                # pycuda ends the process where a destructor of its objects meets the error again: they stay
                ctypes.pythonapi.Py_IncRef(ctypes.py_object(self))
                _log.warning("%s: the GPU's memory is not freed (%s)", self._where, one_line(error))

    def __del__(self) -> None:
        # pycuda's destructor would not release the primary context, but push it and call the deprecated cuCtxDetach
        if self._begun:
            self.close()

    def _run(self, batch: Array, piece: Piece, record: Record | None) -> dict[str, Array]:
        (spec,) = self._binding.inputs
        context = self._context(piece)
        stream, (begin, copied, done, end) = self._stream, self._events
        started = time.perf_counter()
        self._buffers[spec.name].fill(batch[piece.start : piece.start + piece.count], piece.size)
        filled = time.perf_counter()
        begin.record(stream)
        self._buffers[spec.name].upload(piece.size, stream)
        copied.record(stream)
        context.enqueue(stream)
        done.record(stream)
        for name in self.output_names:
            self._buffers[name].download(piece.size, stream)
        end.record(stream)
        end.synchronize()
        ended = time.perf_counter()
        outputs = {name: self._buffers[name].values(piece.count) for name in self.output_names}
        if record is not None:
            host = time.perf_counter() - ended
            record("copy in", filled - started + begin.time_till(copied) / 1e3)
            record("gpu", copied.time_till(done) / 1e3)
            record("copy out", host + done.time_till(end) / 1e3)
        if self._graphs is not None and context.graph is None:
            try:
                context.capture(self._graphs, stream)
            except CaptureRefused as error:
                self._without_graphs(error)
        return outputs

    def _context(self, piece: Piece) -> BatchContext:
        """The context for such a piece; the one that was not used for longest makes room."""
        key = (piece.profile, piece.size)
        if key in self._contexts:
            self._contexts.move_to_end(key)
            return self._contexts[key]
        if len(self._contexts) >= _CONTEXTS:
            self._contexts.popitem(last=False)[1].free()
        made = self._factory.create(int(self._scratch), self._factory.scratch_bytes)
        if made is None:
            raise EdgefelError(
                f"{self._where}: TensorRT makes no execution context; is the GPU's memory full?"
            )
        addresses = {name: buffer.address for name, buffer in self._buffers.items()}
        self._contexts[key] = BatchContext(
            made, self._binding, piece.profile, piece.size, addresses, self._stream, self._where
        )
        return self._contexts[key]

    def _without_graphs(self, error: CaptureRefused) -> None:
        """Disables CUDA graphs, which costs launch time but no accuracy, and reports it once."""
        self._graphs = None
        self.notes = (f"CUDA graphs are not used: {error}",)
        _log.warning("%s: %s", self._where, *self.notes)

    @contextmanager
    def _explained(self, batch: Array) -> Iterator[None]:
        """Adds TensorRT's messages to an error, and converts pycuda's errors to EdgefelError."""
        said = len(self._logger.messages.errors)
        try:
            yield
        except EdgefelError as error:
            reasons = self._logger.messages.errors[said:]
            raise EdgefelError(f"{error}: {'; '.join(reasons)}" if reasons else str(error)) from error
        except self._device.cuda.Error as error:
            raise EdgefelError(
                f"{self._where}: the GPU failed on {list(batch.shape)} ({one_line(error)}); open the session anew"
            ) from error
        except Exception as error:  # its Python package reports refusals by several types
            reasons = [one_line(error), *self._logger.messages.errors[said:]]
            raise EdgefelError(
                f"{self._where}: TensorRT refuses {list(batch.shape)}: {'; '.join(reasons)}"
            ) from error

    def _free_memory(self) -> None:
        for buffer in self._buffers.values():
            buffer.free()
        self._buffers = {}
        if self._scratch is not None:
            self._scratch.free()
        self._scratch = self._stream = None
        self._events = []


def _load(trt: ModuleType, model: ModelFile) -> tuple[Binding, ContextFactory, Any]:
    """Reads the engine, which must be what the manifest says, and gives the logger that collects TensorRT's messages
    on it; for use inside `CudaDevice.current()`."""
    builder = model.file.builder or {}
    what = f"{model.path}: {trt.__name__} {trt.__version__} cannot load it"
    fix = "build it here with 'edgefel engine DIR --rebuild'"
    with listen(trt) as (logger, messages):
        runtime = start_runtime(trt, logger, messages)
        with explained(what, messages, fix):
            if (builder.get("options") or {}).get("version_compatible"):
                # such an engine brings a runtime along; its hash is the manifest's, so it is the one built
                runtime.engine_host_code_allowed = True
            engine = runtime.deserialize_cuda_engine(model.path.read_bytes())
            if engine is None:
                raise EdgefelError(f"{what} ({'; '.join(messages.errors) or 'it gives no reason'}); {fix}")
            binding = read_binding(trt, engine, str(model.path))
            check_binding(binding, model)
            return binding, ContextFactory(trt, engine, model.file.sha256), logger
