"""A TensorRT that imports and does not start: its real Python package gets a null pointer and raises TypeError.

Seen on a machine whose driver is too old, or in a container without the GPU. The engine fits by the manifest, so only
starting the runtime shows it.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest
from engine_files import add_engine
from tiny_bundle import write_bundle

SAID = "CUDA initialization failure with error: 35"
# a GPU that is found, and whose contexts can be made: more is not asked for before TensorRT refuses
DRIVER = r"""
#include <string.h>
int cuInit(unsigned flags) { return 0; }
int cuDriverGetVersion(int *version) { *version = 12060; return 0; }
int cuDeviceGet(int *device, int ordinal) { *device = 0; return 0; }
int cuDeviceGetName(char *name, int length, int device) { strncpy(name, "Orin", length); return 0; }
int cuDeviceGetAttribute(int *value, int attribute, int device) { *value = attribute == 75 ? 8 : 7; return 0; }
int cuCtxPopCurrent_v2(void **context) { *context = 0; return 0; }
"""
PYCUDA = """
from types import SimpleNamespace
VERSION_TEXT = "2026.1"
class Error(Exception): pass
def init(): pass
device_attribute = SimpleNamespace(INTEGRATED=18, CAN_MAP_HOST_MEMORY=19)
_nothing = lambda *_: None
_context = SimpleNamespace(push=_nothing, detach=_nothing)
Context = SimpleNamespace(pop=_nothing, get_current=_nothing)
class Device:
    def __init__(self, ordinal): pass
    def get_attribute(self, number): return 1
    def retain_primary_context(self): return _context
"""


@pytest.fixture(scope="module")
def machine(tmp_path_factory) -> Path:
    """Folder with a driver's library and a package pycuda."""
    folder = tmp_path_factory.mktemp("machine")
    (folder / "driver.c").write_text(DRIVER)
    command = ["cc", "-shared", "-fPIC", "-o", folder / "libcuda.so.1", folder / "driver.c"]
    subprocess.run(command, check=True, timeout=60)
    (folder / "pycuda").mkdir()
    (folder / "pycuda" / "__init__.py").write_text('VERSION_TEXT = "2026.1"\n')
    (folder / "pycuda" / "driver.py").write_text(PYCUDA)
    return folder


@pytest.fixture
def edgefel(bindings, machine):
    """Runs a command of edgefel on that machine with this version of TensorRT's package."""

    def run(*arguments, **more: str) -> subprocess.CompletedProcess[str]:
        call = "import sys; sys.path.insert(0, sys.argv.pop(1)); from edgefel.cli.main import main; main()"
        more |= {"LD_LIBRARY_PATH": str(machine), "PYTHONWARNINGS": "ignore", "COLUMNS": "500"}
        return bindings.run("-c", call, machine, *arguments, **more)

    return run


@pytest.fixture
def bundle(bindings, tmp_path) -> Path:
    return add_engine(write_bundle(tmp_path / "bundle"), version=bindings.version)


@pytest.fixture
def image(tmp_path) -> Path:
    path = tmp_path / "face.png"
    cv2.imwrite(str(path), np.full((20, 20, 3), 90, np.uint8))
    return path


def test_a_named_backend_is_one_line(edgefel, bindings, bundle, image):
    result = edgefel("predict", bundle, image, "--no-detect", "--backend", "tensorrt")
    assert result.returncode == 2, result.stderr
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert f"tensorrt {bindings.version} cannot start here ({SAID})" in line
    assert "edgefel doctor" in line


def test_without_a_reason_of_tensorrts_own_the_packages_error_is_said(edgefel, bundle, image):
    result = edgefel(
        "predict", bundle, image, "--no-detect", "--backend", "tensorrt", "-v", LIBNVINFER_SAYS=""
    )
    assert result.returncode == 2
    assert (
        "cannot start here (TypeError: pybind11::init(): factory function returned nullptr)" in result.stderr
    )


def test_auto_takes_the_next_backend_and_says_so(edgefel, bindings, bundle, image):
    result = edgefel("predict", bundle, image, "--no-detect", "--json")
    assert result.returncode == 0, result.stderr
    (face,) = json.loads(result.stdout)["faces"]
    assert len(face["probabilities"]) == 7
    (line,) = [line for line in result.stderr.splitlines() if "passed over" in line]
    assert f"backend tensorrt is passed over: tensorrt {bindings.version} cannot start here ({SAID})" in line
    assert "Traceback" not in result.stderr


def test_doctor_reports_it(edgefel, bindings, bundle):
    result = edgefel("doctor", bundle, "--json")
    assert result.returncode == 1  # something fails
    checks = {check["name"]: check for check in json.loads(result.stdout)["checks"]}
    assert checks["NVIDIA GPU"]["status"] == "ok"
    said = f"tensorrt {bindings.version} cannot start here ({SAID})"
    found = checks["tensorrt"]
    assert (found["status"], found["found"]) == ("fail", f"{bindings.version}; it does not start: {said}")
    assert "must be for the same CUDA" in found["fix"]
    # what the bundle is run by instead
    found = checks["backend"]
    assert found["status"] == "fail"
    assert found["found"].startswith("model.fp32.onnx by ")
    assert found["found"].endswith(f", since tensorrt fails: {said}")
    assert "Traceback" not in result.stderr


def test_an_engine_is_built_by_the_other_package_and_it_is_said(edgefel, bindings, tmp_path):
    pytest.importorskip("tensorrt_rtx", reason="needs TensorRT for RTX (extra rtx)")
    bundle = write_bundle(tmp_path / "bundle")
    result = edgefel("engine", bundle, "--json")
    assert result.returncode == 0, result.stderr
    assert "Traceback" not in result.stderr
    said = f"since tensorrt {bindings.version} cannot start here: {SAID}"
    assert any(said in text for engine in json.loads(result.stdout)["engines"] for text in engine["warnings"])
