"""Captures and replays CUDA graphs through the driver library, since pycuda does not support them."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

_SUCCESS = 0
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

        stream: its handle. For use inside `Device.current()`, and ends on the thread that began. Raises
        CaptureRefused; what `work` raises itself passes through, after the capture has ended.
        """
        self._check("cuStreamBeginCapture_v2", stream, _THREAD_LOCAL)
        graph = ctypes.c_void_p()
        try:
            work()
        except BaseException:
            # left open, the capture would swallow everything that the stream is given from now on
            self._libcuda.cuStreamEndCapture(stream, ctypes.byref(graph))
            self._destroy(graph)
            raise
        self._check("cuStreamEndCapture", stream, ctypes.byref(graph))
        executable = ctypes.c_void_p()
        try:
            self._check("cuGraphInstantiateWithFlags", ctypes.byref(executable), graph, 0)
        finally:
            self._destroy(graph)
        return Graph(self, executable)

    def call(self, name: str, *arguments: Any) -> int:
        """The driver's result of a call."""
        return int(getattr(self._libcuda, name)(*arguments))

    def _check(self, name: str, *arguments: Any) -> None:
        result = self.call(name, *arguments)
        if result != _SUCCESS:
            raise CaptureRefused(f"{name} returned CUDA error {result}")

    def _destroy(self, graph: ctypes.c_void_p) -> None:
        if graph.value:
            self._libcuda.cuGraphDestroy(graph)


class Graph:
    """An executable graph. It holds the addresses that the work used."""

    def __init__(self, driver: GraphDriver, executable: ctypes.c_void_p) -> None:
        self._driver = driver
        self._executable: ctypes.c_void_p | None = executable

    def launch(self, stream: int) -> int:
        """Puts the graph on the stream; returns the driver's result, 0 for success."""
        return self._driver.call("cuGraphLaunch", self._executable, stream)

    def destroy(self) -> None:
        """Frees it; a second call does nothing."""
        executable, self._executable = self._executable, None
        if executable is not None:
            self._driver.call("cuGraphExecDestroy", executable)
