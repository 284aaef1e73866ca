"""The doctor on machines made of files and packages: two Jetsons, laptops, and broken ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import fake_boards
import pytest
import tiny_bundle

from edgefel.errors import EdgefelError
from edgefel.runtime.doctor.check import Check, count
from edgefel.runtime.doctor.examine import examine
from edgefel.runtime.doctor.machine import Machine, Package, run_command
from edgefel.runtime.engines import Gpu
from edgefel.runtime.manifest import describe_file, read_manifest, write_manifest
from edgefel.runtime.requirements import numbers

BUILD = "  Video I/O:\n    FFMPEG:                      YES\n    GStreamer:                   {gst}\n\n  GUI:  {gui}\n"
ORIN, THOR, DESKTOP = Gpu("Orin", (8, 7)), Gpu("NVIDIA Thor", (11, 0)), Gpu("RTX 4070", (8, 9))


OLDEST = {"numpy": ("1.23", True), "onnxruntime": ("1.17", True), "pycuda": ("2025.1.2", False)}
OLDEST |= {"openvino": ("2025.0", False), "click": ("8.1", True), "torch": ("2.9", False)}


def opencv(version="4.12.0", gui="NONE", gst="NO", **more):
    build = BUILD.format(gui=gui, gst=gst)
    members = {"__version__": version, "CascadeClassifier": object, "getBuildInformation": lambda: build}
    return SimpleNamespace(**(members | more))


def onnxruntime(*providers: str, version="1.23.0"):
    names = [f"{name}ExecutionProvider" for name in (*providers, "CPU")]
    return SimpleNamespace(__version__=version, get_available_providers=lambda: names)


def version(text: str):
    return SimpleNamespace(__version__=text)


BASE = {"numpy": version("2.2.6"), "cv2": opencv(), "onnxruntime": onnxruntime()}
GSTREAMER = {
    "gst-launch-1.0": "gst-launch-1.0 version 1.20.3\nGStreamer 1.20.3",
    "nvarguscamerasrc": "Factory Details",
    "gdppay": "Factory Details",
    "nvv4l2decoder": "Factory Details",
    "nvvidconv": "Factory Details",
}


def machine(root: Path, modules: dict, *, gpu=None, cuda=None, commands=None, **changes) -> Machine:
    """A machine that has these modules (an exception is raised instead) and answers these commands."""

    def load(name: str):
        if name not in modules:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        if isinstance(modules[name], BaseException):
            raise modules[name]
        return modules[name]

    def answer(command):
        return next((out for part, out in (commands or {}).items() if part in command), None)

    values = {"python": (3, 10, 12), "virtual_environment": True, "architecture": "aarch64"} | changes
    return Machine(
        root=root,
        import_module=load,
        run=answer,
        find_gpu=lambda: gpu,
        driver_cuda=lambda: cuda,
        oldest_supported=lambda: OLDEST,
        cores=lambda: 6,
        **{
            "may_use": lambda path: True,
            "installed_version": lambda name: "0.1.0" if name == "edgefel" else None,
            "gpu_problem": lambda: None,
            "accelerator_problem": lambda module: None,
            **values,
        },
    )


def orin_nano(root: Path, **changes) -> Machine:
    """Orin Nano Super with JetPack 6.2, a CSI and a USB camera, and everything installed."""
    fake_boards.orin_nano(root)
    files = {"/dev/video0": "", "/sys/class/video4linux/video0/name": "vi-output, imx219 9-0010"}
    files |= {"/dev/video1": "", "/sys/class/video4linux/video1/name": "HD Webcam C270"}
    fake_boards.write(root, files)
    packages = BASE | {"tensorrt": version("10.3.0"), "pycuda.driver": version("2025.1.2")}
    packages["pycuda"] = SimpleNamespace(VERSION_TEXT="2025.1.2")
    commands = {"nvidia-jetpack": "6.2+b77", **GSTREAMER}
    given = {"gpu": ORIN, "cuda": "12.6", "commands": commands} | changes
    return machine(root, packages | given.pop("modules", {}), **given)


def laptop(root: Path, modules=BASE, **changes) -> Machine:
    """A PC without an NVIDIA GPU, fresh from pip install."""
    fake_boards.write(root, {"/proc/meminfo": fake_boards.MEMINFO})
    return machine(root, modules, **{"architecture": "x86_64", "python": (3, 12, 3), **changes})


def examined(one: Machine, folder: Path | None = None) -> dict[str, Check]:
    checks = examine(one, folder)
    named = {check.name: check for check in checks}
    assert len(named) == len(checks), "a thing is reported twice"
    for check in checks:
        assert "\n" not in check.found + (check.fix or "")
    return named


def statuses(checks: dict[str, Check], *which: str) -> list[str]:
    return [name for name, check in checks.items() if check.status in which]


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
    checks = {
        check.name: check for check in bundle_checks(Machine(), tiny_bundle.write_bundle(tmp_path / "b"))
    }
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
