"""licences/: edgefel's licence and a list of its dependencies on a device."""

from __future__ import annotations

from contextlib import suppress
from importlib import metadata

from edgefel import __version__
from edgefel.deploy.archive import Entry
from edgefel.deploy.on_device import base_requirements
from edgefel.deploy.wheel import license_text

# on a device these come from the system or are compiled there, so that no installed package can be asked
_ON_DEVICE = (
    ("Python", "PSF-2.0", "of the system"),
    ("CUDA, cuDNN, TensorRT", "NVIDIA Software License Agreement", "of JetPack; not in this folder"),
    ("OpenCV of JetPack or Ubuntu", "Apache-2.0", "used instead of opencv-python-headless where it works"),
    ("GStreamer and its plugins", "LGPL-2.1-or-later; NVIDIA's plugins are proprietary", "of the system"),
    ("pycuda", "MIT", "install.sh fetches and compiles it where there is a GPU"),
)
_BUNDLED = {
    "opencv-python-headless": "its wheel brings FFmpeg (LGPL-2.1) and others: see LICENSE-3RD-PARTY.txt in it",
    "onnxruntime": "its wheel brings others: see ThirdPartyNotices.txt in it",
    "numpy": "its wheel brings OpenBLAS (BSD-3-Clause) and libgfortran (GPL-3.0 with the GCC runtime exception)",
}


def licence_entries() -> list[Entry]:
    """LICENSE and THIRD_PARTY.txt."""
    return [
        Entry("licences/LICENSE", license_text().encode()),
        Entry("licences/THIRD_PARTY.txt", third_party().encode()),
    ]


def third_party() -> str:
    """The runtime's dependencies with the licences that their packages state."""
    lines = [
        f"What edgefel {__version__} runs with",
        "",
        "None of it is in this folder. install.sh uses what the system has and fetches the rest from the package",
        "index. Names and licences are as the packages state them that were installed where this folder was made;",
        "the versions on the device may differ.",
        "",
    ]
    for name in _all_requirements():
        lines += _package_lines(name)
    lines += ["", "On the device:", ""]
    lines += [f"{name}: {licence} ({remark})" for name, licence, remark in _ON_DEVICE]
    return "\n".join(lines) + "\n"


def _package_lines(name: str) -> list[str]:
    try:
        distribution = metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return [f"{name}: not installed where this folder was made; see its package page"]
    lines = [f"{name} {distribution.version}: {_licence(distribution)}"]
    if name in _BUNDLED:
        lines.append(f"    {_BUNDLED[name]}")
    return lines


def _licence(distribution: metadata.Distribution) -> str:
    info = distribution.metadata
    classifiers = [
        text.split(" :: ")[-1] for text in info.get_all("Classifier") or [] if text.startswith("License ::")
    ]
    stated = "".join(info.get_all("License-Expression") or [])
    # some packages paste the whole text of their licence into this field
    plain = "".join(info.get_all("License") or [])
    if not stated and plain and "\n" not in plain.strip():
        stated = plain.strip()
    return stated or ", ".join(classifiers) or "stated in the package's licence file"


def _all_requirements() -> list[str]:
    """Names of the base install's packages and of what these need, sorted."""
    found: set[str] = set()
    waiting = [requirement.name for requirement in base_requirements("edgefel")]
    while waiting:
        if (name := waiting.pop()) not in found:
            found.add(name)
            with suppress(metadata.PackageNotFoundError):
                waiting += [requirement.name for requirement in base_requirements(name)]
    return sorted(found)
