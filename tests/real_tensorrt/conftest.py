"""Every version of TensorRT's Python package that is here."""

from __future__ import annotations

import functools
import json
import shutil
import subprocess
import sys

import pytest
from real_tensorrt.described import Package
from real_tensorrt.environments import HERE, Bindings, compile_stub, find, versions


@pytest.fixture(scope="session")
def stub(_once):
    """The folder with the stub of libnvinfer."""
    if sys.platform != "linux" or shutil.which("cc") is None:
        pytest.skip("needs a C compiler on Linux, for the stub of libnvinfer")
    return _once("libnvinfer", compile_stub)


@pytest.fixture(scope="session", params=versions())
def bindings(request, stub) -> Bindings:
    """One version of the package."""
    return find(request.param, stub)


@pytest.fixture(scope="session")
def package_of(stub):
    """What the package of a version has; "rtx" is TensorRT for RTX."""
    program = HERE / "describe_bindings.py"

    @functools.cache
    def describe(version: str) -> Package:
        if version != "rtx":
            return Package(find(version, stub).ask(program, "tensorrt"))
        pytest.importorskip("tensorrt_rtx", reason="needs TensorRT for RTX (extra rtx)")
        command = [sys.executable, program, "tensorrt_rtx"]
        return Package(
            json.loads(subprocess.run(command, capture_output=True, check=True, timeout=60).stdout)
        )

    return describe


@pytest.fixture(scope="session", params=[*versions(), "rtx"])
def package(request, package_of) -> Package:
    """One of them."""
    return package_of(request.param)
