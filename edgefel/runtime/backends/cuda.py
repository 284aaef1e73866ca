"""CUDA memory through pycuda, in the device's primary context, and CUDA graphs, which pycuda does not support.

No context is created (unlike `pycuda.autoinit`): torch, TensorRT and other sessions share the primary context, which
the driver reference-counts. It is current only inside `CudaDevice.current()`, which may be entered on any thread and
restores the previous context.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy as np

from edgefel.errors import EdgefelError
from edgefel.runtime.backends.base import Array
from edgefel.runtime.backends.tensorrt_binding import TensorSpec
from edgefel.text import one_line

# CU_STREAM_CAPTURE_MODE_THREAD_LOCAL of cuda.h: what other threads do meanwhile, such as another session's
# allocations, does not spoil the capture
_THREAD_LOCAL = 1
_HANDLE, _OUT = ctypes.c_void_p, ctypes.POINTER(ctypes.c_void_p)
_CALLS = {
    "cuStreamBeginCapture_v2": (_HANDLE, ctypes.c_int),
    "cuStreamEndCapture": (_HANDLE, _OUT),
    "cuGraphInstantiateWithFlags": (_OUT, _HANDLE, ctypes.c_ulonglong),
    "cuGraphLaunch": (_HANDLE, _HANDLE),
    "cuGraphExecDestroy": (_HANDLE,),
    "cuGraphDestroy": (_HANDLE,),
}
_PYCUDA = "pip install 'edgefel[jetson]', which compiles it: CUDA's nvcc must be on the PATH"


@functools.cache
def import_pycuda() -> ModuleType:
    """`pycuda.driver`, initialised; raises EdgefelError where it is missing or does not load."""
    try:
        cuda = importlib.import_module("pycuda.driver")
    except ModuleNotFoundError:
        raise EdgefelError(f"pycuda is not installed; run: {_PYCUDA}") from None
    except Exception as error:  # ImportError or OSError of its libraries, others of an incompatible NumPy
        raise EdgefelError(
            f"pycuda does not load ({one_line(error)}); it was compiled for another CUDA or Python; run: "
            "pip install --no-cache-dir --force-reinstall --no-binary pycuda pycuda"
        ) from error
    try:
        cuda.init()
    except Exception as error:
        raise EdgefelError(
            f"the CUDA driver does not start ({one_line(error)}); check it with nvidia-smi"
        ) from error
    return cuda


def load_libcuda() -> Any:
    """The driver's own library, for what pycuda does not wrap; raises EdgefelError without it."""
    try:
        return ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        raise EdgefelError(f"the CUDA driver's library does not load ({one_line(error)})") from error


class CudaDevice:
    """A GPU and a hold on its primary context, until `release`.

    unified: CPU and GPU share the memory, as on a Jetson, so that the GPU reads and writes pinned memory in place.
    """

    def __init__(self, cuda: ModuleType, libcuda: Any, ordinal: int = 0) -> None:
        """Raises EdgefelError for a GPU that cannot be opened."""
        self.cuda = cuda
        self.libcuda = libcuda
        try:
            device = cuda.Device(ordinal)
            attribute = cuda.device_attribute
            self.unified = bool(
                device.get_attribute(attribute.INTEGRATED)
                and device.get_attribute(attribute.CAN_MAP_HOST_MEMORY)
            )
            self._context: Any = device.retain_primary_context()
        except cuda.Error as error:
            raise EdgefelError(
                f"the GPU cannot be opened ({one_line(error)}); check it with nvidia-smi"
            ) from error

    @property
    def closed(self) -> bool:
        """Whether it was released."""
        return self._context is None

    @contextmanager
    def current(self) -> Iterator[None]:
        """The primary context is current on this thread while the block runs."""
        self._context.push()
        try:
            yield
        finally:
            self.cuda.Context.pop()

    def release(self) -> None:
        """Releases the primary context; a second call does nothing."""
        context, self._context = self._context, None
        if context is None:
            return
        outer = self.cuda.Context.get_current()
        context.push()
        # pycuda releases only a context that is current, or on the thread that retained it. It then takes it
        # off its own stack, puts the outer one back, and leaves it on the driver's stack: "unlike cuCtxDestroy()
        # this does not pop the context" (CUDA driver API, cuDevicePrimaryCtxRelease).
        context.detach()
        if outer is None:
            self._pop()
        else:
            above = self._pop()
            self._pop()
            self.libcuda.cuCtxPushCurrent_v2(above)

    def _pop(self) -> ctypes.c_void_p:
        popped = ctypes.c_void_p()
        self.libcuda.cuCtxPopCurrent_v2(ctypes.byref(popped))
        return popped


class Buffer:
    """Pinned host memory of a tensor for up to `batch` images, and device memory beside it unless that is unified.

    host: [batch, ...] of the tensor's type. address: what the GPU knows it by. Both stay where they are, since a
    CUDA graph holds the address. For use inside `CudaDevice.current()`.
    """

    def __init__(self, device: CudaDevice, spec: TensorSpec, batch: int) -> None:
        cuda = device.cuda
        self._cuda = cuda
        flags = cuda.host_alloc_flags.DEVICEMAP if device.unified else 0
        self.host: Array = cuda.pagelocked_empty((batch, *spec.shape), spec.dtype, mem_flags=flags)
        self._device: Any = None
        try:
            if device.unified:
                pinned: Any = self.host.base
                self.address = int(pinned.get_device_pointer())
            else:
                self._device = cuda.mem_alloc(self.host.nbytes)
                self.address = int(self._device)
        except cuda.Error:
            self.free()
            raise

    def fill(self, images: Array, size: int) -> None:
        """Copies images into the pinned memory, padded with zeros to `size` images."""
        self.host[: len(images)] = images
        self.host[len(images) : size] = 0

    def upload(self, size: int, stream: Any) -> None:
        """Starts the copy of the first `size` images to the GPU."""
        if self._device is not None:
            self._cuda.memcpy_htod_async(self._device, self.host[:size], stream)

    def download(self, size: int, stream: Any) -> None:
        """Starts the copy of the first `size` images' values to the host."""
        if self._device is not None:
            self._cuda.memcpy_dtoh_async(self.host[:size], self._device, stream)

    def values(self, count: int) -> Array:
        """A copy of the first `count` images' values, once their download is done."""
        return np.array(self.host[:count])

    def free(self) -> None:
        """Frees both; a second call does nothing."""
        if self._device is not None:
            self._device.free()
            self._device = None
        pinned: Any = self.host.base
        if pinned is not None:
            self.host = np.empty(0, self.host.dtype)
            pinned.free()


class CaptureRefused(Exception):
    """The work cannot be captured; the stream is usable as before."""


class GraphDriver:
    """The driver's calls for graphs. Raises CaptureRefused at construction where the driver is too old for them
    (before CUDA 11.4)."""

    def __init__(self, libcuda: Any) -> None:
        self._libcuda = libcuda
        for name, arguments in _CALLS.items():
            try:
                call = getattr(libcuda, name)
            except AttributeError:
                raise CaptureRefused(f"the CUDA driver has no {name}") from None
            call.argtypes, call.restype = arguments, ctypes.c_int

    def capture(self, stream: int, work: Callable[[], None]) -> Graph:
        """The graph of what `work` puts on the stream, which is recorded and not run.

        stream: its handle. For use inside `CudaDevice.current()`, and ends on the thread that began. Raises
        CaptureRefused; what `work` raises itself passes through, after the capture has ended.
        """
        self._check("cuStreamBeginCapture_v2", stream, _THREAD_LOCAL)
        graph, executable = ctypes.c_void_p(), ctypes.c_void_p()
        try:
            try:
                work()
            except BaseException:
                # left open, the capture would swallow everything that the stream is given from now on
                self._libcuda.cuStreamEndCapture(stream, ctypes.byref(graph))
                raise
            self._check("cuStreamEndCapture", stream, ctypes.byref(graph))
            self._check("cuGraphInstantiateWithFlags", ctypes.byref(executable), graph, 0)
        finally:
            if graph.value:
                self._libcuda.cuGraphDestroy(graph)
        return Graph(self._libcuda, executable)

    def _check(self, name: str, *arguments: Any) -> None:
        if (result := getattr(self._libcuda, name)(*arguments)) != 0:
            raise CaptureRefused(f"{name} returned CUDA error {result}")


class Graph:
    """An executable graph. It holds the addresses that the work used."""

    def __init__(self, libcuda: Any, executable: ctypes.c_void_p) -> None:
        self._libcuda, self._executable = libcuda, executable

    def launch(self, stream: int) -> int:
        """Puts the graph on the stream; returns the driver's result, 0 for success."""
        return int(self._libcuda.cuGraphLaunch(self._executable, stream))

    def destroy(self) -> None:
        """Frees it; to be called once."""
        self._libcuda.cuGraphExecDestroy(self._executable)
