"""How execution contexts are made by each package."""

from __future__ import annotations

import enum
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from edgefel.errors import EdgefelError
from edgefel.runtime.backends.tensorrt_binding import Binding, OptimizationProfile, TensorSpec
from edgefel.runtime.backends.tensorrt_context import BatchContext, ContextFactory


class Strategy(enum.Enum):
    USER_MANAGED = 2


class Kernels:
    """TensorRT for RTX's runtime cache."""

    def __init__(self) -> None:
        self.loaded: list[bytes] = []

    def deserialize(self, data: bytes) -> bool:
        self.loaded.append(data)
        return True

    def serialize(self) -> bytearray:
        return bytearray(b"kernels")


def rtx_engine():
    config = SimpleNamespace(kernels=Kernels())
    config.set_execution_context_allocation_strategy = lambda strategy: setattr(config, "strategy", strategy)
    config.create_runtime_cache = lambda: config.kernels
    config.set_runtime_cache = lambda cache: setattr(config, "cache", cache)
    made = []
    return SimpleNamespace(
        config=config, made=made, create_runtime_config=lambda: config, create_execution_context=made.append
    )


def package(name: str, version: str, graphs: bool = False) -> ModuleType:
    module = ModuleType(name)
    module.__version__ = version
    module.ExecutionContextAllocationStrategy = Strategy
    if graphs:
        module.CudaGraphStrategy = SimpleNamespace(WHOLE_GRAPH_CAPTURE="whole")
    return module


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("EDGEFEL_CACHE", str(tmp_path))


def test_rtx_captures_graphs_itself_from_1_2_on():
    engine = rtx_engine()
    factory = ContextFactory(package("tensorrt_rtx", "1.7", graphs=True), engine, "key")
    assert factory.captures_itself
    assert (engine.config.strategy, engine.config.cuda_graph_strategy) == (Strategy.USER_MANAGED, "whole")
    factory.create(0, 0)
    assert engine.made == [engine.config]
    older = rtx_engine()
    assert not ContextFactory(package("tensorrt_rtx", "1.1"), older, "key").captures_itself
    assert not hasattr(older.config, "cuda_graph_strategy")


def test_kernels_that_rtx_compiled_are_there_at_the_next_start(tmp_path):
    trt = package("tensorrt_rtx", "1.7")
    first, second, other = rtx_engine(), rtx_engine(), rtx_engine()
    ContextFactory(trt, first, "key").save()
    assert (tmp_path / "rtx-kernels" / "key-1.7.bin").read_bytes() == b"kernels"
    ContextFactory(trt, second, "key")
    assert (first.config.kernels.loaded, second.config.kernels.loaded) == ([], [b"kernels"])
    assert second.config.cache is second.config.kernels
    ContextFactory(trt, other, "another")
    assert other.config.kernels.loaded == []


def test_without_a_cache_folder_kernels_are_not_kept(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("EDGEFEL_CACHE", str(tmp_path / "file"))
    engine = rtx_engine()
    ContextFactory(package("tensorrt_rtx", "1.7"), engine, "key").save()
    assert engine.config.cache is engine.config.kernels


def test_a_context_gets_its_scratch_memory():
    given = []
    made = SimpleNamespace(set_device_memory=lambda memory, size: given.append((memory, size)))
    engine = SimpleNamespace(create_execution_context=lambda how: made, device_memory_size_v2=1 << 33)
    factory = ContextFactory(package("tensorrt", "10.3"), engine, "key")
    assert factory.scratch_bytes == 1 << 33
    assert factory.create(4096, 77) is made
    assert given == [(4096, 77)]


def context(**changes):
    values = {
        "active_optimization_profile": 0,
        "set_input_shape": lambda name, shape: True,
        "set_tensor_address": lambda name, address: True,
        "infer_shapes": list,
    }
    return SimpleNamespace(**(values | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"active_optimization_profile": 1}, "e: TensorRT refuses optimization profile 0"),
        ({"set_tensor_address": lambda name, address: False}, "e: TensorRT refuses the address of image"),
        ({"infer_shapes": lambda: ["mask"]}, "e: TensorRT cannot tell the shapes; mask are not given"),
    ],
)
def test_what_tensorrt_refuses_is_named(changes, message):
    stream = SimpleNamespace(handle=1, synchronize=lambda: None)
    refusing = context(set_optimization_profile_async=lambda profile, handle: False, **changes)
    with pytest.raises(EdgefelError, match=message):
        BatchContext(
            refusing, Binding((), (), (OptimizationProfile(0, 1, 1, 1),)), 0, 1, {"image": 64}, stream, "e"
        )


def test_the_copies_of_another_profile_are_waited_for_before_shapes_are_set():
    """They must be done before the context is used (TensorRT API, setOptimizationProfileAsync)."""
    calls = []
    stream = SimpleNamespace(handle=7, synchronize=lambda: calls.append("wait"))
    changing = context(
        set_optimization_profile_async=lambda *arguments: calls.append(arguments) or True,
        set_input_shape=lambda name, shape: calls.append(shape) or True,
    )
    inputs = (TensorSpec("image", np.dtype(np.float32), (3,)),)
    BatchContext(changing, Binding(inputs, (), ()), 1, 2, {}, stream, "e")
    assert calls == [(1, 7), "wait", (2, 3)]
    calls.clear()
    BatchContext(changing, Binding(inputs, (), ()), 0, 2, {}, stream, "e")
    assert calls == [(2, 3)]
