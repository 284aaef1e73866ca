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


def import_quietly(name: str) -> ModuleType:
    """A package by its name; raises what importing it raises.

    ONNX Runtime's telemetry is switched off by `edgefel/__init__.py`. OpenVINO has no setting for one process, only a
    file in the user's home folder; it uses `openvino_telemetry` where that is installed, so it is hidden from it.
    """
    if name.partition(".")[0] != "openvino":
        return importlib.import_module(name)
    with _importing:
        if "openvino" in sys.modules or _TELEMETRY in sys.modules:
            return importlib.import_module(name)
        # None makes an import raise ImportError, and OpenVINO then takes a stub of its own
        sys.modules[_TELEMETRY] = cast("ModuleType", None)
        try:
            return importlib.import_module(name)
        finally:
            del sys.modules[_TELEMETRY]
