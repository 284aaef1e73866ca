"""A bundle with an engine, and a machine with TensorRT, made by tests/cuda_driver and fake_tensorrt.py."""

from __future__ import annotations

import sys

import fake_tensorrt
import pytest
from engine_files import ORIN, add_engine
from tiny_bundle import write_bundle

from edgefel.runtime import engines


@pytest.fixture
def engine_bundle(tmp_path):
    return add_engine(write_bundle(tmp_path / "bundle"))


@pytest.fixture
def install(monkeypatch, make_machine):
    """Puts a machine, with these options, and a TensorRT in the place of the real ones."""

    def put(*, unified: bool = False, capacity: int = 1 << 30, graphs: bool = True, **options):
        machine = make_machine(unified=unified, capacity=capacity, graphs=graphs)
        machine.trt = fake_tensorrt.tensorrt(machine, **options)
        monkeypatch.setitem(sys.modules, "tensorrt", machine.trt)
        monkeypatch.setattr(engines, "find_gpu", lambda: ORIN)
        return machine

    return put
