"""A stand-in for TensorRT on the machine of `cuda_driver`: engines are ONNX files, computed by ONNX Runtime."""

from __future__ import annotations

import enum
from types import ModuleType
from typing import Any

import numpy as np
import onnxruntime


class Severity(enum.Enum):
    INTERNAL_ERROR, ERROR, WARNING, INFO = range(4)


class Mode(enum.Enum):
    INPUT, OUTPUT = range(2)


class Location(enum.Enum):
    DEVICE, HOST = range(2)


class Strategy(enum.Enum):
    STATIC, ON_PROFILE_CHANGE, USER_MANAGED = range(3)


class DataType(enum.Enum):
    FLOAT, HALF, BF16, UINT8, INT64 = range(5)


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
            self.logger, self.engine_host_code_allowed = logger, False
            module.runtimes.append(self)

        def deserialize_cuda_engine(self, data):
            machine.need_context()
            if not data.startswith(b"\x08"):
                self.logger.log(Severity.ERROR, "Serialization assertion\nmagicTag failed")
                return None
            return Engine(machine, data, profiles, self.logger)

    module.runtimes = []
    module.ILogger, module.Runtime = ILogger, Runtime
    module.TensorIOMode, module.TensorLocation = Mode, Location
    module.ExecutionContextAllocationStrategy = Strategy
    return module


class Engine:
    device_memory_size_v2 = 1024

    def __init__(self, machine: Any, data: bytes, profiles, logger) -> None:
        self.machine, self.profiles, self.logger = machine, profiles, logger
        self.session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
        inputs, outputs = self.session.get_inputs(), self.session.get_outputs()
        self.ports = {port.name: port for port in (*inputs, *outputs)}
        self.inputs = [port.name for port in inputs]
        self.outputs = [port.name for port in outputs]
        self.num_io_tensors = len(self.ports)
        self.num_optimization_profiles = len(profiles)
        self.made: list[ExecutionContext] = []

    def get_tensor_name(self, index):
        return list(self.ports)[index]

    def get_tensor_mode(self, name):
        return Mode.INPUT if name in self.inputs else Mode.OUTPUT

    def get_tensor_location(self, name):
        return Location.DEVICE

    def get_tensor_dtype(self, name):
        return _TYPES[self.ports[name].type]

    def get_tensor_shape(self, name):
        return tuple(-1 if isinstance(side, str) else side for side in self.ports[name].shape)

    def get_tensor_profile_shape(self, name, index):
        return [(size, *self.get_tensor_shape(name)[1:]) for size in self.profiles[index]]

    def create_execution_context(self, strategy):
        self.machine.need_context()
        assert strategy is Strategy.USER_MANAGED
        return ExecutionContext(self)


class ExecutionContext:
    def __init__(self, engine: Engine) -> None:
        self.engine, self.machine = engine, engine.machine
        self.active_optimization_profile = 0
        self.shape: tuple[int, ...] | None = None
        self.addresses: dict[str, int] = {}
        self.scratch = 0
        self.runs = 0
        engine.made.append(self)

    def set_device_memory(self, address, size):
        assert size >= self.engine.device_memory_size_v2
        self.machine.find(address, size)
        self.scratch = address

    def set_optimization_profile_async(self, index, stream):
        self.active_optimization_profile, self.shape = index, None
        return True

    def set_input_shape(self, name, shape):
        low, _, high = self.engine.profiles[self.active_optimization_profile]
        if not low <= shape[0] <= high or tuple(shape[1:]) != self.engine.get_tensor_shape(name)[1:]:
            return False
        self.shape = tuple(shape)
        return True

    def set_tensor_address(self, name, address):
        assert name in self.engine.ports
        self.addresses[name] = address
        return True

    def infer_shapes(self):
        return [] if self.shape else list(self.engine.inputs)

    def get_tensor_shape(self, name):
        return (self.shape[0], *self.engine.get_tensor_shape(name)[1:])

    def execute_async_v3(self, handle):
        self.machine.need_context()
        if self.machine.refuses_capture and self.machine.is_capturing(handle):
            return False
        if self.machine.fails:
            self.engine.logger.log(Severity.ERROR, "enqueueV3: illegal something")
            return False
        assert set(self.addresses) == set(self.engine.ports)
        self.machine.enqueued += 1
        shape, addresses = self.shape, dict(self.addresses)
        ranges = [(self.scratch, self.engine.device_memory_size_v2, True)]
        for name, address in addresses.items():
            size = int(np.prod(self.get_tensor_shape(name))) * _WIDTHS[self.engine.get_tensor_dtype(name)]
            ranges.append((address, size, name in self.engine.outputs))
        self.machine.launch(handle, lambda: self._compute(shape, addresses), ranges)
        return True

    def _compute(self, shape, addresses):
        (name,) = self.engine.inputs
        dtype = np.uint8 if self.engine.get_tensor_dtype(name) is DataType.UINT8 else np.float32
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        data = self.machine.find(addresses[name], size).view(dtype).reshape(shape).copy()
        for output, values in zip(
            self.engine.outputs, self.engine.session.run(None, {name: data}), strict=True
        ):
            raw = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
            self.machine.find(addresses[output], raw.nbytes)[:] = raw
