"""The stored measurement: kept for what it was taken on, and for nothing else."""

from __future__ import annotations

import dataclasses
import json
import logging

import pytest

from edgefel.errors import EdgefelError
from edgefel.runtime import measurement
from edgefel.runtime.manifest import read_manifest
from edgefel.runtime.measurement import Measurement, find_measurement, store_measurement

MS = {("onnxruntime", "model.fp32.onnx"): 7.5, ("openvino", "model.fp32.onnx"): 4.25}


@pytest.fixture
def manifest(bundle, tmp_path, monkeypatch):
    monkeypatch.setenv("EDGEFEL_CACHE", str(tmp_path / "cache"))
    return read_manifest(bundle)


def test_it_comes_back_as_it_was_stored(manifest, tmp_path):
    assert find_measurement(manifest, 2) is None
    assert not (tmp_path / "cache").exists()  # looking makes no folder
    path = store_measurement(manifest, Measurement(MS, 2))
    assert find_measurement(manifest, 2) == Measurement(MS, 2)
    assert [file.name for file in path.parent.iterdir()] == [path.name]  # no temporary file is left
    store_measurement(manifest, Measurement({("onnxruntime", "model.fp32.onnx"): 1.0}, 2))
    assert find_measurement(manifest, 2).ms == {("onnxruntime", "model.fp32.onnx"): 1.0}


def test_other_threads_files_processors_and_versions_are_another_measurement(manifest, monkeypatch):
    store_measurement(manifest, Measurement(MS, 2))
    assert find_measurement(manifest, 1) is None
    changed = dataclasses.replace(manifest.files[0], sha256="0" * 64)
    assert find_measurement(manifest.with_file(changed), 2) is None
    with monkeypatch.context() as patch:
        patch.setattr(measurement, "cpu_name", lambda: "another processor")
        assert find_measurement(manifest, 2) is None
    with monkeypatch.context() as patch:
        patch.setattr(measurement, "_version", lambda name: "99.1" if name == "onnxruntime" else None)
        assert find_measurement(manifest, 2) is None
    assert find_measurement(manifest, 2) is not None


@pytest.mark.parametrize(
    "edit",
    [
        lambda text: text[: len(text) // 2],
        lambda text: text.replace("7.5", "-7.5"),
        lambda text: text.replace("7.5", '"fast"'),
        lambda text: text.replace("edgefel-pick", "another"),
        lambda text: text.replace('"threads": 2', '"threads": 3'),
    ],
)
def test_a_damaged_entry_counts_as_none_with_a_warning(manifest, caplog, edit):
    path = store_measurement(manifest, Measurement(MS, 2))
    path.write_text(edit(path.read_text()))
    with caplog.at_level(logging.WARNING):
        assert find_measurement(manifest, 2) is None
    (record,) = caplog.records
    assert "run 'edgefel bench pick' again" in record.getMessage()


def test_an_entry_is_plain_json(manifest):
    entry = json.loads(store_measurement(manifest, Measurement(MS, 2)).read_text())
    assert entry["ms"][0] == {"backend": "onnxruntime", "file": "model.fp32.onnx", "ms": 7.5}
    assert entry["parts"]["threads"] == 2


def test_a_cache_that_cannot_be_made_is_one_line(manifest, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("EDGEFEL_CACHE", str(tmp_path / "file"))
    assert find_measurement(manifest, 2) is None
    with pytest.raises(EdgefelError, match="EDGEFEL_CACHE"):
        store_measurement(manifest, Measurement(MS, 2))
