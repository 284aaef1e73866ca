"""Finds the GPU and the TensorRT packages, and checks whether they can run a bundle's engine.

Two packages build and run engines: `tensorrt`, which is part of JetPack, and `tensorrt_rtx`. An engine runs in the
package that built it, usually only in the same version and on the same GPU model.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
import os
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import ModuleType
from typing import TYPE_CHECKING, Any

from edgefel.errors import EdgefelError
from edgefel.runtime.requirements import numbers
from edgefel.text import one_line

if TYPE_CHECKING:  # it needs NumPy and OpenCV, and `edgefel doctor` must be able to say that they are missing
    from edgefel.runtime.manifest import BundleFile

PACKAGES = ("tensorrt", "tensorrt_rtx")
_REBUILD = "build it here with 'edgefel engine DIR --rebuild'"
_MAJOR_ATTRIBUTE, _MINOR_ATTRIBUTE = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_{MAJOR,MINOR} of cuda.h
_MOST_MESSAGES = 1000
_SHOWN_MESSAGES = 5
_NO_DEVICE = 100
# of cuda.h, those that a machine meets before its first program runs
_DRIVER_ERRORS = {
    34: "this is the toolkit's stub of the driver; take its folder off LD_LIBRARY_PATH",
    35: "it is older than this CUDA needs; update the driver",
    _NO_DEVICE: "it finds no GPU; see nvidia-smi, and start a container with --gpus all (Jetson: --runtime nvidia)",
    802: "the GPUs are not ready yet; start nvidia-fabricmanager",
    803: "the driver and its library are of different versions; reboot after an update of the driver",
    804: "the CUDA compatibility package does not support this GPU; remove it (cuda-compat)",
    999: "unknown error; reboot, or load the module nvidia_uvm again",
}
# GPUs that have kernels for a format, and what they are called: TensorRT for RTX, support matrix, "Hardware and
# Precision"; Model Optimizer, support matrix
_LEAST_CAPABILITY = {"fp8": ((8, 9), "Ada"), "w8a16": ((8, 0), "Ampere"), "w4a16": ((8, 0), "Ampere")}
_OLDEST_PORTABLE = (8, 0)  # Ampere; both "ampere_plus" and RTX's default start there


@dataclass(frozen=True)
class Gpu:
    """A CUDA device: its name and its compute capability, (8, 7) for a Jetson Orin."""

    name: str
    capability: tuple[int, int]

    def __str__(self) -> str:
        return f"{self.name} (compute capability {self.capability_text})"

    @property
    def capability_text(self) -> str:
        """Such as "8.7"."""
        return "{}.{}".format(*self.capability)


@dataclass(frozen=True)
class Here:
    """Installed versions by package name, and the first CUDA device or None.

    broken: packages that are installed and do not import, and why. gpu_problem: why a driver that is there finds no
    GPU; None where it finds one, or there is no driver.
    """

    versions: Mapping[str, str]
    gpu: Gpu | None
    broken: Mapping[str, str] = field(default_factory=dict)
    gpu_problem: str | None = None


def find_gpu() -> Gpu | None:
    """The first CUDA device, asked of the driver's own library; None without a driver or a device."""
    found = _ask_driver()
    return found if isinstance(found, Gpu) else None


def gpu_problem() -> str | None:
    """Why the driver that is there finds no GPU, in one line; None if it finds one, or there is no driver."""
    found = _ask_driver()
    return found if isinstance(found, str) else None


def driver_cuda() -> str | None:
    """The newest CUDA version that the NVIDIA driver supports ("12.6"), or None without a driver."""
    driver, version = _driver(), ctypes.c_int()
    if driver is None or driver.cuDriverGetVersion(ctypes.byref(version)) != 0:
        return None
    return f"{version.value // 1000}.{version.value % 1000 // 10}"


def _driver() -> Any:
    try:
        return ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return None


def _ask_driver() -> Gpu | str | None:
    """The first CUDA device, what is wrong with the driver, or None without a driver."""
    if (driver := _driver()) is None:
        return None
    device, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    name = ctypes.create_string_buffer(256)
    calls = (
        lambda: driver.cuInit(0),
        lambda: driver.cuDeviceGet(ctypes.byref(device), 0),
        lambda: driver.cuDeviceGetName(name, len(name), device),
        lambda: driver.cuDeviceGetAttribute(ctypes.byref(major), _MAJOR_ATTRIBUTE, device),
        lambda: driver.cuDeviceGetAttribute(ctypes.byref(minor), _MINOR_ATTRIBUTE, device),
    )
    try:
        for call in calls:
            if (code := call()) != 0:
                return _driver_problem(code)
    except AttributeError as error:  # a library of that name that is not the driver's
        return f"the CUDA driver's library lacks a function ({error}); reinstall the driver"
    return Gpu(name.value.decode(errors="replace"), (major.value, minor.value))


def _driver_problem(code: int) -> str:
    """What the driver's error code means, and what to do."""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if code == _NO_DEVICE and hidden is not None:
        return f"CUDA_VISIBLE_DEVICES={hidden!r} hides it; unset that variable"
    what = _DRIVER_ERRORS.get(code, "see nvidia-smi")
    return f"the CUDA driver reports error {code}: {what}"


def load_package(name: str) -> ModuleType | str | None:
    """The package of that name, why it does not load although it is installed, or None if it is not installed."""
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        return None if error.name in (None, name) else described(error)
    except Exception as error:  # its libraries are missing, or made for another CUDA, NumPy or Python
        return described(error)
    if not hasattr(module, "__version__"):  # a folder that an uninstalled package left behind
        return f"{name} is incomplete: it has no __version__"
    return module


def described(error: BaseException) -> str:
    """An error of another library in one line: its type, and what it says."""
    text = one_line(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def look_here(packages: tuple[str, ...] = PACKAGES) -> Here:
    """Looks for these packages and for a GPU."""
    versions, broken = {}, {}
    for name in packages:
        found = load_package(name)
        if isinstance(found, str):
            broken[name] = found
        elif found is not None:
            versions[name] = str(found.__version__)
    gpu = find_gpu()
    return Here(versions, gpu, broken, gpu_problem() if gpu is None else None)


@contextmanager
def explained(what: str, messages: Messages, fix: str) -> Iterator[None]:
    """Turns what TensorRT's or pycuda's Python package raises in the block into an EdgefelError.

    The packages raise TypeError where TensorRT returns a null pointer, and RuntimeError, MemoryError and types of
    their own otherwise. The message is what TensorRT has logged meanwhile, or else the error itself. Our own
    errors pass, and so do the disk's.
    """
    said = len(messages.errors)
    try:
        yield
    except (EdgefelError, OSError):
        raise
    except Exception as error:
        reasons = "; ".join(messages.errors[said:][:_SHOWN_MESSAGES]) or described(error)
        raise EdgefelError(f"{what} ({reasons}); {fix}") from error


def start_runtime(trt: ModuleType, logger: Any, messages: Messages) -> Any:
    """TensorRT's runtime; raises EdgefelError where there is none, as where CUDA does not work."""
    what = f"{trt.__name__} {trt.__version__} cannot start here"
    fix = (
        "check the GPU and its driver with 'edgefel doctor', or run the ONNX file with --backend onnxruntime"
    )
    with explained(what, messages, fix):
        runtime = trt.Runtime(logger)
        if runtime is None:
            raise RuntimeError("it makes no runtime")
        return runtime


def runtime_problem(trt: ModuleType) -> str | None:
    """Why TensorRT's runtime does not start here, in one line; None if it does."""
    try:
        with listen(trt) as (logger, messages):
            start_runtime(trt, logger, messages)
    except EdgefelError as error:
        return str(error)
    except Exception as error:  # its logger cannot even be made
        return f"{trt.__name__} cannot be used here ({described(error)})"
    return None


def lacks_format(precision: str, capability: tuple[int, int]) -> str | None:
    """Why GPUs of that compute capability cannot run an engine of this precision, in a few words; None if they can."""
    least, name = _LEAST_CAPABILITY.get(precision, ((0, 0), ""))
    if capability >= least:
        return None
    return "{} needs {} or later (compute capability {}.{})".format(precision, name, *least)


def check_engine(file: BundleFile, here: Here | None = None) -> str | None:
    """Why this engine cannot be used here, naming what it was built with and what is here; None if it can.

    It goes by the manifest and opens no file. `here` is what to compare with, looked up without it.
    Raises EdgefelError if `file` is not an engine.
    """
    here = here or _here_for(file)
    reason = engine_mismatch(file, here)
    if reason is None and here.gpu is None:
        why = f" ({here.gpu_problem})" if here.gpu_problem else ""
        return f"{file.name}: engines run on an NVIDIA GPU, and none is found here{why}; use the ONNX file"
    return reason


def engine_mismatch(file: BundleFile, here: Here | None = None) -> str | None:
    """As `check_engine`, for a machine that may build engines and not run them: no GPU here is no reason."""
    if file.kind != "engine":
        raise EdgefelError(f"{file.name}: is of kind {file.kind}, not an engine")
    here = here or _here_for(file)
    built = file.builder or {}
    package, version = built.get("package"), built.get("version")
    if package not in PACKAGES or not isinstance(version, str):
        return f"{file.name}: the manifest does not say which TensorRT built it; {_REBUILD}"
    installed = here.versions.get(package)
    if (broken := here.broken.get(package)) is not None:
        return (
            f"{file.name}: built with {package} {version}, which does not load here ({broken}); reinstall it"
        )
    if installed is None:
        return f"{file.name}: built with {package} {version}, which is not installed here; {_REBUILD}"
    portable = package == "tensorrt" and _option(built, "version_compatible")
    if installed != version and not (portable and _reads_older(version, installed)):
        return f"{file.name}: built with {package} {version}, and here is {installed}; {_REBUILD}"
    if here.gpu is not None and (lacking := lacks_format(file.precision, here.gpu.capability)) is not None:
        return f"{file.name}: {lacking}, and here is {here.gpu}; use another precision"
    if here.gpu is not None and (target := _wrong_target(built, here.gpu)) is not None:
        return f"{file.name}: built for {target}, and here is {here.gpu}; {_REBUILD}"
    return None


def _here_for(file: BundleFile) -> Here:
    package = (file.builder or {}).get("package")
    return look_here((package,) if package in PACKAGES else ())


def _reads_older(built: str, installed: str) -> bool:
    """TensorRT's own rule for version-compatible engines: a later release of the same major version, and
    across major versions 8 in 10 and 10 in 11. Source: its support matrix, "Engine Portability"."""
    old, new = numbers(built)[:3], numbers(installed)[:3]
    if not old or not new:
        return False
    return (old[0] == new[0] and old <= new) or (old[0], new[0]) in ((8, 10), (10, 11))


def _wrong_target(built: Mapping[str, Any], gpu: Gpu) -> str | None:
    """What the engine was built for, in words, where `gpu` is something else."""
    name, capability = built.get("gpu"), built.get("compute_capability")
    if built["package"] == "tensorrt_rtx":
        return _wrong_rtx_target(_option(built, "compute_capabilities") or (), capability, gpu)
    level = _option(built, "hardware_compatibility")
    if level == "ampere_plus":
        return None if gpu.capability >= _OLDEST_PORTABLE else "Ampere and later GPUs (ampere_plus)"
    differs = capability is not None and capability != gpu.capability_text
    if level == "same_compute_capability":
        return f"GPUs of compute capability {capability}" if differs else None
    if differs or (name is not None and name != gpu.name):
        return f"{name} (compute capability {capability or 'not recorded'})"
    return None


def _wrong_rtx_target(targets: Any, built_on: str | None, gpu: Gpu) -> str | None:
    """RTX engines without targets run on Ampere and later; with targets, on these alone.

    Source: TensorRT for RTX, "CPU-Only AOT and TensorRT-RTX Engines".
    """
    if not targets:
        return None if gpu.capability >= _OLDEST_PORTABLE else "Ampere and later GPUs"
    names = [f"sm_{(built_on or '').replace('.', '')}" if name == "current" else name for name in targets]
    return None if "sm_{}{}".format(*gpu.capability) in names else ", ".join(names)


def _option(built: Mapping[str, Any], name: str) -> Any:
    options = built.get("options")
    return options.get(name) if isinstance(options, Mapping) else None


@dataclass
class Messages:
    """Collected TensorRT messages, one line each."""

    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


@contextmanager
def listen(trt: ModuleType) -> Iterator[tuple[Any, Messages]]:
    """Yields TensorRT's logger and what it collects until the block ends. One block at a time per process.

    The process has one logger. TensorRT ignores a second one, with a warning, while a builder or runtime uses the
    first.
    """
    logger = _logger(trt)
    with logger.busy:
        logger.messages = Messages()
        yield logger, logger.messages


@functools.cache
def _logger(trt: ModuleType) -> Any:
    severity = trt.ILogger.Severity

    class Collector(trt.ILogger):  # type: ignore[misc,name-defined]
        """Collects messages instead of printing them. TensorRT calls it from its own threads."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.messages = Messages()
            self.busy = threading.Lock()

        def log(self, level: Any, message: str) -> None:
            text = one_line(message)
            # TensorRT for RTX reports this remark as an internal error on every start
            remark = "Thread context has not been set" in text
            if level == severity.WARNING:
                kept = self.messages.warnings
            elif level in (severity.ERROR, severity.INTERNAL_ERROR) and not remark:
                kept = self.messages.errors
            else:
                return
            kept.append(text)
            if len(kept) > _MOST_MESSAGES:  # an engine may log on every run
                del kept[: _MOST_MESSAGES // 2]

    return Collector()
