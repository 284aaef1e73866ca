"""A stand-in for TensorRT on the machine of `cuda_driver`: engines are ONNX files, computed by ONNX Runtime.

It holds what needs the library itself: a runtime that starts, engines and contexts. What TensorRT's Python package does
without one is tested with the real one (tests/real_tensorrt), which also has a test that names, arguments and
results here are the real ones. What is not TensorRT's has a name that begins with an underscore.
"""

from __future__ import annotations

import enum
from types import ModuleType
from typing import Any

import numpy as np
import onnxruntime

from edgefel.runtime.backends.onnxruntime_backend import session_options


class Severity(enum.Enum):
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)


class Mode(enum.Enum):
    NONE, INPUT, OUTPUT = range(3)


class Location(enum.Enum):
    DEVICE, HOST = range(2)


class Strategy(enum.Enum):
    STATIC, ON_PROFILE_CHANGE, USER_MANAGED = range(3)


class DataType(enum.Enum):
    FLOAT, HALF, INT8, INT32, BOOL, UINT8, FP8, BF16, INT64 = range(9)


_TYPES = {"tensor(float)": DataType.FLOAT, "tensor(float16)": DataType.HALF, "tensor(uint8)": DataType.UINT8}
_WIDTHS = {DataType.FLOAT: 4, DataType.HALF: 2, DataType.UINT8: 1}


def tensorrt(machine: Any, profiles=((1, 1, 4),), version: str = "10.3.0") -> ModuleType:
    """A module `tensorrt` whose engines are ONNX files, with these profiles (min, opt, max). machine: None where
    nothing runs."""
    module = ModuleType("tensorrt")
    module.__version__ = version

    class ILogger:
        def __init__(self) -> None:
            pass

    ILogger.Severity = Severity

    class Runtime:
        def __init__(self, logger) -> None:
            self._logger, self.engine_host_code_allowed = logger, False
            module.runtimes.append(self)

        def deserialize_cuda_engine(self, serialized_engine):
            machine.need_context()
            if not serialized_engine.startswith(b"\x08"):
                self._logger.log(Severity.ERROR, "Serialization assertion\nmagicTag failed")
                return None
            return Engine(machine, serialized_engine, profiles, self._logger)

    module.runtimes = []
    module.ILogger, module.Runtime = ILogger, Runtime
    module.TensorIOMode, module.TensorLocation = Mode, Location
    module.ExecutionContextAllocationStrategy = Strategy
    return module


class Engine:
    device_memory_size_v2 = 1024

    def __init__(self, machine: Any, data: bytes, profiles, logger) -> None:
        self._machine, self._profiles, self._logger = machine, profiles, logger
        self._session = onnxruntime.InferenceSession(
            data, session_options(), providers=["CPUExecutionProvider"]
        )
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        self._ports = {port.name: port for port in (*inputs, *outputs)}
        self._inputs = [port.name for port in inputs]
        self._outputs = [port.name for port in outputs]
        self.num_io_tensors = len(self._ports)
        self.num_optimization_profiles = len(profiles)

    def get_tensor_name(self, index) -> str:
        return list(self._ports)[index]

    def get_tensor_mode(self, name):
        return Mode.INPUT if name in self._inputs else Mode.OUTPUT

    def get_tensor_location(self, name):
        return Location.DEVICE

    def get_tensor_dtype(self, name):
        return _TYPES[self._ports[name].type]

    def get_tensor_shape(self, name):
        return tuple(-1 if isinstance(side, str) else side for side in self._ports[name].shape)

    def get_tensor_profile_shape(self, name, profile_index) -> list:
        return [(size, *self.get_tensor_shape(name)[1:]) for size in self._profiles[profile_index]]

    def create_execution_context(self, strategy):
        self._machine.need_context()
        assert strategy is Strategy.USER_MANAGED
        return ExecutionContext(self)


class ExecutionContext:
    def __init__(self, engine: Engine) -> None:
        self._engine, self._machine = engine, engine._machine
        self.active_optimization_profile = 0
        self._shape: tuple[int, ...] | None = None
        self._addresses: dict[str, int] = {}
        self._scratch = 0

    def set_device_memory(self, memory, size) -> None:
        assert size >= self._engine.device_memory_size_v2
        self._machine.find(memory, size)
        self._scratch = memory

    def set_optimization_profile_async(self, profile_index, stream_handle) -> bool:
        self.active_optimization_profile, self._shape = profile_index, None
        return True

    def set_input_shape(self, name, shape) -> bool:
        low, _, high = self._engine._profiles[self.active_optimization_profile]
        if not low <= shape[0] <= high or tuple(shape[1:]) != self._engine.get_tensor_shape(name)[1:]:
            return False
        self._shape = tuple(shape)
        return True

    def set_tensor_address(self, name, memory) -> bool:
        assert name in self._engine._ports
        self._addresses[name] = memory
        return True

    def infer_shapes(self) -> list:
        return [] if self._shape else list(self._engine._inputs)

    def get_tensor_shape(self, name):
        return (self._shape[0], *self._engine.get_tensor_shape(name)[1:])

    def execute_async_v3(self, stream_handle) -> bool:
        machine, engine = self._machine, self._engine
        machine.need_context()
        if machine.refuses_capture and machine.is_capturing(stream_handle):
            return False
        if machine.fails:
            engine._logger.log(Severity.ERROR, "enqueueV3: illegal something")
            return False
        assert set(self._addresses) == set(engine._ports)
        machine.enqueued += 1
        shape, addresses = self._shape, dict(self._addresses)
        ranges = [(self._scratch, engine.device_memory_size_v2, True)]
        for name, address in addresses.items():
            size = int(np.prod(self.get_tensor_shape(name))) * _WIDTHS[engine.get_tensor_dtype(name)]
            ranges.append((address, size, name in engine._outputs))
        machine.launch(stream_handle, lambda: self._compute(shape, addresses), ranges)
        return True

    def _compute(self, shape, addresses):
        (name,) = self._engine._inputs
        dtype = np.uint8 if self._engine.get_tensor_dtype(name) is DataType.UINT8 else np.float32
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        data = self._machine.find(addresses[name], size).view(dtype).reshape(shape).copy()
        for output, values in zip(
            self._engine._outputs, self._engine._session.run(None, {name: data}), strict=True
        ):
            raw = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
            self._machine.find(addresses[output], raw.nbytes)[:] = raw
