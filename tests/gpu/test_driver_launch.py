"""What the driver is told, by a stand-in of it; the real one is used in test_compiled_kernels.py."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

import pytest

from edgefel.runtime.kernels import KernelFile

sys.path.insert(0, str(Path(__file__).parent))
from driver_launch import launch


class Driver:
    """Keeps what it is called with; `fails` returns an error."""

    def __init__(self, fails: str = "") -> None:
        self.calls: dict[str, tuple] = {}
        self.fails = fails

    def __getattr__(self, name: str):
        def call(*arguments) -> int:
            self.calls[name] = arguments
            if name == "cuLaunchKernel":
                # as the driver: one address of a value for each parameter
                self.values = [ctypes.c_uint64.from_address(place).value for place in arguments[9]]
            return 700 if name == self.fails else 0

        return call


@pytest.fixture
def file(tmp_path) -> KernelFile:
    (tmp_path / "k.cubin").write_bytes(b"ELF")
    return KernelFile("k", "sm_90", "entry", tmp_path / "k.cubin", ("a", "b"), 2, 13, 128, 65536)


def test_a_launch_has_pointers_nulls_grid_threads_and_shared_memory(file):
    driver = Driver()
    launch(file, 3, [0x7F0000000010, 0x20], 5, driver)
    assert driver.values == [0x7F0000000010, 0x20, 0, 0]
    assert driver.calls["cuLaunchKernel"][1:8] == (39, 1, 1, 128, 1, 1, 65536)
    assert driver.calls["cuLaunchKernel"][8].value == 5
    assert driver.calls["cuFuncSetAttribute"][1:] == (8, 65536)
    assert driver.calls["cuModuleGetFunction"][2] == b"entry"
    assert list(driver.calls)[-1] == "cuModuleUnload"


def test_an_error_is_named_and_the_module_unloaded(file):
    driver = Driver(fails="cuLaunchKernel")
    with pytest.raises(RuntimeError, match="cuLaunchKernel: CUDA error 700"):
        launch(file, 1, [0, 0], 0, driver)
    assert "cuModuleUnload" in driver.calls
    assert "cuStreamSynchronize" not in driver.calls
