"""Imports that send no usage data.

The official builds of ONNX Runtime (from 1.28 on, also on Linux) and of OpenVINO report their use to Microsoft and to
Google Analytics by default. A device that watches faces should report nothing.
"""

from __future__ import annotations

import importlib
import sys
import threading
from types import ModuleType
from typing import cast

_TELEMETRY = "openvino_telemetry"
_importing = threading.Lock()


def import_onnxruntime() -> ModuleType:
    """ONNX Runtime. `edgefel/__init__.py` has switched its telemetry off, for every import of it."""
    return importlib.import_module("onnxruntime")


def import_quietly(name: str) -> ModuleType:
    """Any package by its name, those of this module without telemetry; raises what importing it raises."""
    if name.partition(".")[0] == "openvino":
        import_openvino()
    return importlib.import_module(name)


def import_openvino() -> ModuleType:
    """OpenVINO without `openvino_telemetry`, which it uses where it is installed; raises ImportError without OpenVINO.

    It has no setting for one process, only a file in the user's home folder.
    """
    with _importing:
        if "openvino" in sys.modules or _TELEMETRY in sys.modules:
            return importlib.import_module("openvino")
        # None makes an import raise ImportError, and OpenVINO then takes a stub of its own
        sys.modules[_TELEMETRY] = cast("ModuleType", None)
        try:
            return importlib.import_module("openvino")
        finally:
            del sys.modules[_TELEMETRY]
