"""A stand-in for pycuda and libcuda in host memory; `fake_tensorrt` has the engines that run on it.

It follows their documented behaviour where the backend depends on it: contexts are a stack per thread, work on a stream
happens when it is waited for and not before, freed or foreign memory cannot be used, a captured stream records.
What it does not prove: that real pycuda, drivers and engines behave so; that is for tests/gpu.
"""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from types import ModuleType, SimpleNamespace

import numpy as np

BASE = 1 << 40


class Error(Exception):
    """pycuda's own."""


class MemoryError_(Error):
    """pycuda's out of memory."""


class Machine:
    """The GPU and its driver. unified: a Jetson. capacity: bytes of device memory."""

    def __init__(self, *, unified: bool = False, capacity: int = 1 << 30, graphs: bool = True) -> None:
        self.unified, self.capacity = unified, capacity
        self.refuse_capture = False
        self.calls: Counter[str] = Counter()
        self.log: list[str] = []
        self.retained = 0
        self.memory: dict[int, np.ndarray] = {}
        self.pinned: dict[int, Pinned] = {}
        self.streams: dict[int, Stream] = {}
        self.graphs: dict[int, list] = {}
        self.numbers = itertools.count(1)
        self.local = threading.local()
        self.cuda = self._pycuda()
        self.libcuda = self._libcuda(graphs)

    @property
    def driver_stack(self) -> list:
        """Contexts of this thread, as the driver has them."""
        return self.local.__dict__.setdefault("driver", [])

    @property
    def pycuda_stack(self) -> list:
        return self.local.__dict__.setdefault("pycuda", [])

    def need_context(self) -> None:
        if not self.driver_stack or self.driver_stack[-1] != "primary":
            raise Error("no currently active context?")
        assert self.retained > 0, "the primary context was used after it was released"

    def find(self, address: int, size: int) -> np.ndarray:
        """The bytes at an address."""
        for start, block in self.memory.items():
            if start <= address and address + size <= start + block.nbytes:
                return block[address - start : address - start + size]
        for start, pinned in self.pinned.items():
            if start == address and self.unified:
                return pinned.array.reshape(-1).view(np.uint8)[:size]
        raise AssertionError(f"address {address:#x} is not of memory that is in use")

    def allocate(self, size: int) -> int:
        self.need_context()
        if sum(block.nbytes for block in self.memory.values()) + size > self.capacity:
            raise MemoryError_("cuMemAlloc failed: out of memory")
        address = BASE + next(self.numbers) * (1 << 28)
        self.memory[address] = np.full(size, 0xCD, np.uint8)
        return address

    def _pycuda(self) -> ModuleType:
        machine = self
        module = ModuleType("pycuda.driver")
        module.Error = Error
        module.init = lambda: None
        module.device_attribute = SimpleNamespace(INTEGRATED=18, CAN_MAP_HOST_MEMORY=19)
        module.host_alloc_flags = SimpleNamespace(DEVICEMAP=2)
        module.event_flags = SimpleNamespace(BLOCKING_SYNC=1)
        module.Device = lambda ordinal: SimpleNamespace(
            get_attribute=lambda number: int(machine.unified), retain_primary_context=lambda: Context(machine)
        )
        module.Context = SimpleNamespace(pop=machine.pop, get_current=machine.get_current)
        module.Stream = lambda flags=0: Stream(machine, flags)
        module.Event = lambda flags: Event(machine)
        module.mem_alloc = lambda size: Allocation(machine, size)
        module.pagelocked_empty = machine.pagelocked_empty
        module.memcpy_htod_async = lambda to, host, stream: stream.add(machine.copy_in(to, host))
        module.memcpy_dtoh_async = lambda host, of, stream: stream.add(machine.copy_out(host, of))
        return module

    def get_current(self):
        return self.pycuda_stack[-1] if self.pycuda_stack else None

    def pop(self) -> None:
        """As pycuda: it keeps all but the top of its own stack off the driver's."""
        self.pycuda_stack.pop()
        self.driver_stack.pop()
        if self.pycuda_stack:
            self.driver_stack.append(self.pycuda_stack[-1].handle)

    def pagelocked_empty(self, shape, dtype, mem_flags):
        self.need_context()
        assert bool(mem_flags) == self.unified
        pinned = Pinned(self, shape, np.dtype(dtype))
        return np.asarray(pinned)

    def copy_in(self, to, host):
        return lambda: self.find(int(to), host.nbytes).__setitem__(
            slice(None), host.reshape(-1).view(np.uint8)
        )

    def copy_out(self, host, of):
        return lambda: np.copyto(host.reshape(-1).view(np.uint8), self.find(int(of), host.nbytes))

    def _libcuda(self, graphs: bool) -> SimpleNamespace:
        calls = {"cuCtxPopCurrent_v2": self._ctx_pop, "cuCtxPushCurrent_v2": self._ctx_push}
        if graphs:
            calls |= {
                "cuStreamBeginCapture_v2": self._begin,
                "cuStreamEndCapture": self._end,
                "cuGraphInstantiateWithFlags": self._instantiate,
                "cuGraphLaunch": self._launch,
                "cuGraphExecDestroy": self._destroy,
                "cuGraphDestroy": self._destroy,
            }
        return SimpleNamespace(**{name: Call(self, name, call) for name, call in calls.items()})

    def _ctx_pop(self, out) -> int:
        # handles are numbers to ctypes
        out._obj.value = 7 if self.driver_stack.pop() == "primary" else 8
        return 0

    def _ctx_push(self, context) -> int:
        self.driver_stack.append({7: "primary", 8: "foreign"}[context.value])
        return 0

    def _begin(self, stream, mode) -> int:
        assert mode == 1, "only a thread-local capture is safe beside other sessions"
        assert self.streams[stream].non_blocking, "torch could not use the default stream meanwhile"
        if self.refuse_capture == "begin":
            return 900
        self.streams[stream].captured = []
        return 0

    def _end(self, stream, out) -> int:
        work, self.streams[stream].captured = self.streams[stream].captured, None
        if self.refuse_capture == "end":
            return 901
        out._obj.value = self._keep(work)
        return 0

    def _instantiate(self, out, graph, flags) -> int:
        if self.refuse_capture == "instantiate":
            return 801
        out._obj.value = self._keep(self.graphs[graph.value])
        return 0

    def _launch(self, graph, stream) -> int:
        for work in self.graphs[graph.value]:
            self.streams[stream].add(work)
        return 0

    def _destroy(self, graph) -> int:
        del self.graphs[graph.value]
        return 0

    def _keep(self, work) -> int:
        number = next(self.numbers)
        self.graphs[number] = work
        return number


class Call:
    """A function of a ctypes library: its argument types can be set."""

    def __init__(self, machine: Machine, name: str, function) -> None:
        self.machine, self.name, self.function = machine, name, function

    def __call__(self, *arguments) -> int:
        if not self.name.startswith("cuCtx"):
            self.machine.need_context()
        self.machine.calls[self.name] += 1
        return self.function(*arguments)


class Context:
    """pycuda's wrapper of the primary context."""

    handle = "primary"

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.thread = threading.get_ident()
        self.valid = True
        machine.retained += 1

    def push(self) -> None:
        assert self.valid
        if self.machine.pycuda_stack:
            self.machine.driver_stack.pop()
        self.machine.driver_stack.append(self.handle)
        self.machine.pycuda_stack.append(self)

    def detach(self) -> None:
        """Releases where it is current; the driver's stack keeps it."""
        machine = self.machine
        assert self.valid
        assert machine.pycuda_stack, "pycuda does not release a context that is not current"
        assert machine.pycuda_stack[-1] is self, "pycuda does not release a context that is not current"
        self.valid = False
        machine.retained -= 1
        machine.pycuda_stack.pop()
        if machine.pycuda_stack:
            machine.driver_stack.append(machine.pycuda_stack[-1].handle)


class Allocation:
    def __init__(self, machine: Machine, size: int) -> None:
        self.machine, self.address = machine, machine.allocate(size)

    def __int__(self) -> int:
        return self.address

    def free(self) -> None:
        self.machine.need_context()
        del self.machine.memory[self.address]


class Pinned:
    """Pinned memory; NumPy arrays over it have it as their base, as pycuda's have."""

    def __init__(self, machine: Machine, shape, dtype) -> None:
        self.machine = machine
        self.array = np.full(int(np.prod(shape)) * dtype.itemsize, 0xCD, np.uint8).view(dtype).reshape(shape)
        self.address = BASE + next(machine.numbers) * (1 << 28)
        machine.pinned[self.address] = self

    @property
    def __array_interface__(self) -> dict:
        return self.array.__array_interface__

    def get_device_pointer(self) -> int:
        assert self.machine.unified
        return self.address

    def free(self) -> None:
        self.machine.need_context()
        del self.machine.pinned[self.address]


class Stream:
    """Work that is done when someone waits."""

    def __init__(self, machine: Machine, flags: int) -> None:
        machine.need_context()
        self.machine, self.handle = machine, next(machine.numbers)
        self.non_blocking = flags == 1
        self.waiting: list = []
        self.captured: list | None = None
        machine.streams[self.handle] = self

    def add(self, work) -> None:
        self.machine.need_context()
        (self.waiting if self.captured is None else self.captured).append(work)

    def synchronize(self) -> None:
        assert self.captured is None, "a stream that is captured cannot be waited for"
        waiting, self.waiting = self.waiting, []
        for work in waiting:
            work()


class Event:
    """A point in a stream; each is a millisecond after the one before."""

    clock = itertools.count()

    def __init__(self, machine: Machine) -> None:
        machine.need_context()
        self.time: int | None = None
        self.stream: Stream | None = None

    def record(self, stream: Stream) -> None:
        self.stream, self.time = stream, None
        stream.add(lambda: setattr(self, "time", next(self.clock)))

    def synchronize(self) -> None:
        self.stream.synchronize()

    def time_till(self, other: Event) -> float:
        return float(other.time - self.time)
