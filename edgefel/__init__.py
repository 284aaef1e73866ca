"""edgefel: facial-expression transformers from training to an edge device.

Importing this package imports neither torch nor any other optional dependency; see
``edgefel.runtime`` for the part that runs on a device.
"""

import os

__version__ = "0.1.0"

# ONNX Runtime reports its use to its makers, and writes an id for the device, unless this is set when it is first
# imported in the process. Source: https://github.com/microsoft/onnxruntime/blob/main/docs/Privacy.md
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
