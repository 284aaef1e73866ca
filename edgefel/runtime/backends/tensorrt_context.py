"""Execution contexts: how each package makes them, and one per batch size with its CUDA graph.

A CUDA graph belongs to the state of the context that it was captured from, and another shape changes that state, so
each batch size has a context of its own. They share one block of scratch memory, as one runs at a time.
Source: TensorRT developer guide, "CUDA Graphs".
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

from edgefel.errors import EdgefelError
from edgefel.files.cache import cache_folder
from edgefel.files.write import atomic_file
from edgefel.runtime.backends.cuda import CaptureRefused, Graph, GraphDriver
from edgefel.runtime.backends.tensorrt_binding import Binding
from edgefel.text import counted


class ContextFactory:
    """Makes execution contexts of an engine that use scratch memory from outside.

    TensorRT for RTX compiles its kernels for this GPU when a context first runs them; what it compiled is kept in
    the cache folder under `key`, by `save`. It captures CUDA graphs by itself, once kernels for a shape are there.
    """

    def __init__(self, trt: ModuleType, engine: Any, key: str) -> None:
        self._engine: Any = engine
        self._file: Path | None = None
        self._cache: Any = None
        strategy = trt.ExecutionContextAllocationStrategy.USER_MANAGED
        self._how: Any = strategy
        self.captures_itself = False
        if trt.__name__ == "tensorrt_rtx":
            self._how = engine.create_runtime_config()
            self._how.set_execution_context_allocation_strategy(strategy)
            if hasattr(trt, "CudaGraphStrategy"):  # since 1.2
                self._how.cuda_graph_strategy = trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
                self.captures_itself = True
            self._load_kernels(trt, key)

    @property
    def scratch_bytes(self) -> int:
        """Scratch memory that a context may take, over all profiles."""
        # without the suffix it is gone in TensorRT 11
        return int(self._engine.device_memory_size_v2)

    def create(self, scratch: int, size: int) -> Any:
        """A context with that scratch memory, or None."""
        context = self._engine.create_execution_context(self._how)
        if context is not None:
            context.set_device_memory(scratch, size)
        return context

    def _load_kernels(self, trt: ModuleType, key: str) -> None:
        if not hasattr(self._how, "create_runtime_cache"):
            return
        self._cache = self._how.create_runtime_cache()
        # what cannot be kept or read is compiled again; running comes first
        with suppress(EdgefelError, OSError):
            self._file = cache_folder("rtx-kernels") / f"{key}-{trt.__version__}.bin"
            if self._file.is_file():
                self._cache.deserialize(self._file.read_bytes())
        self._how.set_runtime_cache(self._cache)

    def save(self) -> None:
        """Keeps the compiled kernels for the next start."""
        if self._cache is None or self._file is None:
            return
        with suppress(OSError):
            data = bytes(memoryview(self._cache.serialize()))
            if not self._file.is_file() or self._file.stat().st_size != len(data):
                with atomic_file(self._file) as temporary:
                    temporary.write_bytes(data)

    def free(self) -> None:
        """Releases the engine, after its contexts were freed."""
        self._engine = self._how = self._cache = None


class BatchContext:
    """An execution context for one batch size under one profile, bound to its buffers. For use inside
    `CudaDevice.current()`, by one call at a time. graph: the captured work, None before."""

    def __init__(
        self,
        context: Any,
        binding: Binding,
        profile: int,
        size: int,
        addresses: Mapping[str, int],
        stream: Any,
        where: str,
    ) -> None:
        """Sets profile, shapes and addresses. Raises EdgefelError for what TensorRT refuses, or an output shape
        that is not [size, ...]."""
        self._context, self._where = context, where
        self.graph: Graph | None = None
        if context.active_optimization_profile != profile:
            accepted = context.set_optimization_profile_async(profile, stream.handle)
            self._need(accepted, f"optimization profile {profile}")
            stream.synchronize()
        for spec in binding.inputs:
            accepted = context.set_input_shape(spec.name, (size, *spec.shape))
            self._need(accepted, f"{counted(size, 'image')} of {spec.name}")
        for name, address in addresses.items():
            self._need(context.set_tensor_address(name, address), f"the address of {name}")
        if missing := context.infer_shapes():
            raise EdgefelError(
                f"{where}: TensorRT cannot tell the shapes; {', '.join(missing)} are not given"
            )
        for spec in binding.outputs:
            found = tuple(context.get_tensor_shape(spec.name))
            if found != (size, *spec.shape):
                raise EdgefelError(
                    f"{where}: output {spec.name} is {list(found)} for {counted(size, 'image')}, expected "
                    f"{[size, *spec.shape]}; build the engine anew with 'edgefel engine DIR --rebuild'"
                )

    def enqueue(self, stream: Any) -> None:
        """Starts the work on the stream: the graph where there is one."""
        if self.graph is None:
            self._need(self._context.execute_async_v3(stream.handle), "to run")
        elif (result := self.graph.launch(stream.handle)) != 0:
            raise EdgefelError(f"{self._where}: the CUDA graph does not run (CUDA error {result})")

    def capture(self, driver: GraphDriver, stream: Any) -> None:
        """Captures the work as a graph, which `enqueue` uses from now on. To be called when the work has run once:
        the first run may allocate, which a graph must not. Raises CaptureRefused, after which
        `enqueue` goes on as before."""

        def work() -> None:
            if not self._context.execute_async_v3(stream.handle):
                raise CaptureRefused("TensorRT refuses to run while the stream is captured")

        self.graph = driver.capture(stream.handle, work)

    def free(self) -> None:
        """Frees graph and context."""
        if self.graph is not None:
            self.graph.destroy()
        self.graph = self._context = None

    def _need(self, accepted: bool, what: str) -> None:
        if not accepted:
            raise EdgefelError(f"{self._where}: TensorRT refuses {what}")
