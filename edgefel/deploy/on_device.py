"""Answers the questions of install.sh and run.sh on a device: `python -m edgefel.deploy.on_device QUESTION`.

    requirements   prints what pip must still install, a line each
    gpu            exit code 0 if engines can be built here, else 1 and why not
    engines        the same, if they can be run as well

The first runs before anything is installed, so this module imports only the standard library at that point.
"""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from types import ModuleType

from edgefel.runtime.requirements import numbers

OPENCV = "opencv-python-headless"
# dist name -> module, where they differ by more than a dash
_MODULES = {OPENCV: "cv2"}
# Asked of a process of its own: an OpenCV that was built for another NumPy can take the process down. The
# cascade is part of the question, since a Linux distribution may pack it apart from the module.
_USE_OPENCV = """
import numpy as np
import cv2
assert (4, 5, 4) <= tuple(int(part) for part in cv2.__version__.split("-")[0].split(".")[:3]) < (5,), cv2.__version__
from edgefel.runtime.faces import HaarDetector
HaarDetector()(np.zeros((64, 64, 3), np.uint8))
"""


@dataclass(frozen=True)
class Requirement:
    """A dependency: name of the package, and versions as pip takes them, such as ">=1.23,<3"."""

    name: str
    versions: str

    def __str__(self) -> str:
        return self.name + self.versions

    @property
    def module(self) -> str:
        """What is imported of it."""
        return _MODULES.get(self.name, self.name.replace("-", "_"))

    def admits(self, version: str) -> bool:
        """Whether a version satisfies the bounds; bounds other than >= and < are left to pip."""
        number = numbers(version)
        for operator, bound in re.findall(r"(>=|<)(?!=)\s*([\d.]+)", self.versions):
            if (number < numbers(bound)) == (operator == ">="):
                return False
        return True


def installed(package: str) -> metadata.Distribution:
    """A package as it was installed; raises PackageNotFoundError if it was not.

    In a checkout that is the current folder, its egg-info is found first, which may be of any age.
    """
    found = list(metadata.distributions(name=package))
    if not found:
        raise metadata.PackageNotFoundError(package)
    return next((item for item in found if item.read_text("METADATA")), found[0])


def base_requirements(package: str) -> list[Requirement]:
    """What a package needs without extras; raises PackageNotFoundError if it is not installed."""
    found = []
    for text in installed(package).requires or []:
        requirement, _, marker = text.partition(";")
        match = re.match(r"\s*([A-Za-z0-9][\w.-]*)\s*(?:\[[^]]*\])?\s*\(?([^)]*)\)?", requirement)
        if match is not None and "extra" not in marker and not _other_system(marker):
            found.append(Requirement(match[1].lower().replace("_", "-"), match[2].strip()))
    return found


def missing_requirements() -> tuple[list[str], list[str]]:
    """What pip must install so that edgefel runs, and remarks on it.

    What the system has is used: its OpenCV has windows and GStreamer, which pip's has not, and pip would put its
    own before it. OpenCV is looked at when all else is there, since it needs NumPy.
    """
    missing, remarks = [], []
    for requirement in base_requirements("edgefel"):
        if requirement.name == OPENCV:
            continue
        version = _version(requirement)
        if version is None:
            missing.append(str(requirement))
        elif version and not requirement.admits(version):
            text = str(requirement)
            if requirement.name == "numpy" and version.startswith("1."):
                text += ",<2"  # the system's OpenCV and TensorRT were compiled for NumPy 1
            missing.append(text)
            remarks.append(f"{requirement.name} {version} is too old for edgefel")
    if missing:
        return missing, remarks
    if (problem := opencv_problem()) is not None:
        opencv = next(item for item in base_requirements("edgefel") if item.name == OPENCV)
        missing.append(str(opencv))
        remarks.append(f"the system's OpenCV is not used: {problem}")
    return missing, remarks


def opencv_problem() -> str | None:
    """Why the OpenCV that is here cannot find faces, in one line; None if it can."""
    if importlib.util.find_spec("cv2") is None:
        return "there is none"
    result = subprocess.run([sys.executable, "-c", _USE_OPENCV], capture_output=True, text=True, check=False)
    if result.returncode == 0:
        return None
    lines = [line.strip() for line in result.stderr.splitlines() if line.strip()]
    return lines[-1] if lines else f"it ends Python with code {result.returncode}"


def engine_problem(*, to_run: bool) -> str | None:
    """Why TensorRT engines cannot be built here (or run, which takes pycuda as well), in one line."""
    from edgefel.runtime.engines import load_package, look_here, runtime_problem

    here = look_here()
    if here.gpu is None:
        return "no NVIDIA GPU is found here" + (f" ({here.gpu_problem})" if here.gpu_problem else "")
    if here.broken and not here.versions:
        return "; ".join(f"{name} does not load ({reason})" for name, reason in here.broken.items())
    modules = [load_package(name) for name in here.versions]
    problems = [runtime_problem(module) for module in modules if isinstance(module, ModuleType)]
    if problems and all(problems):
        return str(problems[0])
    if not here.versions:
        return f"{here.gpu} is here, and TensorRT is not (on a Jetson: sudo apt install nvidia-jetpack)"
    if to_run and importlib.util.find_spec("pycuda") is None:
        return "TensorRT is here, and pycuda is not; run ./install.sh again to compile it"
    return None


def main(arguments: Sequence[str]) -> int:
    """The command line; returns the exit code."""
    if list(arguments) == ["requirements"]:
        missing, remarks = missing_requirements()
        sys.stderr.writelines(f"{remark}\n" for remark in remarks)
        sys.stdout.writelines(f"{requirement}\n" for requirement in missing)
        return 0
    if list(arguments) in (["gpu"], ["engines"]):
        problem = engine_problem(to_run=arguments[0] == "engines")
        sys.stdout.write(f"{problem}\n" if problem else "")
        return 0 if problem is None else 1
    sys.stderr.write("usage: python -m edgefel.deploy.on_device requirements|gpu|engines\n")
    return 2


def _version(requirement: Requirement) -> str | None:
    """The version of what provides the module, "" where that is not known, None where there is no module."""
    if importlib.util.find_spec(requirement.module) is None:
        return None
    try:
        return metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        pass
    # the same module may come from another package, such as onnxruntime from onnxruntime-gpu
    providers = metadata.packages_distributions().get(requirement.module, [])
    return metadata.version(providers[0]) if providers else ""


def _other_system(marker: str) -> bool:
    """Whether a marker names another operating system or Python; read roughly, for lists meant for people."""
    return "win32" in marker.lower() or "windows" in marker.lower() or "python_version <" in marker


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
