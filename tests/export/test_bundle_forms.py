"""An export with everything that is off by default: bytes in, few outputs, one-operator attention, a searched mix."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
from exported import HAS_TENSORRT, LABELS, save, tiny_model, write_faces

from edgefel.errors import EdgefelError
from edgefel.export.bundle import export_bundle
from edgefel.export.options import ExportOptions
from edgefel.runtime.manifest import read_manifest
from edgefel.runtime.session import Session

OPTIONS = ExportOptions(
    ("fp32", "fp16", "int8"),
    engine=HAS_TENSORRT,
    per_class=2,
    parity_images=8,
    search_images=8,
    auto=True,
    attention="onnx-attention",
    uint8_input=True,
    outputs=("confidence", "probabilities"),
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    root = tmp_path_factory.mktemp("forms")
    checkpoint = save(root / "checkpoint", tiny_model())
    faces = write_faces(root / "faces", LABELS, 8)
    plain = export_bundle(checkpoint, root / "plain", ExportOptions(("fp32",), parity_images=8), data=faces)
    assert not plain.refused
    return root, export_bundle(checkpoint, root / "bundle", OPTIONS, data=faces)


def test_the_manifest_says_what_goes_in_and_comes_out(exported):
    root, report = exported
    manifest = read_manifest(root / "bundle")
    assert manifest.input_type == "uint8"
    assert manifest.input_shape == ("N", 112, 112, 3)
    assert manifest.outputs == ("probabilities", "confidence")
    assert not report.refused
    for file in manifest.files:
        if file.kind == "onnx":
            graph = onnx.load(root / "bundle" / file.name).graph
            assert [value.name for value in graph.output] == ["probabilities", "confidence"]
            attention = [node.op_type for node in graph.node if ".attention/" in node.name]
            assert "Attention" in attention
            assert "Softmax" not in attention
            assert file.builder["attention"] == "onnx-attention"
            assert (file.requires["ir_version"], file.requires["opset"]) == (11, 23)
            model = onnx.load(root / "bundle" / file.name)
            assert (model.ir_version, model.opset_import[0].version) == (11, 23)


@pytest.mark.parametrize("mirror", [False, True])
def test_the_runtime_gives_what_a_plain_bundle_gives(exported, mirror):
    root, _ = exported
    crops = [np.random.default_rng(i).integers(0, 256, (90, 80, 3), dtype=np.uint8) for i in range(3)]
    with (
        Session.open(root / "plain", mirror=mirror) as plain,
        Session.open(root / "bundle", "fp32", mirror=mirror) as packed,  # takes bytes, channels last
    ):
        expected, found = plain(crops), packed(crops)
    assert found.logits is None
    assert np.abs(found.probabilities - expected.probabilities).max() < 1e-5
    assert np.abs(found.confidence - expected.confidence).max() < 1e-5
    with Session.open(root / "bundle", "int8") as session:
        assert np.isfinite(session(crops).probabilities).all()


def test_the_search_is_in_the_bundle(exported):
    root, report = exported
    assert report.search is not None
    document = json.loads((root / "bundle" / "layers.json").read_text())
    assert document["images"] == 8
    assert len(document["layers"]) == len(report.search.decisions)
    assert all("rank" in layer["reason"] for layer in document["layers"])
    assert (root / "bundle" / "layers.png").stat().st_size > 10_000
    builder = read_manifest(root / "bundle").find("int8").builder
    assert builder["search"]["int8_share_of_macs"] == report.search.int8_share


def test_a_second_export_takes_the_ranges_from_the_cache(exported):
    """And gives the same bytes."""
    root, _ = exported
    options = ExportOptions(("int8",), per_class=2, parity_images=8, seed=1)
    for name in ("first", "second"):
        export_bundle(root / "checkpoint", root / name, options, data=root / "faces")
    first, second = (read_manifest(root / name).find("int8") for name in ("first", "second"))
    assert first.builder["calibration"]["ranges"]["cache"] == "miss"
    assert second.builder["calibration"]["ranges"]["cache"] == "hit"
    assert first.sha256 == second.sha256


def test_a_search_needs_labelled_data(exported, tmp_path):
    root, _ = exported
    with pytest.raises(EdgefelError, match="give labelled images with --data"):
        export_bundle(root / "checkpoint", tmp_path / "out", ExportOptions(("int8",), auto=True))
    assert not (tmp_path / "out").exists()
