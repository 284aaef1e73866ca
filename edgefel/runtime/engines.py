"""What is here to run TensorRT engines, and whether a bundle's engine can be used with it.

Two packages build and run engines: `tensorrt`, which a Jetson has from JetPack, and `tensorrt_rtx`. An engine
runs in the package that built it, as a rule in that very version and on that model of GPU.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
import re
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from edgefel.errors import EdgefelError
from edgefel.runtime.manifest import BundleFile

PACKAGES = ("tensorrt", "tensorrt_rtx")
_REBUILD = "build it here with 'edgefel engine DIR --rebuild'"
_MAJOR_ATTRIBUTE, _MINOR_ATTRIBUTE = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_{MAJOR,MINOR} of cuda.h
_MOST_MESSAGES = 1000
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
    """Installed versions by package name, and the first CUDA device or None."""

    versions: Mapping[str, str]
    gpu: Gpu | None


def find_gpu() -> Gpu | None:
    """The first CUDA device, asked of the driver's own library; None without a driver or a device."""
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
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
    if any(call() != 0 for call in calls):
        return None
    return Gpu(name.value.decode(errors="replace"), (major.value, minor.value))


def import_package(name: str) -> ModuleType | None:
    """The TensorRT package of that name, or None where it is not installed or its libraries do not load."""
    try:
        return importlib.import_module(name)
    except (ImportError, OSError):  # OSError: the wheel is there, a shared library it opens is not
        return None


def look_here(packages: tuple[str, ...] = PACKAGES) -> Here:
    """Looks for these packages and for a GPU."""
    modules = {name: import_package(name) for name in packages}
    versions = {name: str(module.__version__) for name, module in modules.items() if module is not None}
    return Here(versions, find_gpu())


def check_engine(file: BundleFile, here: Here | None = None) -> str | None:
    """Why this engine cannot be used here, naming what it was built with and what is here; None if it can.

    It goes by the manifest and opens no file. `here` is what to compare with, looked up without it.
    Raises EdgefelError if `file` is not an engine.
    """
    here = here or _here_for(file)
    reason = engine_mismatch(file, here)
    if reason is None and here.gpu is None:
        return f"{file.name}: engines run on an NVIDIA GPU, and none is found here; use the ONNX file"
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
    if installed is None:
        return f"{file.name}: built with {package} {version}, which is not installed here; {_REBUILD}"
    if installed != version and not (_is_portable(built) and _reads_older(version, installed)):
        return f"{file.name}: built with {package} {version}, and here is {installed}; {_REBUILD}"
    if here.gpu is not None and (target := _wrong_target(built, here.gpu)) is not None:
        return f"{file.name}: built for {target}, and here is {here.gpu}; {_REBUILD}"
    return None


def _here_for(file: BundleFile) -> Here:
    package = (file.builder or {}).get("package")
    return look_here((package,) if package in PACKAGES else ())


def _is_portable(built: Mapping[str, Any]) -> bool:
    return built["package"] == "tensorrt" and bool(_option(built, "version_compatible"))


def _reads_older(built: str, installed: str) -> bool:
    """TensorRT's own rule for version-compatible engines: a later release of the same major version, and
    across major versions 8 in 10 and 10 in 11. Source: its support matrix, "Engine Portability"."""
    old, new = (tuple(int(number) for number in re.findall(r"\d+", text)[:3]) for text in (built, installed))
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
    """What TensorRT said meanwhile, one line each."""

    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


@contextmanager
def listen(trt: ModuleType) -> Iterator[tuple[Any, Messages]]:
    """Yields TensorRT's logger and what it collects until the block ends. One block at a time per process.

    There is one logger for the process, and who listens changes: TensorRT warns of a second one while any builder
    or runtime with another lives, and says that it goes on with the first.
    """
    logger = _logger(trt)
    with logger.busy:
        logger.messages = Messages()
        yield logger, logger.messages


@functools.cache
def _logger(trt: ModuleType) -> Any:
    severity = trt.ILogger.Severity

    class Collector(trt.ILogger):  # type: ignore[misc,name-defined]
        """Keeps what TensorRT says instead of printing it. TensorRT calls it from threads of its own."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.messages = Messages()
            self.busy = threading.Lock()

        def log(self, level: Any, message: str) -> None:
            text = " ".join(message.split())
            if level == severity.WARNING:
                _keep(self.messages.warnings, text)
            # TensorRT for RTX reports this remark as an internal error on every start
            elif (
                level in (severity.ERROR, severity.INTERNAL_ERROR)
                and "Thread context has not been set" not in text
            ):
                _keep(self.messages.errors, text)

    return Collector()


def _keep(messages: list[str], text: str) -> None:
    """Adds a message; of very many the oldest go, since an engine may say something each time it runs."""
    messages.append(text)
    if len(messages) > _MOST_MESSAGES:
        del messages[: _MOST_MESSAGES // 2]
