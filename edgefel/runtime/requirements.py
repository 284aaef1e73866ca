"""Which versions of packages edgefel and a model file need, and whether the installed ones are new enough.

Needs the standard library alone.

ONNX Runtime refuses files of a newer ONNX (IR) version or operator set than it knows. The versions below are the first
that load each: 1.17, and from 1.19 on, found by loading such files, 1.18 from its table of versions; OpenVINO's were
found by compiling files of every precision. Of TensorRT no such versions are known.
Source: https://onnxruntime.ai/docs/reference/compatibility.html
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgefel.runtime.manifest import BundleFile

ONNXRUNTIME, OPENVINO = "onnxruntime", "openvino"
_NAMES = {ONNXRUNTIME: "ONNX Runtime", OPENVINO: "OpenVINO"}
_OLDEST = (1, 17)  # that edgefel supports: IR 9, opset 20
_FIRST_FOR_IR = {10: (1, 18), 11: (1, 23), 12: (1, 24), 13: (1, 24)}
_FIRST_FOR_OPSET = {21: (1, 18), 22: (1, 21), 23: (1, 23), 24: (1, 24), 25: (1, 24), 26: (1, 25)}
# Q/DQ nodes beside the operator Attention: 1.23 inserts quantizers of types that it then refuses
_FIRST_FOR_QUANTIZED_23 = (1, 24)
# of the messages "Unsupported model IR version: 10, max supported IR version: 9" and "ONNX Runtime only *guarantees*
# support for models stamped with official released onnx opset versions. Opset 23 is under development"
_REFUSALS = {
    r"Unsupported model IR version: (\d+)": _FIRST_FOR_IR,
    r"Opset (\d+) is under development": _FIRST_FOR_OPSET,
}


def onnx_requirement(ir_version: int, opset: int, *, quantized: bool) -> dict[str, Any]:
    """The manifest's `requires` of an ONNX file: {"ir_version", "opset", "onnxruntime": ">=1.17", "openvino": ...}.

    quantized: it has Q/DQ nodes.
    """
    first = max(_FIRST_FOR_IR.get(ir_version, _OLDEST), _FIRST_FOR_OPSET.get(opset, _OLDEST))
    if quantized and opset >= 23:
        first = max(first, _FIRST_FOR_QUANTIZED_23)
    # 2025.3 is the first that takes FP16 scales of Q/DQ nodes; 2026.0 does not know Attention, 2026.2 does
    openvino = "2026.2" if opset >= 23 else "2025.3"
    return {
        "ir_version": ir_version,
        "opset": opset,
        ONNXRUNTIME: f">={first[0]}.{first[1]}",
        OPENVINO: f">={openvino}",
    }


def too_old(file: BundleFile, installed: str, package: str = ONNXRUNTIME) -> str | None:
    """Why that version of the package cannot load the file, in one line; None if it can or the manifest is silent."""
    requires: Mapping[str, Any] = file.requires or {}
    needed = requires.get(package)
    if not isinstance(needed, str) or not older(installed, needed.removeprefix(">=")):
        return None
    which = f"IR {requires.get('ir_version')}, opset {requires.get('opset')}"
    return (
        f"{file.name}: needs {_NAMES[package]} {needed.removeprefix('>=')} or later ({which}), and here is "
        f"{installed}; run: pip install '{package}{needed}'"
    )


def needed_for(refusal: str) -> str | None:
    """What to install for a file that ONNX Runtime refused with this message ("onnxruntime>=1.18"); None if the message
    is about something else."""
    for pattern, table in _REFUSALS.items():
        if (match := re.search(pattern, refusal)) is not None:
            first = table.get(int(match[1]), max(table.values()))
            return f"{ONNXRUNTIME}>={first[0]}.{first[1]}"
    return None


def oldest_versions(requires: Iterable[str]) -> dict[str, tuple[str, bool]]:
    """By a package's name in lower case: the oldest version that is supported, and whether the base install needs it.

    requires: as `importlib.metadata.requires` gives it, "numpy>=1.23" or 'torch>=2.9; extra == "train"'.
    """
    found: dict[str, tuple[str, bool]] = {}
    for text in requires:
        requirement, _, marker = text.partition(";")
        match = re.match(r"\s*([A-Za-z0-9][\w.-]*)[^>]*>=\s*([\d.]+)", requirement)
        # what a developer uses is no part of what runs
        if match is not None and not re.search(r"extra == .dev.", marker):
            found.setdefault(match[1].lower().replace("_", "-"), (match[2], "extra" not in marker))
    return found


def older(installed: str, oldest: str) -> bool:
    """Whether a version is older than another; one without numbers is not."""
    return bool(numbers(installed)) and numbers(installed) < numbers(oldest)


def numbers(version: str) -> tuple[int, ...]:
    """The leading numbers of a version, without zeros at its end: (10, 3, 0, 30) of "10.3.0.30+cuda12"."""
    match = re.match(r"\d{1,9}(\.\d{1,9})*", version)
    found = [int(part) for part in match[0].split(".")] if match else []
    while found and found[-1] == 0:
        found.pop()
    return tuple(found)
