"""The table of backends, and what a backend is told of a file."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from edgefel.cli import params
from edgefel.errors import EdgefelError
from edgefel.runtime.backends.base import BACKENDS, ModelFile, backend_entry
from edgefel.runtime.manifest import PRECISIONS, BundleFile, read_manifest


def test_every_backend_of_the_table_loads_and_knows_why_it_is_unavailable(bundle):
    (onnx,) = read_manifest(bundle).files
    builder = {"package": "tensorrt", "version": "10.3.0", "gpu": "Orin", "compute_capability": "8.7"}
    engine = BundleFile("model.fp32.engine", "engine", "fp32", onnx.sha256, 6, builder=builder)
    for entry in BACKENDS.values():
        reason = entry.load().unavailable_reason({"onnx": onnx, "engine": engine}[entry.kind])
        assert reason is None or "\n" not in reason


def test_an_unknown_backend_is_named_with_those_there_are():
    with pytest.raises(
        EdgefelError, match="backend 'tflite' is not known; choose one of: auto, tensorrt, onnx"
    ):
        backend_entry("tflite")


def test_what_a_backend_is_told_of_a_file(bundle):
    manifest = read_manifest(bundle)
    model = ModelFile.of(manifest, manifest.files[0])
    assert model.path == bundle / "model.fp32.onnx"
    assert (model.image_shape, model.dtype) == ((3, 14, 14), np.dtype(np.float32))
    classes, width = len(manifest.labels), manifest.model.embedding_dim
    assert model.output_shapes == {
        **dict.fromkeys(("logits", "primary", "probabilities"), (classes,)),
        "confidence": (),
        "embedding": (width,),
    }


def test_the_command_lines_choices_are_the_tables():
    def choices(option) -> list[str]:
        return list(option(lambda: None).__click_params__[0].type.choices)

    assert set(choices(params.backend)) == {"auto", *BACKENDS}
    assert choices(params.precision) == list(PRECISIONS)


def test_a_session_imports_its_own_backend_alone(bundle):
    code = (
        "import sys; from edgefel.runtime.session import Session\n"
        f"Session.open({str(bundle)!r}, backend='onnxruntime').close()\n"
        "heavy = {'torch', 'triton', 'sklearn', 'onnx', 'openvino', 'tensorrt', 'tensorrt_rtx', 'pycuda'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
