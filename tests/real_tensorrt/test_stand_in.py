"""The stand-in for TensorRT (tests/fake_tensorrt.py) has the names, arguments and results of the real package."""

from __future__ import annotations

import enum
import inspect

import fake_tensorrt
import pytest
from real_tensorrt.described import Package
from tiny_bundle import tiny_model

MODULE = fake_tensorrt.tensorrt(None)
REAL = {
    "Runtime": MODULE.Runtime,
    "ILogger": MODULE.ILogger,
    "ICudaEngine": fake_tensorrt.Engine,
    "IExecutionContext": fake_tensorrt.ExecutionContext,
}
ENUMS = {
    "ILogger.Severity": fake_tensorrt.Severity,
    "TensorIOMode": fake_tensorrt.Mode,
    "TensorLocation": fake_tensorrt.Location,
    "ExecutionContextAllocationStrategy": fake_tensorrt.Strategy,
    "DataType": fake_tensorrt.DataType,
}


def different(package: Package, owner: str, stand_in: type) -> list[str]:
    """What of a class of the stand-in is not the real one's."""
    found = []
    for name, value in vars(stand_in).items():
        if name.startswith("_") or isinstance(value, type):
            continue
        if package.member(owner, name) is None:
            found.append(f"{owner} has no {name}")
        elif inspect.isfunction(value):
            # without self; some are overloaded, by type and not by name
            real = [
                ([one.name for one in overload.parameters[1:]], package.of_type(overload.result))
                for overload in package.signatures(owner, name)
            ]
            signature = inspect.signature(value)
            names = list(signature.parameters)[1:]
            result = package.of_type(str(signature.return_annotation))
            if not any(names == there and (not result or result <= gives) for there, gives in real):
                found.append(f"{owner}.{name}({', '.join(names)}) -> {signature.return_annotation}")
    return found


@pytest.mark.parametrize("owner", REAL)
def test_classes(package, owner):
    assert different(package, owner, REAL[owner]) == []


def test_attributes(package):
    """Those of the objects, and those of the module."""
    engine = fake_tensorrt.Engine(None, tiny_model().SerializeToString(), ((1, 1, 4),), None)
    made = {
        "Runtime": MODULE.Runtime(None),
        "ICudaEngine": engine,
        "IExecutionContext": fake_tensorrt.ExecutionContext(engine),
        "": MODULE,
    }
    for owner, one in made.items():
        own = {name for name in vars(one) if not name.startswith("_")} - {"runtimes"}
        assert own
        assert own <= set(package.data["classes"][owner]["members"]), owner


@pytest.mark.parametrize("name", ENUMS)
def test_enums(package, name):
    stand_in: type[enum.Enum] = ENUMS[name]
    real = package.data["classes"][name]["numbers"]
    assert {member.name: member.value for member in stand_in}.items() <= real.items()


def test_a_difference_is_found(package):
    class Engine:
        num_io_tensor = 1

        def get_tensor_name(self, number) -> str: ...
        def get_tensor_shape(self, name) -> bool: ...
        def get_tensor_mode(self, name): ...

    assert different(package, "ICudaEngine", Engine) == [
        "ICudaEngine has no num_io_tensor",
        "ICudaEngine.get_tensor_name(number) -> str",
        "ICudaEngine.get_tensor_shape(name) -> bool",
    ]
