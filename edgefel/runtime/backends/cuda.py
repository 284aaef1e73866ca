"""CUDA memory, streams and events through pycuda, in the device's primary context.

No context is created (unlike `pycuda.autoinit`): torch, TensorRT and other sessions share the primary context, which
the driver reference-counts. It is current only inside `CudaDevice.current()`, which may be entered on any thread and
restores the previous context.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy as np

from edgefel.errors import EdgefelError
from edgefel.runtime.backends.base import Array
from edgefel.runtime.backends.tensorrt_binding import TensorSpec
from edgefel.text import one_line

# CU_STREAM_NON_BLOCKING of cuda.h, which pycuda does not name
_NON_BLOCKING = 1
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

    def stream(self) -> Any:
        """A new stream that does not wait for the default one, nor that for it.

        While a stream that does is captured, the default stream is unusable in the whole process, and torch works
        on it. Source: CUDA driver API, cuStreamIsCapturing. TensorRT synchronises too often on the default one.
        """
        return self.cuda.Stream(_NON_BLOCKING)

    def event(self) -> Any:
        """An event with a time; waiting for it leaves the CPU core to other threads."""
        return self.cuda.Event(self.cuda.event_flags.BLOCKING_SYNC)

    def scratch(self, size: int) -> Any:
        """`size` bytes of device memory, aligned to 256."""
        return self.cuda.mem_alloc(max(size, 1))

    def buffer(self, spec: TensorSpec, batch: int) -> Buffer:
        """Memory for up to `batch` images' part of a tensor."""
        return Buffer(self, spec, batch)


class Buffer:
    """Pinned host memory of one tensor, and device memory beside it unless the memory is unified.

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
