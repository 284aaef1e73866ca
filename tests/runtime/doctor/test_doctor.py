"""The doctor on machines made of files and packages: two Jetsons, laptops, and broken ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import fake_boards
import pytest
import tiny_bundle
from doctor_machines import (
    BASE,
    DESKTOP,
    GSTREAMER,
    THOR,
    examined,
    laptop,
    machine,
    onnxruntime,
    opencv,
    orin_nano,
    statuses,
    version,
)

from edgefel.errors import EdgefelError
from edgefel.runtime.doctor.check import Check, count
from edgefel.runtime.doctor.examine import examine
from edgefel.runtime.doctor.machine import Machine, Package, run_command
from edgefel.runtime.manifest import describe_file, read_manifest, write_manifest
from edgefel.runtime.requirements import numbers


def test_a_fresh_laptop_has_nothing_but_notes(tmp_path):
    checks = examined(laptop(tmp_path))
    assert statuses(checks, "warn", "fail") == []
    assert statuses(checks, "note") == [
        "window",
        "NVIDIA GPU",
        "TensorRT",
        "pycuda",
        "OpenVINO",
        "cameras",
        "power",
    ]
    assert checks["OpenVINO"].fix == "pip install 'edgefel[openvino]'"
    assert checks["ONNX Runtime"].found == "1.23.0: CPU"
    assert "JetPack" not in checks
    assert "GStreamer" not in checks


def test_an_orin_nano_with_jetpack_6(tmp_path):
    checks = examined(orin_nano(tmp_path))
    assert statuses(checks, "warn", "fail") == []
    assert checks["board"].found.startswith("NVIDIA Jetson Orin Nano")
    assert checks["JetPack"].found == "6.2+b77 (Jetson Linux 36.4.3)"
    assert checks["NVIDIA GPU"].found == "Orin (compute capability 8.7), CUDA 12.6"
    assert checks["tensorrt"].found == "10.3.0"
    assert checks["pycuda"].found == "2025.1.2"
    assert (
        checks["cameras"].found == "video0 vi-output, imx219 9-0010, video1 HD Webcam C270; CSI: --source csi"
    )
    assert (
        checks["GStreamer"].found == "version 1.20.3, with nvarguscamerasrc, nvv4l2decoder, nvvidconv, gdppay"
    )
    assert checks["power mode"].status == "note"
    assert checks["power mode"].found == "25W; MAXN_SUPER is the fastest"
    assert checks["power mode"].fix.startswith("sudo nvpmodel -m 2, then sudo jetson_clocks")
    assert checks["power"].found == "9.3 W (ina3221 VDD_IN)"
    assert checks["throttling"].found == "since the start peak current too high 27 times; hottest 64 °C"
    # the wheel with CUDA is not for Jetsons, so that nobody is sent to look for it
    assert checks["ONNX Runtime"].fix == "the TensorRT backend uses the GPU"


def test_a_thor_with_jetpack_7(tmp_path):
    modules = BASE | {
        "tensorrt": version("10.13.3.9"),
        "pycuda": version("2025.1.2"),
        "pycuda.driver": version("1"),
    }
    commands = {"nvidia-jetpack": "7.2-b1", **GSTREAMER}
    one = machine(
        fake_boards.thor(tmp_path), modules, gpu=THOR, cuda="13.2", commands=commands, python=(3, 12, 3)
    )
    checks = examined(one)
    assert statuses(checks, "warn", "fail") == []
    assert checks["JetPack"].found == "7.2-b1 (Jetson Linux 39.2.0)"
    assert checks["power mode"].found == "MAXN"
    assert checks["power mode"].status == "ok"
    assert checks["power"].found == "38.5 W (ina238 VIN)"
    assert checks["throttling"].found == "none, hottest 55 °C"


def test_a_broken_orin_says_how_to_mend_each_thing(tmp_path):
    missing = ImportError("libcudart.so.12: cannot open shared object file")
    one = orin_nano(
        tmp_path,
        gpu=None,
        cuda=None,
        commands={},
        may_use=lambda path: path.name != "video1",
        modules={"tensorrt": OSError("libnvinfer.so.10: cannot open"), "pycuda": missing},
    )
    fake_boards.write(tmp_path, fake_boards.cooling(cpufreq_cpu0=3))
    memory = fake_boards.MEMINFO.replace("5000000", "300000")
    fake_boards.write(
        tmp_path, {"/etc/nv_tegra_release": "# R35 (release), REVISION: 4.1", "/proc/meminfo": memory}
    )
    checks = examined(one)
    assert statuses(checks, "fail") == ["NVIDIA GPU", "tensorrt", "pycuda"]
    assert statuses(checks, "warn") == ["JetPack", "memory", "cameras", "GStreamer", "throttling"]
    assert "--runtime nvidia" in checks["NVIDIA GPU"].fix
    assert checks["tensorrt"].found == "does not import: OSError: libnvinfer.so.10: cannot open"
    assert "nvidia-jetpack" in checks["tensorrt"].fix
    assert checks["JetPack"].found == "5.x (Jetson Linux 35.4.1); edgefel is made for JetPack 6 and 7"
    assert checks["memory"].found == "0.3 of 8.0 GB free"
    assert "this user may not open video1" in checks["cameras"].found
    assert "usermod -aG video" in checks["cameras"].fix
    assert checks["GStreamer"].found == "gst-launch-1.0 is missing: no CSI camera"
    assert checks["throttling"].found == "slowed down now by cpufreq-cpu0; hottest 64 °C"
    assert all(check.fix for check in checks.values() if check.status in ("warn", "fail"))


@pytest.mark.parametrize(
    ("there", "changes", "found", "fix"),
    [
        (False, {}, "not installed", "sudo apt install nvidia-jetpack"),
        (True, {}, "JetPack's is hidden by the virtual environment", "--system-site-packages"),
        (
            True,
            {"virtual_environment": False, "python": (3, 12, 3)},
            "JetPack's is for the system's python3.10, and this is python3.12",
            "/usr/bin/python3 -m venv --system-site-packages",
        ),
    ],
)
def test_why_a_jetson_has_no_tensorrt(tmp_path, there, changes, found, fix):
    gone = ModuleNotFoundError("No module named 'tensorrt'", name="tensorrt")
    one = orin_nano(tmp_path, modules={"tensorrt": gone}, **changes)
    if there:
        (tmp_path / "usr/lib/python3.10/dist-packages/tensorrt").mkdir(parents=True)
    check = examined(one)["TensorRT"]
    assert (check.status, check.found) == ("fail", found)
    assert fix in check.fix


def test_a_gstreamer_without_the_jetsons_elements(tmp_path):
    commands = {name: out for name, out in GSTREAMER.items() if name != "nvarguscamerasrc"}
    check = examined(orin_nano(tmp_path, commands=commands))["GStreamer"]
    assert (check.status, check.found) == ("warn", "version 1.20.3, without nvarguscamerasrc (CSI cameras)")
    assert "nvidia-l4t-gstreamer" in check.fix


def test_a_jetson_in_a_container_is_known_by_its_device_tree(tmp_path):
    one = orin_nano(tmp_path)
    (tmp_path / "etc/nv_tegra_release").unlink()
    check = examined(one)["JetPack"]
    assert check.status == "note"
    assert "as in some containers" in check.found


@pytest.mark.parametrize(
    ("text", "status"), [("10.3.0", "ok"), ("10.2.1", "fail"), ("8.6.1", "fail"), ("11.4.1", "ok")]
)
def test_an_old_tensorrt(tmp_path, text, status):
    assert examined(orin_nano(tmp_path, modules={"tensorrt": version(text)}))["tensorrt"].status == status


def test_a_desktop_whose_gpu_nothing_uses(tmp_path):
    checks = examined(laptop(tmp_path, gpu=DESKTOP, cuda="13.0"))
    assert checks["ONNX Runtime"].status == checks["TensorRT"].status == "note"
    assert "pip install onnxruntime-gpu" in checks["ONNX Runtime"].fix
    assert checks["TensorRT"].fix == "pip install 'edgefel[rtx]'"
    assert checks["pycuda"].status == "warn"
    used = BASE | {"onnxruntime": onnxruntime("CUDA")}
    assert examined(laptop(tmp_path, used, gpu=DESKTOP))["ONNX Runtime"].status == "ok"


def test_a_driver_without_a_gpu(tmp_path):
    check = examined(laptop(tmp_path, cuda="12.4"))["NVIDIA GPU"]
    assert (check.status, check.found) == ("warn", "driver for CUDA 12.4, and it finds no GPU")


def test_pycuda_that_was_built_for_another_cuda(tmp_path):
    modules = {"pycuda.driver": ImportError("libcurand.so.10: cannot open shared object file")}
    check = examined(orin_nano(tmp_path, modules=modules))["pycuda"]
    assert check.status == "fail"
    assert "libcurand.so.10" in check.found


@pytest.mark.parametrize(
    ("modules", "failed"),
    [
        ({"numpy": ModuleNotFoundError("No module named 'numpy'", name="numpy")}, "NumPy"),
        ({"onnxruntime": AttributeError("_ARRAY_API not found")}, "ONNX Runtime"),
        ({"cv2": ImportError("libGL.so.1: cannot open shared object file")}, "OpenCV"),
        ({"cv2": ModuleNotFoundError("No module named 'numpy'", name="numpy")}, "OpenCV"),
        ({"cv2": SimpleNamespace(__version__="5.0.0", getBuildInformation=lambda: "")}, "OpenCV"),
    ],
)
def test_without_a_base_package_nothing_runs(tmp_path, modules, failed):
    checks = examined(laptop(tmp_path, BASE | modules))
    assert statuses(checks, "fail") == [failed]
    assert "pip install" in checks[failed].fix


def test_a_package_that_lacks_another_is_not_missing_itself(tmp_path):
    error = ModuleNotFoundError("No module named 'coloredlogs'", name="coloredlogs")
    check = examined(laptop(tmp_path, BASE | {"onnxruntime": error}))["ONNX Runtime"]
    assert "No module named 'coloredlogs'" in check.found


def test_an_old_python(tmp_path):
    check = examined(laptop(tmp_path, python=(3, 9, 18)))["Python"]
    assert (check.status, check.fix) == ("fail", "install Python 3.10 or later")


def test_windows_and_videos_depend_on_how_opencv_was_built(tmp_path):
    modules = BASE | {"cv2": opencv(gui="QT5", gst="YES (1.24.2)")}
    checks = examined(laptop(tmp_path, modules))
    assert checks["window"].found == "OpenCV draws with QT5"
    assert checks["video"].found == "OpenCV reads with FFMPEG and GStreamer"
    modules["cv2"] = opencv(getBuildInformation=lambda: "    FFMPEG:   NO\n    GUI: \n    GStreamer: NO\n")
    checks = examined(laptop(tmp_path, modules))
    assert (checks["video"].status, checks["window"].status) == ("warn", "note")


def test_two_opencvs_in_one_environment(tmp_path):
    one = replace(laptop(tmp_path), installed_version=lambda name: "4.12")
    check = examined(one)["OpenCV"]
    assert check.status == "warn"
    assert check.fix.startswith("pip uninstall opencv-python opencv-python-headless")


def test_a_part_that_breaks_is_a_finding_and_the_others_go_on(tmp_path):
    def breaks():
        raise RuntimeError("driver in\na state")

    checks = examined(replace(laptop(tmp_path), driver_cuda=breaks))
    assert checks["accelerators"].found == "not examined further: RuntimeError: driver in a state"
    assert statuses(checks, "warn") == ["accelerators"]
    assert "throttling" in checks


def test_a_cache_that_cannot_be_made(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("EDGEFEL_CACHE", str(tmp_path / "file"))
    check = examined(laptop(tmp_path))["cache"]
    assert check.status == "warn"
    assert check.fix == "set EDGEFEL_CACHE to a folder that can be written"


@pytest.fixture
def bundle(tmp_path) -> Path:
    return tiny_bundle.write_bundle(tmp_path / "bundle", ("fp32", "int8"))


def test_a_sound_bundle(tmp_path, bundle):
    checks = examined(laptop(tmp_path / "root"), bundle)
    assert checks["bundle"].found == "tiny, 7 classes, 2 files"
    assert checks["model.fp32.onnx"].found == "fp32, 0.0 MB, not compared with PyTorch"
    assert statuses(checks, "warn", "fail") == []


def test_recorded_accuracy(tmp_path, bundle):
    manifest = read_manifest(bundle)
    measured = {"accuracy": 0.8217, "macro_f1": 0.61, "accuracy_reference": 0.82}
    parity = {"verdict": "pass", "inputs": "faces", "split": "test", "images": 700, "labels": measured}
    for entry, said in (
        (parity, "; accuracy 82.2%, macro F1 0.610 on 700 images of faces, split test"),
        ({**parity, "labels": {"accuracy": "high", "macro_f1": 1}}, ""),
        ({**parity, "labels": None}, ""),
    ):
        write_manifest(bundle, manifest.with_file(replace(manifest.files[0], parity=entry)))
        check = examined(laptop(tmp_path / "root"), bundle)["bundle"]
        assert check.found == f"tiny, 7 classes, 2 files{said}"


def test_files_that_were_changed_or_failed(tmp_path, bundle):
    manifest = read_manifest(bundle)
    failed = replace(manifest.find("int8"), parity={"verdict": "fail", "reasons": ["accuracy"]})
    write_manifest(bundle, manifest.with_file(failed))
    with (bundle / "model.fp32.onnx").open("ab") as stream:
        stream.write(b"more")
    checks = examined(laptop(tmp_path / "root"), bundle)
    assert checks["model.fp32.onnx"].status == "fail"
    assert checks["model.fp32.onnx"].found.endswith("SHA-256 differs from the manifest's")
    assert checks["model.int8.onnx"].status == "warn"
    assert "failed its comparison with PyTorch" in checks["model.int8.onnx"].found


def add_engine(bundle: Path, version: str) -> None:
    path = bundle / "model.fp32.engine"
    path.write_bytes(b"engine")
    builder = {"package": "tensorrt", "version": version, "gpu": "Orin", "compute_capability": "8.7"}
    builder["source"] = "model.fp32.onnx"
    file = describe_file(path, kind="engine", precision="fp32", builder=builder)
    write_manifest(bundle, read_manifest(bundle).with_file(file))


def test_an_engine_that_fits_and_one_that_does_not(tmp_path, bundle):
    one = orin_nano(tmp_path / "root")
    add_engine(bundle, "10.3.0")
    assert examined(one, bundle)["model.fp32.engine"].status == "ok"
    add_engine(bundle, "10.7.0")
    check = examined(one, bundle)["model.fp32.engine"]
    assert (check.status, check.found) == ("warn", "built with tensorrt 10.7.0, and here is 10.3.0")
    assert check.fix == "build it here with 'edgefel engine DIR --rebuild'"


def test_an_engine_without_a_gpu_is_no_problem(tmp_path, bundle):
    add_engine(bundle, "10.3.0")
    assert examined(laptop(tmp_path / "root"), bundle)["model.fp32.engine"].status == "note"


def test_a_manifest_that_is_broken_is_a_finding_and_none_is_bad_input(tmp_path, bundle):
    (bundle / "manifest.json").write_text("{")
    check = examined(laptop(tmp_path / "root"), bundle)["bundle"]
    assert check.status == "fail"
    (bundle / "manifest.json").unlink()
    with pytest.raises(
        EdgefelError, match="no manifest.json here; give the folder that 'edgefel export' wrote"
    ):
        examine(laptop(tmp_path / "root"), bundle)


def test_problems_without_a_fix_cannot_be_made():
    for status in ("warn", "fail"):
        with pytest.raises(ValueError, match="needs a fix"):
            Check("thing", status, "is broken")
    with pytest.raises(ValueError, match="status 'bad' is not one of ok, note, warn, fail"):
        Check("thing", "bad", "is broken")
    assert count([Check("a", "ok", ""), Check("b", "note", "")]) == {"ok": 1, "note": 1, "warn": 0, "fail": 0}


def test_versions_and_commands():
    assert [numbers(text) for text in ("10.3.0.30+cuda12", "11", "dev")] == [(10, 3, 0, 30), (11,), ()]
    assert run_command(["echo", "hello"]) == "hello"
    assert run_command(["false"]) is None
    assert run_command(["no-such-command"]) is None


def test_real_packages_are_looked_at():
    here = Machine()
    assert here.package("numpy").version[0].isdigit()
    assert here.package("no_such_package") == Package()
    assert examined(here)["NumPy"].status == "ok"
