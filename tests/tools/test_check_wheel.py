"""What the check of the wheel's contents finds."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import check_wheel
import pytest
from check_wheel import bundle_problems, expected_files, network_problems, problems

from edgefel.runtime.shipped import FOLDER, NAME

ROOT = Path(__file__).parent.parent.parent
BUNDLE = ROOT / "tests" / "bundles" / "nano-synthetic"


@pytest.fixture
def network(tmp_path) -> Path:
    """A trained bundle as it may be shipped."""
    folder = shutil.copytree(BUNDLE, tmp_path / NAME)
    (folder / "README.md").rename(folder / "model-card.md")
    return folder


def wheel_of(folder: Path) -> Path:
    path = folder.parent / "edgefel.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in folder.iterdir():
            archive.write(file, f"edgefel/networks/{folder.name}/{file.name}")
    return path


def test_the_wheel_check_finds_missing_and_foreign_files():
    whole = expected_files()
    assert problems(whole) == []
    assert problems(whole - {"edgefel/kernels/__init__.py"}) == [
        "missing from the wheel: edgefel/kernels/__init__.py"
    ]
    assert problems(whole | {"kernels/__init__.py"}) == ["unexpected top-level name: kernels"]


def test_a_network_that_may_be_shipped(network):
    assert network_problems(wheel_of(network)) == []


def test_a_network_that_is_too_large(network, monkeypatch):
    monkeypatch.setattr(check_wheel, "MOST_NETWORK_BYTES", 1_000_000)
    (problem,) = network_problems(wheel_of(network))
    assert problem.startswith("networks take 1.")
    assert problem.endswith("MB of the wheel, more than 1")


def test_what_keeps_a_network_from_being_shipped(network):
    (network / "model-card.md").unlink()
    (network / "model.fp32.engine").write_bytes(b"")
    manifest = json.loads((network / "manifest.json").read_text())
    manifest["files"][0]["parity"]["inputs"] = "/home/somebody/faces"
    manifest["source"]["path"] = "../../../../home/somebody/run"
    (network / "manifest.json").write_text(json.dumps(manifest))
    assert network_problems(wheel_of(network)) == [
        f"{NAME}: model-card.md is missing",
        f"{NAME}: was exported from a checkpoint outside the checkout, whose place the manifest names",
        f"{NAME}: manifest.json names a path of the machine that made it; give --data a relative one",
        f"{NAME}: model.fp32.engine is not of the bundle",
    ]
    manifest["files"][0]["parity"] = None
    del manifest["source"]["path"]
    engine = {
        "name": "model.fp32.engine",
        "kind": "engine",
        "precision": "fp32",
        "sha256": "0" * 64,
        "bytes": 0,
    }
    manifest["files"].append(engine)
    (network / "manifest.json").write_text(json.dumps(manifest))
    assert bundle_problems(network) == [
        "model-card.md is missing",
        "model.fp32.onnx: did not pass a comparison with PyTorch",
        "model.fp32.engine is an engine, which runs on one kind of machine",
    ]


def test_a_file_that_is_missing_or_changed(network):
    with (network / "model.fp32.onnx").open("ab") as stream:
        stream.write(b"more")
    (problem,) = bundle_problems(network)
    assert "SHA-256 differs from the manifest's" in problem
    (network / "model.fp32.onnx").unlink()
    (problem,) = bundle_problems(network)
    assert "the manifest lists this file, but it is missing" in problem
    (network / "manifest.json").unlink()
    (problem,) = bundle_problems(network)
    assert "no manifest.json here" in problem


@pytest.mark.skipif(not FOLDER.is_dir(), reason="no network is in edgefel/networks yet")
def test_the_network_of_this_checkout_may_be_shipped():
    assert bundle_problems(FOLDER) == []
