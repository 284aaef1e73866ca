"""Launches compiled kernels on torch's CUDA context by the driver's C interface: no other package is needed."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

from edgefel.runtime.kernels import KernelFile

# CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, and what needs no such permission
_MOST_SHARED, _FREE_SHARED = 8, 48 * 1024


def load_driver() -> Any:
    """libcuda, which a GPU's driver brings along."""
    return ctypes.CDLL("libcuda.so.1")


def launch(file: KernelFile, batch: int, pointers: Sequence[int], stream: int, driver: Any) -> None:
    """Runs one kernel on `stream` of the current context and waits for it. Raises RuntimeError with the driver's number
    for what fails."""

    def call(name: str, *arguments: Any) -> None:
        if (result := getattr(driver, name)(*arguments)) != 0:
            raise RuntimeError(f"{name}: CUDA error {result}")

    module, function = ctypes.c_void_p(), ctypes.c_void_p()
    call("cuModuleLoadData", ctypes.byref(module), file.cubin.read_bytes())
    try:
        call("cuModuleGetFunction", ctypes.byref(function), module, file.entry.encode())
        if file.shared > _FREE_SHARED:
            call("cuFuncSetAttribute", function, _MOST_SHARED, file.shared)
        values = [ctypes.c_uint64(int(address)) for address in file.pack(pointers)]
        parameters = (ctypes.c_void_p * len(values))(*(ctypes.addressof(value) for value in values))
        sizes = (*file.grid(batch), file.threads, 1, 1, file.shared)
        call("cuLaunchKernel", function, *sizes, ctypes.c_void_p(stream), parameters, None)
        call("cuStreamSynchronize", ctypes.c_void_p(stream))
    finally:
        call("cuModuleUnload", module)
