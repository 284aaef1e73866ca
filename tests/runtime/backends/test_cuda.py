"""CUDA memory, contexts and graphs over the stand-in of tests/fake_cuda.py."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from fake_cuda import Machine

from edgefel.errors import EdgefelError
from edgefel.runtime.backends.cuda import Buffer, CaptureRefused, CudaDevice, GraphDriver, import_pycuda
from edgefel.runtime.backends.tensorrt_binding import TensorSpec

SPEC = TensorSpec("image", np.dtype(np.float32), (2,))


@pytest.mark.parametrize("unified", [False, True], ids=["card", "Jetson"])
def test_a_buffer_takes_values_to_the_gpu_and_back(unified):
    machine = Machine(unified=unified)
    device = CudaDevice(machine.cuda, machine.libcuda)
    assert device.unified == unified
    with device.current():
        stream = machine.cuda.Stream(1)
        buffer = Buffer(device, SPEC, 4)
        assert buffer.host.shape == (4, 2)
        buffer.fill(np.ones((2, 2), np.float32), 3)
        buffer.upload(3, stream)
        stream.synchronize()
        on_gpu = machine.find(buffer.address, 24).view(np.float32).reshape(3, 2)
        np.testing.assert_array_equal(on_gpu, [[1, 1], [1, 1], [0, 0]])
        on_gpu[:] = 5
        buffer.download(3, stream)
        stream.synchronize()
        values = buffer.values(2)
        buffer.host[:] = 0
        np.testing.assert_array_equal(values, np.full((2, 2), 5))
        for _ in range(2):
            buffer.free()
    device.release()
    assert (machine.memory, machine.pinned, machine.retained) == ({}, {}, 0)


def test_pinned_memory_is_freed_where_the_gpu_has_no_room():
    machine = Machine(capacity=16)
    device = CudaDevice(machine.cuda, machine.libcuda)
    with device.current(), pytest.raises(machine.cuda.Error):
        Buffer(device, SPEC, 4)
    assert machine.pinned == {}


def test_the_context_is_current_in_the_block_alone_and_released_once():
    machine = Machine()
    machine.driver_stack.append("primary")  # as torch keeps it
    device = CudaDevice(machine.cuda, machine.libcuda)
    with pytest.raises(ValueError, match="in the block"), device.current():
        assert len(machine.driver_stack) == 2
        raise ValueError("in the block")
    assert not device.closed
    for _ in range(2):
        device.release()
    assert (device.closed, machine.driver_stack, machine.retained) == (True, ["primary"], 0)


def test_a_graph_repeats_what_was_captured_and_does_not_run_it_before():
    machine = Machine()
    device = CudaDevice(machine.cuda, machine.libcuda)
    done = []
    with device.current():
        stream = machine.cuda.Stream(1)
        graph = GraphDriver(machine.libcuda).capture(
            stream.handle, lambda: stream.add(lambda: done.append(1))
        )
        stream.synchronize()
        assert done == []
        for _ in range(2):
            assert graph.launch(stream.handle) == 0
        stream.synchronize()
        assert done == [1, 1]
        graph.destroy()
    assert machine.graphs == {}


@pytest.mark.parametrize("where", ["begin", "end", "instantiate"])
def test_what_the_driver_does_not_capture_leaves_nothing(where):
    machine = Machine()
    machine.refuse_capture = where
    device = CudaDevice(machine.cuda, machine.libcuda)
    with device.current():
        stream = machine.cuda.Stream(1)
        with pytest.raises(CaptureRefused, match=r"returned CUDA error \d+"):
            GraphDriver(machine.libcuda).capture(stream.handle, lambda: None)
    assert machine.graphs == {}


def test_work_that_raises_ends_the_capture():
    machine = Machine()
    device = CudaDevice(machine.cuda, machine.libcuda)
    with device.current():
        stream = machine.cuda.Stream(1)
        with pytest.raises(ZeroDivisionError):
            GraphDriver(machine.libcuda).capture(stream.handle, lambda: 1 // 0)
        assert stream.captured is None
    assert machine.graphs == {}


def test_a_driver_that_is_too_old_for_graphs():
    with pytest.raises(CaptureRefused, match="the CUDA driver has no cuStreamBeginCapture_v2"):
        GraphDriver(Machine(graphs=False).libcuda)


def test_a_pycuda_that_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "pycuda.driver", None)
    import_pycuda.cache_clear()
    with pytest.raises(EdgefelError, match=r"pycuda is not installed; run: pip install 'edgefel\[jetson\]'"):
        import_pycuda()
