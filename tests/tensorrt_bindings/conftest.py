"""Every version of TensorRT's Python package that is here."""

from __future__ import annotations

import shutil
import sys

import pytest
from tensorrt_bindings.environments import SCRIPT, Bindings, cache, compile_stub, versions


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


def find(version: str, stub) -> Bindings:
    folder = cache() / version
    if not folder.is_dir():
        pytest.skip(f"TensorRT's Python package {version} is not here; {SCRIPT} {sys.executable} fetches it")
    return Bindings(version, folder, stub)
