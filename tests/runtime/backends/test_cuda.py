"""CUDA memory, contexts and graphs: real pycuda over the driver of tests/cuda_driver."""

from __future__ import annotations

import sys
import threading
from types import SimpleNamespace

import numpy as np
import pytest
from engine_files import assert_nothing_is_left

from edgefel.errors import EdgefelError
from edgefel.runtime.backends.cuda import Buffer, CaptureRefused, CudaDevice, GraphDriver, import_pycuda
from edgefel.runtime.backends.tensorrt_binding import TensorSpec

SPEC = TensorSpec("image", np.dtype(np.float32), (2,))


@pytest.fixture
def open_device(make_machine):
    """A machine with these options, and its GPU."""

    def make(**options):
        machine = make_machine(**options)
        return machine, CudaDevice(import_pycuda(), machine.libcuda)

    return make


@pytest.mark.parametrize("unified", [False, True], ids=["card", "Jetson"])
def test_a_buffer_takes_values_to_the_gpu_and_back(open_device, unified):
    machine, device = open_device(unified=unified)
    assert device.unified == unified
    with device.current():
        stream = machine.cuda.Stream(1)
        buffer = Buffer(device, SPEC, 4)
        assert buffer.host.shape == (4, 2)
        assert machine.live("device") == (0 if unified else 1)
        buffer.host[3] = 9
        buffer.fill(np.ones((2, 2), np.float32), 3)
        buffer.upload(3, stream)
        stream.synchronize()
        on_gpu = machine.find(buffer.address, 32).view(np.float32).reshape(4, 2)
        np.testing.assert_array_equal(on_gpu[:3], [[1, 1], [1, 1], [0, 0]])
        assert unified or not (on_gpu[3] == 9).any()
        on_gpu[:] = 5
        buffer.host[3] = 7
        buffer.download(3, stream)
        stream.synchronize()
        assert unified or (buffer.host[3] == 7).all()
        values = buffer.values(2)
        buffer.host[:] = 0
        np.testing.assert_array_equal(values, np.full((2, 2), 5))
        for _ in range(2):
            buffer.free()
        del stream
    device.release()
    assert_nothing_is_left(machine)


def test_a_copy_waits_for_its_stream(open_device):
    machine, device = open_device()
    with device.current():
        stream, buffer = machine.cuda.Stream(1), Buffer(device, SPEC, 1)
        buffer.fill(np.ones((1, 2), np.float32), 1)
        buffer.upload(1, stream)
        assert not (machine.find(buffer.address, 8).view(np.float32) == 1).any()
        stream.synchronize()
        np.testing.assert_array_equal(machine.find(buffer.address, 8).view(np.float32), [1, 1])
        buffer.free()
        del stream
    device.release()


def test_pinned_memory_is_freed_where_the_gpu_has_no_room(open_device):
    machine, device = open_device(capacity=16)
    with device.current(), pytest.raises(machine.cuda.MemoryError):
        Buffer(device, SPEC, 4)
    assert machine.live("pinned") == 0
    device.release()


def test_the_context_is_current_in_the_block_alone_and_released_once(open_device):
    machine, device = open_device()
    with machine.primary_current() as primary:  # as torch keeps it
        with pytest.raises(ValueError, match="in the block"), device.current():
            assert machine.contexts == [primary, primary]
            raise ValueError("in the block")
        assert not device.closed
        assert machine.live("retained") == 2
        for _ in range(2):
            device.release()
        assert (device.closed, machine.contexts, machine.live("retained")) == (True, [primary], 1)


def test_a_device_is_released_on_another_thread_than_that_which_opened_it(open_device):
    machine, device = open_device()
    left = []

    def release():
        device.release()
        left.extend(machine.contexts)

    thread = threading.Thread(target=release)
    thread.start()
    thread.join()
    assert (left, machine.live("retained")) == ([], 0)


def test_a_gpu_that_does_not_open(make_machine):
    machine = make_machine()
    machine.fail("cuDevicePrimaryCtxRetain", 2)
    with pytest.raises(EdgefelError, match=r"the GPU cannot be opened \(.*out of memory"):
        CudaDevice(import_pycuda(), machine.libcuda)


def test_a_graph_repeats_what_was_captured_and_does_not_run_it_before(open_device):
    machine, device = open_device()
    done = []
    with device.current():
        stream = machine.cuda.Stream(1)
        graph = GraphDriver(machine.libcuda).capture(
            stream.handle, lambda: machine.launch(stream.handle, lambda: done.append(1))
        )
        stream.synchronize()
        assert done == []
        for _ in range(2):
            assert graph.launch(stream.handle) == 0
        stream.synchronize()
        assert done == [1, 1]
        graph.destroy()
        stream = None
    device.release()
    assert_nothing_is_left(machine)


def test_other_threads_and_torch_may_use_the_gpu_during_a_capture(open_device):
    """Another session allocates; torch works on the default stream."""
    machine, device = open_device()
    other, wrong = CudaDevice(import_pycuda(), machine.libcuda), []

    def allocate():
        with other.current():
            try:
                memory, host = machine.cuda.mem_alloc(64), machine.cuda.pagelocked_empty(64, np.uint8)
                machine.cuda.memcpy_htod_async(memory, host)
                machine.cuda.Context.synchronize()
                memory.free()
                host.base.free()
            except machine.cuda.Error as error:
                wrong.append(error)

    def work():
        thread = threading.Thread(target=allocate)
        thread.start()
        thread.join()

    with device.current():
        stream = machine.cuda.Stream(1)
        GraphDriver(machine.libcuda).capture(stream.handle, work).destroy()
        del stream
    assert wrong == []
    other.release()
    device.release()


@pytest.mark.parametrize(
    "name", ["cuStreamBeginCapture_v2", "cuStreamEndCapture", "cuGraphInstantiateWithFlags"]
)
def test_what_the_driver_does_not_capture_leaves_nothing(open_device, name):
    machine, device = open_device()
    machine.fail(name, 900)
    with device.current():
        stream = machine.cuda.Stream(1)
        with pytest.raises(CaptureRefused, match=f"{name} returned CUDA error 900"):
            GraphDriver(machine.libcuda).capture(stream.handle, lambda: None)
        stream.synchronize()
        del stream
    device.release()
    assert_nothing_is_left(machine)


def test_work_that_may_not_be_captured_is_refused_and_the_stream_usable(open_device):
    machine, device = open_device()
    with device.current():
        stream = machine.cuda.Stream(1)
        with pytest.raises(machine.cuda.LogicError):
            GraphDriver(machine.libcuda).capture(stream.handle, lambda: machine.cuda.mem_alloc(64))
        stream.synchronize()
        del stream
    device.release()
    assert machine.reports() == ["cuMemAlloc_v2: not allowed while a stream is captured"]


def test_work_that_raises_ends_the_capture(open_device):
    machine, device = open_device()
    with device.current():
        stream = machine.cuda.Stream(1)
        with pytest.raises(ZeroDivisionError):
            GraphDriver(machine.libcuda).capture(stream.handle, lambda: 1 // 0)
        assert not machine.is_capturing(stream.handle)
        del stream
    device.release()
    assert_nothing_is_left(machine)


def test_a_driver_that_is_too_old_for_graphs():
    with pytest.raises(CaptureRefused, match="the CUDA driver has no cuStreamBeginCapture_v2"):
        GraphDriver(SimpleNamespace())


def test_a_pycuda_that_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "pycuda.driver", None)
    import_pycuda.cache_clear()
    with pytest.raises(EdgefelError, match=r"pycuda is not installed; run: pip install 'edgefel\[jetson\]'"):
        import_pycuda()
    import_pycuda.cache_clear()
