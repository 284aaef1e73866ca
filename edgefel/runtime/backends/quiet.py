"""Imports that send no usage data.

The official builds of ONNX Runtime (from 1.28 on, also on Linux) and of OpenVINO report their use to Microsoft and to
Google Analytics unless told otherwise. A device that watches faces should report nothing.
"""

from __future__ import annotations

import importlib
import os
import sys
import threading
from types import ModuleType
from typing import cast

_TELEMETRY = "openvino_telemetry"
_importing = threading.Lock()


def import_onnxruntime() -> ModuleType:
    """ONNX Runtime with its telemetry off, unless ORT_DISABLE_TELEMETRY already says otherwise.

    It reads the variable once, when it is first imported in the process.
    Source: https://github.com/microsoft/onnxruntime/blob/main/docs/Privacy.md, "Disabling Telemetry".
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    return importlib.import_module("onnxruntime")


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
