"""Packages that are too old, do not start, or lack something: what the doctor says of them."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import tiny_bundle
from doctor_machines import BASE, DESKTOP, examined, laptop, onnxruntime, opencv, orin_nano, version

from edgefel.runtime.doctor.machine import Machine
from edgefel.runtime.manifest import read_manifest, write_manifest

NULL = "tensorrt 10.3.0 cannot start here (TypeError: factory function returned nullptr); check the GPU"


def problem_of(*names: str, text: str = NULL):
    """As `Machine.accelerator_problem`: these modules import, and do not start."""
    return lambda module: text if getattr(module, "what", None) in names else None


def named(name: str, text: str, **more):
    return SimpleNamespace(__version__=text, what=name, **more)


def test_a_tensorrt_whose_runtime_is_null_fails(tmp_path):
    broken = {
        "modules": {"tensorrt": named("tensorrt", "10.3.0")},
        "accelerator_problem": problem_of("tensorrt"),
    }
    check = examined(orin_nano(tmp_path / "orin", **broken))["tensorrt"]
    assert check.status == "fail"
    assert "10.3.0; it does not start: tensorrt 10.3.0 cannot start here (TypeError: factory" in check.found
    # a PC with a driver is meant to use its GPU, one without is not
    for cuda, status in (("13.0", "fail"), (None, "warn")):
        pc = laptop(
            tmp_path / str(cuda),
            BASE | broken["modules"],
            cuda=cuda,
            accelerator_problem=broken["accelerator_problem"],
        )
        assert examined(pc)["tensorrt"].status == status


def test_a_cuda_provider_that_falls_back_to_the_cpu_fails(tmp_path):
    module = onnxruntime("CUDA")
    module.what = "onnxruntime"
    options = {"gpu": DESKTOP, "cuda": "13.0"}
    problem = problem_of("onnxruntime", text="ONNX Runtime falls back to CPUExecutionProvider")
    check = examined(
        laptop(tmp_path, BASE | {"onnxruntime": module}, accelerator_problem=problem, **options)
    )["ONNX Runtime"]
    assert check.status == "fail"
    assert "falls back to CPUExecutionProvider" in check.found
    assert "onnxruntime-gpu[cuda,cudnn]" in check.fix


def test_a_folder_that_an_uninstalled_onnx_runtime_left_behind(tmp_path):
    check = examined(laptop(tmp_path, BASE | {"onnxruntime": version("1.23.0")}))["ONNX Runtime"]
    assert (check.status, check.fix) == ("fail", "pip install --force-reinstall onnxruntime")


@pytest.mark.parametrize(
    ("module", "found"),
    [
        (named("openvino", "2025.4.0-1-releases"), "it does not start: RuntimeError: no plugin"),
        (OSError("libopenvino.so"), "does not import: OSError: libopenvino.so"),
        (named("other", "2024.6.0"), "2024.6.0; edgefel needs 2025.0 or later"),
    ],
)
def test_an_openvino_that_cannot_be_used(tmp_path, module, found):
    problem = problem_of("openvino", text="RuntimeError: no plugin")
    check = examined(laptop(tmp_path, BASE | {"openvino": module}, accelerator_problem=problem))["OpenVINO"]
    assert check.status == "fail"
    assert found in check.found


def test_a_pycuda_that_does_not_start_or_is_too_old(tmp_path):
    modules = {"pycuda.driver": named("pycuda", "2025.1.2")}
    problem = problem_of("pycuda", text="LogicError: cuInit failed: system driver mismatch")
    check = examined(orin_nano(tmp_path / "a", modules=modules, accelerator_problem=problem))["pycuda"]
    assert (check.status, check.found) == (
        "fail",
        f"2025.1.2; it does not start: {problem(modules['pycuda.driver'])}",
    )
    old = {"pycuda": SimpleNamespace(VERSION_TEXT="2024.1.2")}
    check = examined(orin_nano(tmp_path / "b", modules=old))["pycuda"]
    assert (check.status, check.fix) == ("fail", "pip install 'pycuda>=2025.1.2'")


@pytest.mark.parametrize(
    ("modules", "name", "fix"),
    [
        ({"numpy": version("1.22.4")}, "NumPy", "pip install 'numpy>=1.23'"),
        ({"onnxruntime": onnxruntime(version="1.16.3")}, "ONNX Runtime", "pip install 'onnxruntime>=1.17'"),
        ({"cv2": opencv("4.5.1")}, "OpenCV", "pip install 'opencv-python-headless>=4.10,<5'"),
    ],
)
def test_a_base_package_that_is_too_old_fails(tmp_path, modules, name, fix):
    check = examined(laptop(tmp_path, BASE | modules))[name]
    assert (check.status, check.fix) == ("fail", fix)


def test_every_other_package_is_named_with_its_version(tmp_path):
    installed = {"edgefel": "0.1.0", "click": "8.0.4", "torch": "2.13.0+cpu"}
    checks = examined(laptop(tmp_path, installed_version=installed.get))
    assert checks["other packages"].found == "torch 2.13.0+cpu"
    assert (checks["click"].status, checks["click"].fix) == ("fail", "pip install 'click>=8.1'")
    old = examined(laptop(tmp_path, installed_version=(installed | {"torch": "2.5.1"}).get))["torch"]
    assert old.status == "warn"  # a device runs without it


def test_what_the_driver_says_against_a_gpu(tmp_path):
    said = "the CUDA driver reports error 803: the driver and its library are of different versions; reboot"
    check = examined(laptop(tmp_path, cuda="13.0", gpu_problem=lambda: said))["NVIDIA GPU"]
    assert (check.status, check.fix) == ("warn", "reboot")
    assert "error 803" in check.found


def test_a_file_that_needs_a_newer_onnx_runtime(tmp_path):
    folder = tiny_bundle.write_bundle(tmp_path / "bundle")
    manifest = read_manifest(folder)
    requires = {"ir_version": 11, "opset": 23, "onnxruntime": ">=99.0"}
    write_manifest(folder, manifest.with_file(replace(manifest.files[0], requires=requires)))
    check = examined(laptop(tmp_path / "pc"), folder)["model.fp32.onnx"]
    assert (check.status, check.fix) == ("warn", "pip install 'onnxruntime>=99.0'")
    assert "needs ONNX Runtime 99.0 or later (IR 11, opset 23), and here is 1.23.0" in check.found


def test_the_backend_of_a_bundle_is_opened_and_not_guessed(tmp_path, monkeypatch):
    """OpenVINO that looks usable and does not load: the doctor says that ONNX Runtime runs it, and why."""
    from edgefel.runtime.backends.openvino_backend import OpenVinoBackend
    from edgefel.runtime.doctor.examine import bundle_checks

    def broken(model, *, threads):
        raise TypeError("nullptr")

    monkeypatch.setattr(OpenVinoBackend, "unavailable_reason", lambda file: None)
    monkeypatch.setattr(OpenVinoBackend, "open", broken)
    folder = tiny_bundle.write_bundle(tmp_path / "b")
    manifest = read_manifest(folder)
    # of a size that OpenVINO comes first for
    write_manifest(folder, replace(manifest, model=replace(manifest.model, gmac=8.0)))
    checks = {check.name: check for check in bundle_checks(Machine(), folder)}
    assert checks["backend"].status == "fail"
    assert "by onnxruntime, since openvino fails" in checks["backend"].found
    assert "TypeError: nullptr" in checks["backend"].found


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_starting_the_real_ones():
    """Each package that is installed here, as the doctor starts it."""
    import onnxruntime as real

    from edgefel.runtime.doctor.machine import accelerator_problem

    # no GPU build here: ONNX Runtime takes the CPU and raises nothing
    assert (
        "CUDAExecutionProvider" in real.get_available_providers()
        or "falls back to CPUExecutionProvider" in (accelerator_problem(real) or "")
    )
    for name in ("openvino", "tensorrt_rtx"):
        try:
            module = __import__(name)
        except ImportError:
            continue
        assert accelerator_problem(module) is None
