"""Checks of Python and the packages: required ones, accelerators, video and windows."""

from __future__ import annotations

import re
from collections.abc import Iterator

from edgefel import __version__
from edgefel.runtime.doctor.check import Check, Status
from edgefel.runtime.doctor.machine import Machine, Package
from edgefel.runtime.requirements import numbers, older

OLDEST_PYTHON = (3, 10)
OLDEST_TENSORRT = (10, 3)  # of JetPack 6
# a system's own OpenCV may be older than pip's; this is the version of Ubuntu 22.04
OLDEST_OPENCV = "4.5.4"
# these have their own checks
_EXAMINED = ("numpy", "opencv-python-headless", "onnxruntime", "openvino", "pycuda", "tensorrt-rtx-cu13")
TENSORRT_PACKAGES = ("tensorrt", "tensorrt_rtx")
_OPENCV = "opencv-python-headless>=4.10,<5"
_REINSTALL = "pip install --force-reinstall"
_REINSTALL_JETPACK = "sudo apt install --reinstall nvidia-jetpack"
_SYSTEM_PACKAGES = "python3 -m venv --system-site-packages"


def python_checks(machine: Machine) -> Iterator[Check]:
    """Python and edgefel itself."""
    version = ".".join(map(str, machine.python))
    if machine.python[:2] < OLDEST_PYTHON:
        needed = ".".join(map(str, OLDEST_PYTHON))
        yield Check("Python", "fail", version, f"install Python {needed} or later")
    else:
        where = "in a virtual environment" if machine.virtual_environment else "without a virtual environment"
        yield Check("Python", "ok", f"{version}, {where}")
    installed = machine.installed_version("edgefel")
    if installed is None:
        yield Check("edgefel", "note", f"{__version__}, run from a folder and not installed")
    else:
        yield Check("edgefel", "ok", __version__)


def base_checks(machine: Machine) -> Iterator[Check]:
    """NumPy, OpenCV, ONNX Runtime and the other required packages."""
    numpy, opencv, onnxruntime = (machine.package(name) for name in ("numpy", "cv2", "onnxruntime"))
    version = str(numpy.version)
    yield (
        _missing("NumPy", numpy, "numpy")
        or _outdated(machine, "NumPy", version, "numpy")
        or Check("NumPy", "ok", version)
    )
    if (check := _missing("OpenCV", opencv, _OPENCV)) is not None:
        yield check
    else:
        yield from _opencv(machine, opencv)
    version = str(onnxruntime.version)
    yield (
        _missing("ONNX Runtime", onnxruntime, "onnxruntime")
        or _outdated(machine, "ONNX Runtime", version, "onnxruntime")
        or _onnxruntime(machine, onnxruntime)
    )
    yield from _other_packages(machine)


def _missing(name: str, package: Package, requirement: str) -> Check | None:
    """A failure if a required package is not installed or does not import; else None."""
    if package.module is not None:
        return None
    if package.error is None:
        return Check(name, "fail", "not installed", f"pip install '{requirement}'")
    return Check(name, "fail", f"does not import: {package.error}", f"{_REINSTALL} '{requirement}'")


def _outdated(
    machine: Machine, name: str, version: str, distribution: str, status: Status = "fail"
) -> Check | None:
    """A check of that status if the version is older than supported; else None."""
    oldest, _ = machine.oldest_supported().get(distribution, ("", False))
    if not older(version, oldest):
        return None
    found = f"{version}; edgefel needs {oldest} or later"
    return Check(name, status, found, f"pip install '{distribution}>={oldest}'")


def _other_packages(machine: Machine) -> Iterator[Check]:
    """Versions of all other installed packages that edgefel uses; each outdated one has its own check."""
    current = []
    for name, (_, needed) in machine.oldest_supported().items():
        version = None if name in _EXAMINED else machine.installed_version(name)
        if version is None:
            continue
        if (outdated := _outdated(machine, name, version, name, "fail" if needed else "warn")) is not None:
            yield outdated
        else:
            current.append(f"{name} {version}")
    if current:
        yield Check("other packages", "ok", ", ".join(current))


def _opencv(machine: Machine, package: Package) -> Iterator[Check]:
    fix = f"pip install '{_OPENCV}'"
    if not hasattr(package.module, "CascadeClassifier"):
        yield Check("OpenCV", "fail", f"{package.version}, without the Haar cascades that find faces", fix)
        return
    if older(str(package.version), OLDEST_OPENCV):
        yield Check("OpenCV", "fail", f"{package.version}; edgefel needs {OLDEST_OPENCV} or later", fix)
        return
    names = ("opencv-python", "opencv-python-headless", "opencv-contrib-python")
    several = [name for name in names if machine.installed_version(name)]
    if len(several) > 1:
        found = f"{package.version}; {' and '.join(several)} overwrite each other"
        yield Check("OpenCV", "warn", found, f"pip uninstall {' '.join(several)}; {fix}")
    else:
        yield Check("OpenCV", "ok", str(package.version))
    build = str(package.module.getBuildInformation())
    window = _build_entry(build, "GUI")
    if window is None or window.upper() == "NONE":
        fix = "for a window: pip uninstall opencv-python-headless; pip install 'opencv-python>=4.10,<5'"
        yield Check("window", "note", "OpenCV is headless: results go to files and stdout", fix)
    else:
        yield Check("window", "ok", f"OpenCV draws with {window}")
    yield _video(build)


def _video(build: str) -> Check:
    readers = [
        name for name in ("FFMPEG", "GStreamer") if (_build_entry(build, name) or "NO").startswith("YES")
    ]
    if readers:
        return Check("video", "ok", f"OpenCV reads with {' and '.join(readers)}")
    found = "OpenCV has neither FFMPEG nor GStreamer, so it opens no stream and few videos"
    return Check("video", "warn", found, f"{_REINSTALL} '{_OPENCV}'")


def _build_entry(build: str, name: str) -> str | None:
    """The value of a line such as "  GStreamer:   YES (1.20.3)" in OpenCV's build information."""
    match = re.search(rf"^\s+{name}:[ \t]*(\S.*)$", build, re.M)
    return match[1].strip() if match else None


def _onnxruntime(machine: Machine, package: Package) -> Check:
    name = "ONNX Runtime"
    try:
        providers = [
            one.removesuffix("ExecutionProvider") for one in package.module.get_available_providers()
        ]
    except AttributeError:
        found = "a folder without its library, left behind by an uninstalled package"
        return Check(name, "fail", found, f"{_REINSTALL} onnxruntime")
    found = f"{package.version}: {', '.join(providers)}"
    if machine.gpu is None:
        return Check(name, "ok", found)
    if "CUDA" in providers and (problem := machine.accelerator_problem(package.module)) is not None:
        fix = (
            "install the CUDA and cuDNN libraries it was built for: pip install 'onnxruntime-gpu[cuda,cudnn]'"
        )
        return Check(name, "fail", f"{found}; CUDA does not start: {problem}", fix)
    if {"CUDA", "Tensorrt"} & set(providers):
        return Check(name, "ok", found)
    fix = "the TensorRT backend uses the GPU"
    if not machine.is_jetson:  # there is no wheel with CUDA for a Jetson in the package index
        fix += ", or: pip uninstall onnxruntime; pip install onnxruntime-gpu"
    return Check(name, "note", f"{found}; it does not use the GPU", fix)


def accelerator_checks(machine: Machine) -> Iterator[Check]:
    """GPU, TensorRT, pycuda, OpenVINO."""
    yield _gpu(machine)
    yield from _tensorrt(machine)
    yield _pycuda(machine)
    yield from _openvino(machine)


def _openvino(machine: Machine) -> Iterator[Check]:
    package, fix = machine.package("openvino"), f"{_REINSTALL} openvino"
    if package.module is not None:
        version = str(package.version)
        if (outdated := _outdated(machine, "OpenVINO", version, "openvino")) is not None:
            yield outdated
        elif (problem := machine.accelerator_problem(package.module)) is not None:
            yield Check("OpenVINO", "fail", f"{version}; it does not start: {problem}", fix)
        else:
            yield Check("OpenVINO", "ok", version)
    elif package.error is not None:
        yield Check("OpenVINO", "fail", f"does not import: {package.error}", fix)
    elif machine.architecture.lower() in ("x86_64", "amd64") and machine.gpu is None:
        found = "not installed; the faster backend on an x86 CPU"
        yield Check("OpenVINO", "note", found, "pip install 'edgefel[openvino]'")


def _severity(machine: Machine) -> Status:
    """Of a broken package for NVIDIA GPUs: a failure where this machine should use one, else a warning."""
    should = machine.gpu is not None or machine.is_jetson or machine.driver_cuda() is not None
    return "fail" if should else "warn"


def _gpu(machine: Machine) -> Check:
    name, cuda, advice = "NVIDIA GPU", machine.driver_cuda(), "look at nvidia-smi and its advice"
    if machine.gpu is not None:
        return Check(name, "ok", f"{machine.gpu}, CUDA {cuda or 'of unknown version'}")
    if (problem := machine.gpu_problem()) is not None:
        found, _, fix = problem.rpartition("; ")
        status: Status = "fail" if machine.is_jetson else "warn"
        return Check(name, status, found or problem, fix if found else advice)
    if machine.is_jetson:
        fix = (
            "in a container start it with --runtime nvidia, else reinstall: sudo apt install nvidia-l4t-cuda"
        )
        return Check(name, "fail", "the driver finds no GPU" if cuda else "no driver (libcuda.so.1)", fix)
    if cuda is not None:
        return Check(name, "warn", f"driver for CUDA {cuda}, and it finds no GPU", advice)
    return Check(name, "note", "none: the CPU does the work")


def _tensorrt(machine: Machine) -> Iterator[Check]:
    packages = {name: machine.package(name) for name in TENSORRT_PACKAGES}
    for name, package in packages.items():
        if package.module is not None:
            yield _tensorrt_version(name, package, machine)
        elif package.error is not None:
            jetpack = machine.is_jetson and name == "tensorrt"
            fix = _REINSTALL_JETPACK if jetpack else f"{_REINSTALL} {name}"
            yield Check(name, _severity(machine), f"does not import: {package.error}", fix)
    if any(package.module or package.error for package in packages.values()):
        return
    if machine.is_jetson:
        yield Check("TensorRT", "fail", *_missing_on_jetson(machine))
    elif machine.gpu is not None:
        found = "not installed; the fastest backend on this GPU"
        yield Check("TensorRT", "note", found, "pip install 'edgefel[rtx]'")
    else:
        yield Check("TensorRT", "note", "not installed; it is for NVIDIA GPUs")


def _tensorrt_version(name: str, package: Package, machine: Machine) -> Check:
    version = str(package.version)
    if name == "tensorrt" and numbers(version)[:2] < OLDEST_TENSORRT:
        oldest = ".".join(map(str, OLDEST_TENSORRT))
        fix = "install JetPack 6 or later" if machine.is_jetson else f"pip install 'tensorrt>={oldest}'"
        return Check(name, _severity(machine), f"{version}; edgefel needs {oldest} or later", fix)
    if (problem := machine.accelerator_problem(package.module)) is not None:
        if _severity(machine) == "fail":
            fix = "look at nvidia-smi; driver and TensorRT must be for the same CUDA"
            fix = _REINSTALL_JETPACK if machine.is_jetson else fix
            return Check(name, "fail", f"{version}; it does not start: {problem.partition('; ')[0]}", fix)
        found = (
            f"{version}; it does not start without an NVIDIA GPU, neither to build engines nor to run them"
        )
        return Check(name, "warn", found, f"pip uninstall {name}, or use a machine with a GPU")
    if machine.gpu is None:
        return Check(name, "ok", f"{version}; it builds engines here, and runs them on a GPU alone")
    return Check(name, "ok", version)


def _missing_on_jetson(machine: Machine) -> tuple[str, str]:
    """Finding and fix if TensorRT is missing on a Jetson, where the environment often hides JetPack's package."""
    hidden = machine.paths("/usr/lib/python3*/dist-packages/tensorrt")
    if not hidden:
        return "not installed", "sudo apt update && sudo apt install nvidia-jetpack"
    system = hidden[0].parent.parent.name  # "python3.10" or "python3"
    own = f"python{machine.python[0]}.{machine.python[1]}"
    if machine.virtual_environment:
        return (
            "JetPack's is hidden by the virtual environment",
            f"make the environment with: {_SYSTEM_PACKAGES} DIR",
        )
    return (
        f"JetPack's is for the system's {system}, and this is {own}",
        f"use the system's Python: /usr/bin/{_SYSTEM_PACKAGES} DIR",
    )


def _pycuda(machine: Machine) -> Check:
    package, broken = machine.package("pycuda"), _severity(machine)
    if package.error is not None:
        return Check("pycuda", broken, f"does not import: {package.error}", f"{_REINSTALL} pycuda")
    if package.module is None:
        if machine.gpu is None and not machine.is_jetson:
            return Check("pycuda", "note", "not installed; it is for NVIDIA GPUs")
        found = "not installed; the TensorRT backend needs it"
        return Check("pycuda", "warn", found, "pip install 'edgefel[jetson]'")
    version = str(getattr(package.module, "VERSION_TEXT", None) or package.version)
    if (outdated := _outdated(machine, "pycuda", version, "pycuda", broken)) is not None:
        return outdated
    if machine.gpu is not None:
        driver, fix = machine.package("pycuda.driver"), f"{_REINSTALL} --no-cache-dir pycuda"
        if driver.module is None:
            found = f"does not import: {driver.error or 'pycuda.driver is missing'}"
            return Check("pycuda", broken, found, fix)
        if (problem := machine.accelerator_problem(driver.module)) is not None:
            return Check("pycuda", broken, f"{version}; it does not start: {problem}", fix)
    return Check("pycuda", "ok", version)
