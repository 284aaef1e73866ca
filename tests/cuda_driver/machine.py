"""A GPU with its driver, for tests: real pycuda over the C driver of this folder."""

from __future__ import annotations

import ctypes
import gc
import importlib
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from cuda_driver import real_pycuda

_CALLBACK = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
# bytes of device memory: address, size, and whether the work writes it
Range = tuple[int, int, bool]


class Launch(ctypes.Structure):
    """A kernel's launch as the driver was told it; `launch` of driver.c."""

    _fields_ = (
        ("name", ctypes.c_char * 256),
        ("grid", ctypes.c_uint * 3),
        ("block", ctypes.c_uint * 3),
        ("shared", ctypes.c_uint),
        ("bytes", ctypes.c_int),
        ("arguments", ctypes.c_uint64 * 64),
        ("stream", ctypes.c_void_p),
        ("count", ctypes.c_int),
    )


def load(library: Path) -> ctypes.CDLL:
    """The driver; where pycuda is loaded later, it finds this one by its name."""
    driver = ctypes.CDLL(str(library))
    handle, number, size = ctypes.c_void_p, ctypes.c_uint64, ctypes.c_size_t
    for name, result, *arguments in (
        ("start", None, ctypes.c_long, ctypes.c_long, ctypes.c_long),
        ("reports", None, ctypes.c_char_p, size),
        ("fail", None, ctypes.c_char_p, ctypes.c_int),
        ("calls", ctypes.c_long, ctypes.c_char_p),
        ("live", ctypes.c_long, ctypes.c_char_p),
        ("stack", handle, ctypes.c_int),
        ("host", handle, number, size),
        ("kernel", ctypes.c_int, handle, _CALLBACK, handle, ctypes.c_int, handle, handle, handle),
        ("launched", None, ctypes.POINTER(Launch)),
    ):
        function = getattr(driver, f"testcuda_{name}")
        function.restype, function.argtypes = result, arguments
    return driver


def load_pycuda(driver: ctypes.CDLL) -> dict[str, ModuleType]:
    """pycuda's modules by name, over that driver; they do not stay in sys.modules. Raises ImportError where pycuda was
    not compiled."""
    root = real_pycuda.toolkit()
    folder = root and real_pycuda.folder(root)
    if folder is None or not folder.is_dir():
        raise ImportError("needs pycuda; compile it once with: python tests/cuda_driver/real_pycuda.py")
    others = _take_pycuda()  # one that is installed drives a real GPU
    sys.path.insert(0, str(folder))
    try:
        importlib.import_module("pycuda.driver")
        importlib.import_module("pycuda._pvt_struct")
        return _take_pycuda()
    finally:
        sys.path.remove(str(folder))
        sys.modules.update(others)


def _take_pycuda() -> dict[str, ModuleType]:
    """pycuda's modules, out of sys.modules."""
    names = [name for name in sys.modules if name.partition(".")[0] == "pycuda"]
    return {name: sys.modules.pop(name) for name in names}


class Machine:
    """The GPU and its driver from now on; those before are forgotten. unified: a Jetson. capacity: bytes of device
    memory. graphs: whether the driver is new enough for them. arch: 87 for compute capability 8.7."""

    def __init__(
        self,
        driver: ctypes.CDLL,
        modules: dict[str, ModuleType],
        *,
        unified: bool = False,
        capacity: int = 1 << 30,
        graphs: bool = True,
        arch: int = 87,
    ) -> None:
        self.driver, self.modules = driver, modules
        self.cuda = modules["pycuda.driver"]
        self.libcuda: Any = driver if graphs else _Without(driver, "Graph", "Capture")
        # what a graph calls must live as long as it
        self._callbacks: list[Any] = []
        self._failed: list[BaseException] = []
        # what tests/fake_tensorrt.py is told and tells
        self.fails, self.refuses_capture, self.enqueued = False, False, 0
        driver.testcuda_start(unified, capacity, arch)

    def live(self, what: str) -> int:
        """How many there are of what `testcuda_live` names."""
        return int(self.driver.testcuda_live(what.encode()))

    def calls(self, name: str) -> int:
        """How often a function of the driver was called."""
        return int(self.driver.testcuda_calls(name.encode()))

    def fail(self, name: str, error: int) -> None:
        """A function of the driver returns this error from now on."""
        self.driver.testcuda_fail(name.encode(), error)

    def reports(self) -> list[str]:
        """What was wrong since the last time somebody asked."""
        buffer = ctypes.create_string_buffer(1 << 16)
        self.driver.testcuda_reports(buffer, len(buffer))
        return buffer.value.decode().splitlines()

    @property
    def contexts(self) -> list[int]:
        """This thread's stack of contexts, as the driver has it."""
        found = (self.driver.testcuda_stack(index) for index in range(64))
        return [handle for handle in found if handle is not None]

    def need_context(self) -> None:
        assert self.contexts, "no context is current on this thread"

    def is_capturing(self, stream: int) -> bool:
        status = ctypes.c_int()
        assert self.driver.cuStreamIsCapturing(ctypes.c_void_p(stream), ctypes.byref(status)) == 0
        return status.value != 0

    def find(self, address: int, size: int) -> np.ndarray:
        """The bytes at a device address."""
        host = self.driver.testcuda_host(address, size)
        assert host is not None, f"{size} bytes at {address:#x} are not of memory that is in use"
        return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(host))

    def launch(self, stream: int, work: Callable[[], object], ranges: Sequence[Range] = ()) -> None:
        """Puts work on a stream as a kernel that touches these ranges, or into the graph that is captured."""

        def run(_: object) -> None:
            try:
                work()
            except BaseException as error:
                self._failed.append(error)

        callback = _CALLBACK(run)
        self._callbacks.append(callback)
        count = len(ranges)
        addresses, sizes, writes = zip(*ranges, strict=True) if ranges else ((), (), ())
        result = self.driver.testcuda_kernel(
            stream,
            callback,
            None,
            count,
            (ctypes.c_uint64 * count)(*addresses),
            (ctypes.c_size_t * count)(*sizes),
            (ctypes.c_int * count)(*writes),
        )
        if result:
            raise self.cuda.Error(f"the launch failed: CUDA error {result}")

    def launched(self) -> Launch:
        """The last launch of a kernel from a cubin, with the number of all."""
        last = Launch()
        self.driver.testcuda_launched(ctypes.byref(last))
        return last

    @contextmanager
    def primary_current(self) -> Iterator[int]:
        """The primary context is current on this thread without pycuda's knowledge, as torch keeps it; gives its
        handle."""
        context = ctypes.c_void_p()
        assert self.driver.cuInit(0) == 0
        assert self.driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0) == 0
        assert self.driver.cuCtxPushCurrent_v2(context) == 0
        assert context.value is not None
        try:
            yield context.value
        finally:
            self.driver.cuCtxPopCurrent_v2(ctypes.byref(context))
            self.driver.cuDevicePrimaryCtxRelease_v2(0)

    def close(self) -> None:
        """Ends the test: whatever was wrong, or is left, fails it."""
        if self._left():
            gc.collect()  # what only a traceback held
        contexts, current = self.contexts, self.cuda.Context.get_current()
        while (
            self.cuda.Context.get_current() is not None
        ):  # pycuda ends the process for one that a thread leaves
            self.cuda.Context.pop()
        for error in self._failed:
            raise error
        wrong = [*self.reports(), *self._left(), *(f"context {handle:#x} is current" for handle in contexts)]
        assert not wrong, "\n".join(wrong)
        assert current is None

    def _left(self) -> list[str]:
        kinds = ("device", "pinned", "execs", "graphs", "retained")
        return [f"{number} {kind} left" for kind in kinds if (number := self.live(kind))]


class _Without:
    """A driver that lacks functions."""

    def __init__(self, driver: ctypes.CDLL, *parts: str) -> None:
        self._driver, self._parts = driver, parts

    def __getattr__(self, name: str) -> Any:
        if any(part in name for part in self._parts):
            raise AttributeError(name)
        return getattr(self._driver, name)
