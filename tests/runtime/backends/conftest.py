"""A bundle with an engine, and a machine with TensorRT, made by tests/fake_cuda.py and fake_tensorrt.py."""

from __future__ import annotations

import sys

import fake_tensorrt
import pytest
from engine_files import ORIN, add_engine
from fake_cuda import Machine
from tiny_bundle import write_bundle

from edgefel.runtime import engines
from edgefel.runtime.backends import tensorrt_backend
from edgefel.runtime.backends.cuda import import_pycuda


@pytest.fixture
def engine_bundle(tmp_path):
    return add_engine(write_bundle(tmp_path / "bundle"))


@pytest.fixture
def install(monkeypatch):
    """Puts a machine and a TensorRT in the place of the real ones."""
    machines = []

    def put(machine: Machine | None = None, **options) -> Machine:
        machine = machine or Machine()
        trt = machine.trt = fake_tensorrt.tensorrt(machine, **options)
        monkeypatch.setitem(sys.modules, "tensorrt", trt)
        monkeypatch.setitem(sys.modules, "pycuda.driver", machine.cuda)
        monkeypatch.setattr(engines, "find_gpu", lambda: ORIN)
        monkeypatch.setattr(tensorrt_backend, "load_libcuda", lambda: machine.libcuda)
        import_pycuda.cache_clear()
        machines.append(machine)
        return machine

    yield put
    import_pycuda.cache_clear()
    for machine in machines:
        assert machine.driver_stack == machine.pycuda_stack == []
