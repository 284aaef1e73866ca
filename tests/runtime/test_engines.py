"""Which GPU and TensorRT are here, and whether an engine fits them."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import replace
from types import ModuleType

import fake_tensorrt
import pytest

from edgefel.errors import EdgefelError
from edgefel.runtime import engines
from edgefel.runtime.engines import (
    Gpu,
    Here,
    check_engine,
    engine_mismatch,
    find_gpu,
    listen,
    look_here,
    runtime_problem,
)
from edgefel.runtime.manifest import BundleFile

ORIN = Gpu("Orin", (8, 7))
AMPERE = Gpu("RTX 3090", (8, 6))
TURING = Gpu("Tesla T4", (7, 5))


def engine(package="tensorrt", version="10.3.0", gpu=ORIN, **options):
    builder = {"package": package, "version": version, "options": options}
    builder["gpu"] = None if gpu is None else gpu.name
    builder["compute_capability"] = None if gpu is None else gpu.capability_text
    return BundleFile("model.fp16.engine", "engine", "fp16", "0" * 64, 7, builder=builder)


def here(gpu=ORIN, **versions):
    return Here(versions, gpu)


FITS = {
    "same": (engine(), here(tensorrt="10.3.0")),
    "later version, compatible": (engine(version_compatible=True), here(tensorrt="10.7.0")),
    "10 in 11, compatible": (engine(version_compatible=True), here(tensorrt="11.4.1")),
    "other GPU, ampere_plus": (engine(hardware_compatibility="ampere_plus"), here(AMPERE, tensorrt="10.3.0")),
    "other GPU, same capability": (
        engine(hardware_compatibility="same_compute_capability"),
        here(Gpu("Orin NX", (8, 7)), tensorrt="10.3.0"),
    ),
    "RTX, built without a GPU": (engine("tensorrt_rtx", "1.7", None), here(AMPERE, tensorrt_rtx="1.7")),
    "RTX for this target": (
        engine("tensorrt_rtx", "1.7", None, compute_capabilities=["sm_75", "sm_86"]),
        here(TURING, tensorrt_rtx="1.7"),
    ),
    "RTX for the current GPU": (
        engine("tensorrt_rtx", "1.7", AMPERE, compute_capabilities=["current"]),
        here(AMPERE, tensorrt_rtx="1.7"),
    ),
}
REFUSED = {
    "version": (engine(), here(tensorrt="10.7.0"), "built with tensorrt 10.3.0, and here is 10.7.0"),
    "older, compatible": (
        engine(version_compatible=True),
        here(tensorrt="10.2.9"),
        "built with tensorrt 10.3.0, and here is 10.2.9",
    ),
    "two majors on": (
        engine(version="9.1", version_compatible=True),
        here(tensorrt="11.0"),
        "built with tensorrt 9.1, and here is 11.0",
    ),
    "RTX is never version-compatible": (
        engine("tensorrt_rtx", "1.6", None, version_compatible=True),
        here(AMPERE, tensorrt_rtx="1.7"),
        "built with tensorrt_rtx 1.6, and here is 1.7",
    ),
    "package": (
        engine(),
        here(tensorrt_rtx="1.7"),
        "built with tensorrt 10.3.0, which is not installed here",
    ),
    "GPU": (
        engine(),
        here(AMPERE, tensorrt="10.3.0"),
        r"built for Orin \(compute capability 8.7\), and here is RTX 3090 \(compute capability 8.6\)",
    ),
    "same capability, other model": (
        engine(),
        here(Gpu("Orin NX", (8, 7)), tensorrt="10.3.0"),
        r"built for Orin .* here is Orin NX",
    ),
    "other capability": (
        engine(hardware_compatibility="same_compute_capability"),
        here(AMPERE, tensorrt="10.3.0"),
        "built for GPUs of compute capability 8.7",
    ),
    "before Ampere": (
        engine(hardware_compatibility="ampere_plus"),
        here(TURING, tensorrt="10.3.0"),
        "built for Ampere and later",
    ),
    "RTX before Ampere": (
        engine("tensorrt_rtx", "1.7", None),
        here(TURING, tensorrt_rtx="1.7"),
        "built for Ampere and later",
    ),
    "RTX for another target": (
        engine("tensorrt_rtx", "1.7", None, compute_capabilities=["sm_89"]),
        here(AMPERE, tensorrt_rtx="1.7"),
        "built for sm_89, and here is RTX 3090",
    ),
    "nothing recorded": (
        replace(engine(), builder=None),
        here(tensorrt="10.3.0"),
        "does not say which TensorRT",
    ),
}


@pytest.mark.parametrize("case", FITS)
def test_an_engine_that_fits(case):
    assert check_engine(*FITS[case]) is None


@pytest.mark.parametrize("case", REFUSED)
def test_an_engine_that_does_not_fit_is_explained_in_one_line(case):
    file, machine, reason = REFUSED[case]
    said = check_engine(file, machine)
    assert said is not None
    assert re.search(reason, said), said
    assert said.startswith("model.fp16.engine: ")
    assert "edgefel engine DIR --rebuild" in said
    assert "\n" not in said


def test_without_a_gpu_an_engine_fits_and_cannot_be_used():
    file, machine = engine(), here(None, tensorrt="10.3.0")
    assert engine_mismatch(file, machine) is None
    assert "none is found here; use the ONNX file" in (check_engine(file, machine) or "")


def test_an_older_manifest_without_options_is_judged_by_what_it_has():
    builder = {"package": "tensorrt", "version": "10.3.0", "gpu": "Orin"}
    file = replace(engine(), builder=builder)
    assert check_engine(file, here(tensorrt="10.3.0")) is None
    assert "built for Orin" in (check_engine(file, here(AMPERE, tensorrt="10.3.0")) or "")


def test_an_onnx_file_is_no_engine():
    with pytest.raises(EdgefelError, match="of kind onnx, not an engine"):
        check_engine(replace(engine(), kind="onnx"))


def test_packages_that_are_not_installed_are_left_out():
    assert look_here(("no_such_tensorrt",)).versions == {}
    assert look_here(("json",)).versions == {"json": "2.0.9"}


DRIVER = r"""
#include <string.h>
int cuInit(unsigned flags) { return INIT; }
int cuDeviceGet(int *device, int ordinal) { *device = 40 + ordinal; return 0; }
int cuDeviceGetName(char *name, int length, int device) {
    strncpy(name, device == 40 ? "Orin" : "wrong device", length); return 0;
}
int cuDeviceGetAttribute(int *value, int attribute, int device) {
    *value = attribute == 75 ? 8 : attribute == 76 ? 7 : -1; return device == 40 ? 0 : 101;
}
"""


@pytest.mark.skipif(
    shutil.which("cc") is None or sys.platform != "linux", reason="needs a C compiler on Linux"
)
@pytest.mark.parametrize(("init", "expected"), [(0, "Gpu(name='Orin', capability=(8, 7))"), (100, "None")])
def test_the_gpu_is_asked_of_the_driver_library(tmp_path, init, expected):
    """A library with the driver's functions takes its place, as no GPU can be counted on."""
    (tmp_path / "driver.c").write_text(DRIVER.replace("INIT", str(init)))
    library = tmp_path / "libcuda.so.1"
    compiler = ["cc", "-shared", "-fPIC", "-o", str(library), str(tmp_path / "driver.c")]
    subprocess.run(compiler, check=True)
    code = (
        "import edgefel.runtime.engines as e, sys; print(repr(e.find_gpu())); print('torch' in sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={"LD_LIBRARY_PATH": str(tmp_path), "PATH": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.split("\n")[:2] == [expected, "False"]
    hidden = subprocess.run(
        [sys.executable, "-c", "import edgefel.runtime.engines as e; print(e.gpu_problem())"],
        env={"LD_LIBRARY_PATH": str(tmp_path), "PATH": "", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    assert hidden.stdout.strip() == (
        "None" if init == 0 else "CUDA_VISIBLE_DEVICES='' hides it; unset that variable"
    )


def test_here_is_what_it_is():
    """With a driver a name and a capability, without one None; never an error."""
    gpu = find_gpu()
    assert gpu is None or (gpu.name and gpu.capability >= (5, 0))


def test_messages_go_to_who_listens_now():
    """While a builder lives TensorRT warns of any other logger; there is one, and its messages are parted."""
    trt = pytest.importorskip("tensorrt_rtx", reason="needs TensorRT for RTX (extra rtx)")
    with listen(trt) as (logger, first):
        alive = trt.Builder(logger)
    with listen(trt) as (logger, second):
        config = trt.Builder(logger).create_builder_config()
        config.builder_optimization_level = -1
    assert alive is not None
    assert first.errors == []
    assert any("setBuilderOptimizationLevel" in text for text in second.errors)
    assert second.warnings == []


def test_what_the_drivers_error_means(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert "different versions; reboot" in engines._driver_problem(803)
    assert "it finds no GPU; see nvidia-smi" in engines._driver_problem(100)
    assert "error 7: see nvidia-smi" in engines._driver_problem(7)


def test_why_an_engine_cannot_be_used_names_the_driver_and_the_broken_package():
    no_gpu = Here({"tensorrt": "10.3.0"}, None, gpu_problem="the CUDA driver reports error 803: reboot")
    assert "none is found here (the CUDA driver reports error 803: reboot)" in check_engine(engine(), no_gpu)
    broken = Here({}, ORIN, broken={"tensorrt": "OSError: libnvinfer.so.10"})
    assert "which does not load here (OSError: libnvinfer.so.10)" in check_engine(engine(), broken)


@pytest.mark.parametrize("error", [OSError("a"), RuntimeError("b"), AttributeError("c"), SystemError("d")])
def test_a_package_that_raises_while_it_is_imported_is_broken_and_not_missing(monkeypatch, error):
    def load(name):
        raise error

    monkeypatch.setattr(engines.importlib, "import_module", load)
    assert look_here(("tensorrt",)).broken == {"tensorrt": f"{type(error).__name__}: {error}"}


def test_an_empty_folder_of_that_name_is_broken(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", ModuleType("tensorrt"))
    assert look_here(("tensorrt",)).broken == {"tensorrt": "tensorrt is incomplete: it has no __version__"}


def test_a_runtime_that_is_none():
    """What the real packages do with a null pointer is tested in tests/real_tensorrt."""
    trt = ModuleType("tensorrt")
    trt.__version__, trt.ILogger = "10.3.0", type("ILogger", (), {"Severity": fake_tensorrt.Severity})
    trt.Runtime = lambda logger: None
    assert "it makes no runtime" in runtime_problem(trt)
    trt.Runtime = lambda logger: object()
    assert runtime_problem(trt) is None


def test_an_engine_of_a_format_that_this_gpu_lacks_does_not_fit():
    file = replace(engine("tensorrt_rtx", "1.7", None), name="model.fp8.engine", precision="fp8")
    assert engine_mismatch(file, here(Gpu("RTX 4090", (8, 9)), tensorrt_rtx="1.7")) is None
    assert engine_mismatch(file, here(AMPERE, tensorrt_rtx="1.7")) == (
        "model.fp8.engine: fp8 needs Ada or later (compute capability 8.9), and here is RTX 3090 (compute capability "
        "8.6); use another precision"
    )
