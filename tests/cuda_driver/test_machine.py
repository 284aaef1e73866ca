"""The driver in host memory notices what a GPU might let pass."""

from __future__ import annotations

import ctypes
import threading

import numpy as np
import pytest

THREAD_LOCAL, NON_BLOCKING = 1, 1


class Gpu:
    """pycuda on a machine, in its primary context."""

    def __init__(self, machine) -> None:
        self.machine, self.cuda, self.driver = machine, machine.cuda, machine.driver
        self.cuda.init()
        self.context = self.cuda.Device(0).retain_primary_context()
        self.context.push()

    def end(self) -> None:
        self.context.detach()
        self.driver.cuCtxPopCurrent_v2(None)


@pytest.fixture
def gpu(make_machine):
    made = Gpu(make_machine())
    yield made
    if made.cuda.Context.get_current() is not None:
        made.end()


def pinned(gpu, value: int = 1) -> np.ndarray:
    host = gpu.cuda.pagelocked_empty(8, np.uint8)
    host[:] = value
    return host


def expect(gpu, *parts: str) -> None:
    reports = gpu.machine.reports()
    assert len(reports) == len(parts), reports
    for part, report in zip(parts, reports, strict=True):
        assert part in report


def test_streams_that_nothing_orders(gpu):
    memory, host = gpu.cuda.mem_alloc(8), pinned(gpu)
    first, second = gpu.cuda.Stream(NON_BLOCKING), gpu.cuda.Stream(NON_BLOCKING)
    gpu.cuda.memcpy_htod_async(memory, host, first)
    gpu.cuda.memcpy_dtoh_async(host, memory, second)
    expect(
        gpu, "race: 8 bytes of stream 2 are not ordered after a read on stream 1", "after a write on stream 1"
    )
    gpu.cuda.memcpy_htod_async(memory, host)  # the default stream does not wait for these either
    expect(gpu, *["of stream 0 are not ordered"] * 3)
    gpu.cuda.Context.synchronize()
    memory.free()


@pytest.mark.parametrize("how", ["event", "stream", "blocking"])
def test_streams_that_something_orders(gpu, how):
    memory, host = gpu.cuda.mem_alloc(8), pinned(gpu, 3)
    flags = 0 if how == "blocking" else NON_BLOCKING
    first, second = gpu.cuda.Stream(flags), gpu.cuda.Stream(NON_BLOCKING)
    gpu.cuda.memcpy_htod_async(memory, host, first)
    if how == "event":
        gpu.cuda.Event().record(first).synchronize()
    elif how == "stream":
        first.synchronize()
    back = pinned(gpu, 0)
    gpu.cuda.memcpy_dtoh_async(back, memory, None if how == "blocking" else second)
    gpu.cuda.Context.synchronize()
    assert (back == 3).all()
    memory.free()
    host.base.free()
    back.base.free()


def test_memory_that_was_freed(gpu):
    memory, host, stream = gpu.cuda.mem_alloc(8), pinned(gpu), gpu.cuda.Stream(NON_BLOCKING)
    address = int(memory)
    memory.free()
    with pytest.raises(gpu.cuda.LogicError):
        gpu.cuda.memcpy_htod_async(address, host, stream)
    expect(gpu, "are used after they were freed")
    host.base.free()
    gpu.machine.launch(stream.handle, lambda: None)
    with pytest.raises(gpu.cuda.Error):
        gpu.machine.launch(stream.handle, lambda: None, [(address, 8, True)])
    with pytest.raises(gpu.cuda.Error):  # as on a GPU, nothing works from then on
        gpu.cuda.Context.synchronize()
    gpu.end()
    expect(gpu, "are used after they were freed", "a stream was left")


def test_memory_that_is_freed_under_pending_work(gpu):
    memory, host, stream = gpu.cuda.mem_alloc(8), pinned(gpu), gpu.cuda.Stream(NON_BLOCKING)
    gpu.cuda.memcpy_htod_async(memory, host, stream)
    memory.free()
    expect(gpu, "cuMemFree_v2: 8 bytes are freed while work on them is pending")
    host.base.free()


def test_a_graph_that_outlives_its_memory(gpu):
    from edgefel.runtime.backends.cuda import GraphDriver

    memory, host, stream = gpu.cuda.mem_alloc(8), pinned(gpu), gpu.cuda.Stream(NON_BLOCKING)
    graph = GraphDriver(gpu.machine.libcuda).capture(
        stream.handle, lambda: gpu.cuda.memcpy_htod_async(memory, host, stream)
    )
    assert graph.launch(stream.handle) == 0
    stream.synchronize()
    memory.free()
    assert graph.launch(stream.handle) != 0
    graph.destroy()
    expect(gpu, "are used after they were freed")


def test_what_is_left_in_a_context(gpu):
    memory, host = gpu.cuda.mem_alloc(8), pinned(gpu)
    stream, event = gpu.cuda.Stream(NON_BLOCKING), gpu.cuda.Event()
    gpu.end()
    expect(gpu, "event was left", "stream was left", "8 bytes of pinned", "8 bytes of device")
    del memory, host, stream, event


def test_memory_that_is_not_pinned(gpu):
    memory, stream = gpu.cuda.mem_alloc(8), gpu.cuda.Stream(NON_BLOCKING)
    with pytest.raises(gpu.cuda.LogicError):
        gpu.cuda.memcpy_htod_async(memory, np.zeros(8, np.uint8), stream)
    expect(gpu, "are not memory of this driver")
    with pytest.raises(gpu.cuda.LogicError):
        pinned(gpu).base.get_device_pointer()
    expect(gpu, "not pinned with CU_MEMHOSTALLOC_DEVICEMAP")
    memory.free()


def test_times_between_streams(gpu):
    first, second = gpu.cuda.Stream(NON_BLOCKING), gpu.cuda.Stream(NON_BLOCKING)
    begin, end = gpu.cuda.Event().record(first), gpu.cuda.Event().record(second)
    gpu.cuda.Context.synchronize()
    end.time_since(begin)
    expect(gpu, "nothing orders the first event before the second")
    with pytest.raises(gpu.cuda.LogicError):
        end.time_since(gpu.cuda.Event())
    expect(gpu, "an event has no time")


def test_the_default_stream_during_the_capture_of_one_that_waits_for_it(gpu):
    memory, host, stream, graph = gpu.cuda.mem_alloc(8), pinned(gpu), gpu.cuda.Stream(), ctypes.c_void_p()
    handle = ctypes.c_void_p(stream.handle)
    assert gpu.driver.cuStreamBeginCapture_v2(handle, THREAD_LOCAL) == 0
    with pytest.raises(gpu.cuda.Error):
        gpu.cuda.memcpy_htod_async(memory, host)
    assert gpu.driver.cuStreamEndCapture(handle, ctypes.byref(graph)) == 901
    assert graph.value is None
    expect(gpu, "the default stream is used while one that waits for it is captured")
    memory.free()
    host.base.free()


def test_calls_during_a_capture(gpu):
    stream, event, graph = gpu.cuda.Stream(NON_BLOCKING), gpu.cuda.Event(), ctypes.c_void_p()
    handle, end = ctypes.c_void_p(stream.handle), gpu.driver.cuStreamEndCapture
    for call, message, ended in (
        (lambda: gpu.cuda.mem_alloc(8), "not allowed while a stream is captured", 901),
        (gpu.cuda.Context.synchronize, "not allowed while a stream is captured", 901),
        (stream.synchronize, "the stream is captured", 901),
        (lambda: event.record(stream), "during capture is not in this driver", 0),
    ):
        assert gpu.driver.cuStreamBeginCapture_v2(handle, THREAD_LOCAL) == 0
        with pytest.raises(gpu.cuda.Error):
            call()
        assert end(handle, ctypes.byref(graph)) == ended
        expect(gpu, message)
    gpu.driver.cuGraphDestroy(graph)
    assert gpu.driver.cuStreamBeginCapture_v2(handle, THREAD_LOCAL) == 0
    assert gpu.driver.cuStreamBeginCapture_v2(handle, THREAD_LOCAL) == 401
    results, context = [], ctypes.c_void_p(gpu.context.handle)

    def end_elsewhere():
        results.append(gpu.driver.cuCtxPushCurrent_v2(context))
        results.append(end(handle, ctypes.byref(graph)))

    thread = threading.Thread(target=end_elsewhere)
    thread.start()
    thread.join()
    assert results == [0, 908]
    expect(gpu, "captured already", "another thread began the capture")
    assert end(handle, ctypes.byref(graph)) == 0
    assert gpu.driver.cuGraphDestroy(graph) == 0
    assert end(handle, ctypes.byref(graph)) == 401
    expect(gpu, "the stream is not captured")


def test_memory_that_cannot_be(gpu):
    memory, host = gpu.cuda.mem_alloc(8), pinned(gpu)
    address, at = int(memory), ctypes.c_void_p(host.ctypes.data)
    assert gpu.driver.cuMemFree_v2(ctypes.c_uint64(address + 1)) == 1
    assert gpu.driver.cuMemFree_v2(ctypes.c_uint64(host.ctypes.data)) == 1
    memory.free()
    assert gpu.driver.cuMemFree_v2(ctypes.c_uint64(address)) == 1
    host.base.free()
    assert gpu.driver.cuMemFreeHost(at) == 1
    expect(gpu, *["is not memory that is in use"] * 4)
    assert gpu.driver.cuMemAlloc_v2(None, ctypes.c_size_t(0)) == 1
    expect(gpu, "0 bytes")


def test_contexts_and_devices_that_are_none(gpu):
    for call, message in (
        (lambda: gpu.cuda.Device(1), "there is one device"),
        (
            lambda: gpu.cuda.Device(0).get_attribute(gpu.cuda.device_attribute.WARP_SIZE),
            "attribute 10 is not",
        ),
    ):
        with pytest.raises(gpu.cuda.Error):
            call()
        expect(gpu, message)
    assert gpu.driver.cuCtxPushCurrent_v2(ctypes.c_void_p(64)) == 201
    assert gpu.driver.cuCtxDetach(ctypes.c_void_p(64)) == 400
    expect(gpu, "no context that is in use", "no context in use")
    gpu.context.detach()  # which leaves it current
    assert gpu.driver.cuMemAlloc_v2(None, ctypes.c_size_t(8)) == 709
    assert gpu.driver.cuCtxPopCurrent_v2(None) == 0
    assert gpu.driver.cuDevicePrimaryCtxRelease_v2(0) == 201
    expect(gpu, "the current context has ended", "was not retained as often")


def test_a_stream_of_another_context(gpu):
    memory, host, stream = gpu.cuda.mem_alloc(8), pinned(gpu), gpu.cuda.Stream(NON_BLOCKING)
    other = gpu.cuda.Device(0).make_context()
    with pytest.raises(gpu.cuda.LogicError):
        gpu.cuda.memcpy_htod_async(memory, host, stream)
    expect(gpu, "no stream of the current context")
    other.detach()
    memory.free()
    host.base.free()


def test_an_image_that_is_no_cubin(gpu):
    with pytest.raises(gpu.cuda.Error):
        gpu.cuda.module_from_buffer(bytes(64))
    expect(gpu, "the image is no cubin")


def test_handles_that_are_none(gpu):
    for call in ("cuStreamSynchronize", "cuEventSynchronize", "cuGraphLaunch", "cuModuleUnload"):
        assert getattr(gpu.driver, call)(ctypes.c_void_p(64), None) == 400
    assert len(gpu.machine.reports()) == 4


def test_a_function_that_is_not_here(gpu):
    with pytest.raises(gpu.cuda.Error):
        gpu.cuda.mem_alloc_pitch(8, 8, 4)
    expect(gpu, "cuMemAllocPitch_v2: is not in this driver")


def test_calls_without_a_context(make_machine):
    machine = make_machine()
    assert machine.driver.cuMemAlloc_v2(None, ctypes.c_size_t(8)) == 3
    machine.cuda.init()
    assert machine.driver.cuMemAlloc_v2(None, ctypes.c_size_t(8)) == 201
    assert machine.reports() == [
        "cuMemAlloc_v2: called before cuInit",
        "cuMemAlloc_v2: no context is current on this thread",
    ]
