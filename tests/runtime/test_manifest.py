"""Manifests: round trip, and every way in which one can be broken."""

from __future__ import annotations

import json
import shutil

import pytest

from edgefel.errors import EdgefelError
from edgefel.files import sha256
from edgefel.runtime.manifest import read_manifest, write_manifest


@pytest.fixture
def bundle(nano_bundle, tmp_path):
    return shutil.copytree(nano_bundle, tmp_path / "bundle")


def test_what_export_wrote_is_read_back(bundle, tmp_path):
    manifest = read_manifest(bundle)
    assert manifest.labels[0] == "neutral"
    assert manifest.input_shape == ("N", 3, 112, 112)
    assert [file.precision for file in manifest.files] == ["fp32", "int8"]
    for file in manifest.files:
        assert file.sha256 == sha256(bundle / file.name)
        assert file.bytes == (bundle / file.name).stat().st_size
    document = json.loads((bundle / "manifest.json").read_text())
    write_manifest(tmp_path, manifest)
    assert json.loads((tmp_path / "manifest.json").read_text()) == document


def test_a_changed_file_is_noticed(bundle):
    manifest = read_manifest(bundle)
    with (bundle / "model.fp32.onnx").open("ab") as stream:
        stream.write(b"x")
    with pytest.raises(EdgefelError, match="model.fp32.onnx"):
        manifest.verify("model.fp32.onnx")
    manifest.verify("model.int8.onnx")


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.update(format="other"),
        lambda d: d.update(version=99),
        lambda d: d.pop("labels"),
        lambda d: d.pop("files"),
        lambda d: d.pop("preprocessing"),
        lambda d: d["labels"].pop(),
        lambda d: d["preprocessing"].update(crop=1000),
        lambda d: d["files"][0].update(precision="fp7"),
        lambda d: d["files"][0].update(name="../model.onnx"),
    ],
    ids=[
        "format",
        "version",
        "no labels",
        "no files",
        "no preprocessing",
        "labels",
        "crop",
        "precision",
        "path",
    ],
)
def test_a_broken_manifest_is_one_clear_error(bundle, change):
    file = bundle / "manifest.json"
    document = json.loads(file.read_text())
    change(document)
    file.write_text(json.dumps(document))
    with pytest.raises(EdgefelError) as caught:
        read_manifest(bundle)
    assert "\n" not in str(caught.value)


def test_missing_and_unreadable_manifests(tmp_path):
    with pytest.raises(EdgefelError, match="edgefel export"):
        read_manifest(tmp_path / "absent")
    with pytest.raises(EdgefelError, match="manifest.json"):
        read_manifest(tmp_path)
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(EdgefelError, match="not valid JSON"):
        read_manifest(tmp_path)
    (tmp_path / "manifest.json").write_text("[]")
    with pytest.raises(EdgefelError):
        read_manifest(tmp_path)
