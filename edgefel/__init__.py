"""edgefel: facial-expression transformers from training to an edge device.

    import edgefel

    with edgefel.load() as model:
        print(model("photo.jpg"))

Importing this package imports no other package, neither torch nor OpenCV; `edgefel.load` imports what it needs. The
API is described in docs/python.md.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgefel.data.images import UnreadableImageError
    from edgefel.errors import EdgefelError, EdgefelWarning
    from edgefel.runtime.model import Model, load
    from edgefel.runtime.results import Faces

__version__ = "0.1.0"

# where what is offered here is defined; imported when it is asked for
_HOMES = {
    "EdgefelError": "edgefel.errors",
    "EdgefelWarning": "edgefel.errors",
    "Faces": "edgefel.runtime.results",
    "Model": "edgefel.runtime.model",
    "UnreadableImageError": "edgefel.data.images",
    "load": "edgefel.runtime.model",
}
__all__ = ["EdgefelError", "EdgefelWarning", "Faces", "Model", "UnreadableImageError", "__version__", "load"]

# ONNX Runtime reports its use to its makers, and writes an id for the device, unless this is set when it is first
# imported in the process. Source: https://github.com/microsoft/onnxruntime/blob/main/docs/Privacy.md
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
