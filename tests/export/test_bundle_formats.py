"""An export of the formats of TensorRT: files, verdicts, what the runtime says of them, engines that are refused."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner
from exported import HAS_TENSORRT, LABELS, save, tiny_model, write_faces

from edgefel.cli.main import main
from edgefel.runtime.manifest import read_manifest

FILES = {"fp8": "model.fp8.onnx", "w8a16": "model.w8a16.onnx", "w4a16": "model.w4a16.onnx"}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    root = tmp_path_factory.mktemp("formats")
    checkpoint = save(root / "checkpoint", tiny_model())
    faces = write_faces(root / "faces", LABELS, 4)
    arguments = [
        "export",
        checkpoint,
        "-o",
        root / "bundle",
        "--fp8",
        "--weights",
        "int8",
        "--weights",
        "int4",
    ]
    arguments += ["--data", faces, "--per-class", "2", "--parity-images", "8", "--no-cache", "--json"]
    result = CliRunner().invoke(main, list(map(str, arguments)))
    assert result.exit_code in (0, 3), result.output
    return root / "bundle", json.loads(result.stdout)


def test_each_format_is_a_file_that_was_compared(exported):
    bundle, document = exported
    manifest = read_manifest(bundle)
    assert {file.precision: file.name for file in manifest.files} == FILES
    for file in manifest.files:
        assert file.parity["logits_sqnr_db"] > 10
        assert file.builder[f"{file.precision}_nodes"] > 0
        assert file.builder["float_nodes"]
    assert manifest.find("fp8").builder["calibration"]["method"] == "minmax"
    assert "calibration" not in manifest.find("w4a16").builder
    assert manifest.find("w4a16").requires["opset"] == 21
    assert len(document["files"]) == 3


@pytest.mark.skipif(not HAS_TENSORRT, reason="no TensorRT installed; pip install edgefel[rtx]")
def test_an_engine_is_refused_for_an_ampere_gpu_before_anything_is_built(exported):
    bundle, _ = exported
    before = sorted(path.name for path in bundle.iterdir())
    arguments = ["engine", str(bundle), "--precision", "fp8", "--target", "sm_86"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    (line,) = result.stderr.strip().splitlines()
    assert "fp8 needs Ada or later (compute capability 8.9), and the engine is for sm_86" in line
    assert sorted(path.name for path in bundle.iterdir()) == before
