"""Access to the machine: files below a root, packages, commands, the GPU's driver."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from types import ModuleType
from typing import Any

from edgefel.runtime import engines
from edgefel.runtime.backends.quiet import import_quietly
from edgefel.runtime.engines import Gpu, described, runtime_problem
from edgefel.runtime.requirements import oldest_versions
from edgefel.runtime.telemetry.sysfs import below, entries, read_text
from edgefel.workers import usable_cores

_TIMEOUT = 20.0
_may_use = partial(os.access, mode=os.R_OK | os.W_OK)


@dataclass(frozen=True)
class L4t:
    """Release of Jetson Linux, such as 36.4.3."""

    major: int
    revision: str

    def __str__(self) -> str:
        return f"{self.major}.{self.revision}"

    @property
    def jetpack(self) -> int | None:
        """JetPack's major version, None if unknown.

        Source: https://developer.nvidia.com/embedded/jetpack-archive
        """
        return {32: 4, 34: 5, 35: 5, 36: 6, 38: 7, 39: 7}.get(self.major)


@dataclass(frozen=True)
class Package:
    """A Python package: module and version, or why its import fails; all None if it is not installed."""

    module: Any = None
    version: str | None = None
    error: str | None = None


def installed_version(distribution: str) -> str | None:
    """Version of an installed distribution, or None."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def run_command(command: Sequence[str]) -> str | None:
    """The output of a command; None if it does not exist, fails, or takes longer than 20 s."""
    if shutil.which(command[0]) is None:
        return None
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT, check=True)
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
    return result.stdout.strip()


def oldest_supported() -> dict[str, tuple[str, bool]]:
    """Packages with their oldest supported versions, as the installed edgefel declares; empty if not installed."""
    try:
        return oldest_versions(importlib.metadata.requires("edgefel") or ())
    except importlib.metadata.PackageNotFoundError:
        return {}


def accelerator_problem(module: ModuleType) -> str | None:
    """Why an importable package cannot be used here, in one line, found by starting it; None if it can.

    module: tensorrt, tensorrt_rtx, pycuda.driver, openvino, or onnxruntime with its CUDA provider.
    """
    name = module.__name__
    if name.startswith("tensorrt"):
        return runtime_problem(module)
    if name == "onnxruntime":
        # imported here: it needs NumPy and OpenCV, whose absence must be reported
        from edgefel.runtime.backends.onnxruntime_backend import cuda_problem

        return cuda_problem(module)
    try:
        if name == "pycuda.driver":
            module.init()
        else:
            _ = module.Core().available_devices
    except Exception as error:
        return described(error)
    return None


@dataclass(frozen=True)
class Machine:
    """Access to the machine; tests replace parts of it.

    root: where /etc, /sys, /proc, /dev and /var are. python: (major, minor, micro).
    """

    root: Path = Path("/")
    python: tuple[int, int, int] = sys.version_info[:3]
    virtual_environment: bool = sys.prefix != sys.base_prefix
    architecture: str = platform.machine()
    import_module: Callable[[str], Any] = import_quietly
    installed_version: Callable[[str], str | None] = installed_version
    run: Callable[[Sequence[str]], str | None] = run_command
    find_gpu: Callable[[], Gpu | None] = engines.find_gpu
    gpu_problem: Callable[[], str | None] = engines.gpu_problem
    driver_cuda: Callable[[], str | None] = engines.driver_cuda
    oldest_supported: Callable[[], Mapping[str, tuple[str, bool]]] = oldest_supported
    accelerator_problem: Callable[[Any], str | None] = accelerator_problem
    cores: Callable[[], int] = usable_cores
    may_use: Callable[[Path], bool] = _may_use

    @property
    def is_here(self) -> bool:
        """Whether this is the real machine, with nothing replaced."""
        return self == Machine()

    def text(self, absolute: str) -> str | None:
        """A file's text, or None."""
        return read_text(below(self.root, absolute))

    def paths(self, pattern: str) -> list[Path]:
        """Paths that match an absolute glob pattern."""
        return entries(self.root, pattern)

    def package(self, name: str) -> Package:
        """Imports a package."""
        try:
            module = self.import_module(name)
        except ModuleNotFoundError as error:
            # if an installed package lacks another one, the error has the other's name
            missing = (error.name or name) == name.partition(".")[0]
            return Package() if missing else Package(error=described(error))
        except Exception as error:  # a broken package raises anything
            return Package(error=described(error))
        return Package(module, str(getattr(module, "__version__", None) or "of unknown version"))

    @cached_property
    def gpu(self) -> Gpu | None:
        """The first CUDA device."""
        return self.find_gpu()

    @cached_property
    def model(self) -> str | None:
        """The board's name in the device tree."""
        return self.text("/proc/device-tree/model") or None

    @cached_property
    def l4t(self) -> L4t | None:
        """Release of Jetson Linux: "# R36 (release), REVISION: 4.3, GCID: ..." in /etc/nv_tegra_release."""
        match = re.search(
            r"R(\d+)\s*\(release\),\s*REVISION:\s*([\d.]+)", self.text("/etc/nv_tegra_release") or ""
        )
        return None if match is None else L4t(int(match[1]), match[2])

    @property
    def is_jetson(self) -> bool:
        """By its release file, or in a container, which may lack that, by the device tree."""
        compatible = self.text("/proc/device-tree/compatible") or ""
        return self.l4t is not None or "nvidia,tegra" in compatible
