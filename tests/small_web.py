"""Pages of `edgefel export --web` that no browser opens."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from yunet_like import yunet_like

from edgefel.web import contract, folder
from edgefel.web.folder import WebOptions
from edgefel.web.onnxruntime_web import WASM_PARTS, WEBGPU_PARTS, Part


def small_web(place: Path, monkeypatch: pytest.MonkeyPatch) -> WebOptions:
    """Options with a package that is none, and a detector that finds a white square, in the new folder `place`."""
    package = place / "package"
    package.mkdir(parents=True)
    for name, original in (("WASM_PARTS", WASM_PARTS), ("WEBGPU_PARTS", WEBGPU_PARTS)):
        parts = []
        for part in original:
            data = f"no {part.source}".encode()
            (package / part.source).write_bytes(data)
            parts.append(Part(part.source, hashlib.sha256(data).hexdigest()))
        monkeypatch.setattr(folder, name, tuple(parts))
    image = np.zeros((96, 160, 3), np.uint8)
    image[32:48, 64:80] = 255
    monkeypatch.setattr(contract, "check_image", lambda: image)
    return WebOptions(detector_model=yunet_like(place / "detector.onnx"), onnxruntime_web=package)
