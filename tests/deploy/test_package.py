"""What goes into the deploy folder, and what stays behind."""

from __future__ import annotations

import dataclasses
import json
import tarfile

import numpy as np
import pytest

from edgefel.deploy.package import DeployOptions, write_deploy_folder
from edgefel.errors import EdgefelError
from edgefel.runtime.kernels import KernelFolder
from edgefel.runtime.manifest import BundleFile, read_manifest
from edgefel.runtime.session import Session

WITHOUT = DeployOptions(without_kernels=True)


def test_the_folder_holds_all_that_a_device_needs(bundle, kernel_folder, tmp_path):
    deployed = write_deploy_folder(bundle, tmp_path / "edge", DeployOptions(kernels=kernel_folder))
    names = {file.path for file in deployed.files}
    (wheel,) = {name for name in names if name.startswith("wheels/")}
    assert names - {wheel} == {
        "README.md",
        "edgefel.service",
        "index.json",
        "install.sh",
        "kernels/kernels.json",
        *(
            f"kernels/{arch}/balance.{kind}"
            for arch in ("sm_87", "sm_110")
            for kind in ("cubin", "json", "ptx")
        ),
        "licences/LICENSE",
        "licences/THIRD_PARTY.txt",
        "model/labels.txt",
        "model/manifest.json",
        "model/model.fp16.onnx",
        "model/model.fp32.onnx",
        "precision.env",
        "run.sh",
    }
    files = [path for path in (tmp_path / "edge").rglob("*") if path.is_file()]
    on_disk = {path.relative_to(tmp_path / "edge").as_posix() for path in files}
    assert on_disk == names
    assert KernelFolder.open(tmp_path / "edge" / "kernels").archs == ["sm_87", "sm_110"]
    assert deployed.header["kernels"] == ["sm_87", "sm_110"]
    assert deployed.header["precisions"] == ["fp32", "fp16"]


def test_the_packed_model_is_a_bundle_that_runs_and_gives_the_same(bundle, tmp_path):
    write_deploy_folder(bundle, tmp_path / "edge", WITHOUT)
    batch = np.random.default_rng(0).standard_normal((3, 3, 14, 14)).astype(np.float32)
    with Session.open(bundle, "fp16") as here, Session.open(tmp_path / "edge" / "model", "fp16") as there:
        assert np.array_equal(here.run(batch).logits, there.run(batch).logits)
        assert there.labels == here.labels
    labels = (tmp_path / "edge" / "model" / "labels.txt").read_text().splitlines()
    assert tuple(labels) == read_manifest(bundle).labels


def test_the_same_bytes_twice(bundle, tmp_path):
    for name in ("1", "2"):
        write_deploy_folder(bundle, tmp_path / name / "edge.tar.gz", WITHOUT)
    assert (tmp_path / "1/edge.tar.gz").read_bytes() == (tmp_path / "2/edge.tar.gz").read_bytes()


def test_what_is_left_out_is_said(bundle, tmp_path):
    notes = write_deploy_folder(bundle, tmp_path / "edge.tar", WITHOUT).notes
    text = "\n".join(notes)
    assert "model.int8.onnx left out: it failed its comparison with PyTorch; --force takes it" in text
    assert "model.fp16.onnx: verdict 'warn' of its comparison with PyTorch (as fp16 does)" in text
    assert "model.fp32.engine left out: an engine belongs to the machine that built it" in text


def test_a_forced_precision_is_what_the_device_runs(bundle, tmp_path):
    forced = dataclasses.replace(WITHOUT, precisions=("int8",), force=True)
    header = write_deploy_folder(bundle, tmp_path / "edge", forced).header
    assert [header[name] for name in ("precisions", "gpu_precision", "cpu_precision")] == [
        ["int8"],
        "int8",
        "int8",
    ]
    settings = (tmp_path / "edge" / "precision.env").read_text().splitlines()
    assert settings[-2:] == ["GPU_PRECISION=int8", "CPU_PRECISION=int8"]


def test_a_changed_or_missing_file_leaves_nothing_behind(bundle, tmp_path):
    (bundle / "model.fp16.onnx").write_bytes(b"changed")
    with pytest.raises(EdgefelError, match=r"model\.fp16\.onnx: its SHA-256 is not the expected one"):
        write_deploy_folder(bundle, tmp_path / "out" / "edge.tar", WITHOUT)
    (bundle / "model.fp16.onnx").unlink()
    with pytest.raises(
        EdgefelError, match=r"model\.fp16\.onnx: the manifest lists this file, but it is missing"
    ):
        write_deploy_folder(bundle, tmp_path / "out" / "edge.tar", WITHOUT)
    assert list((tmp_path / "out").iterdir()) == []


def test_kernels_given_and_refused_at_once(kernel_folder):
    with pytest.raises(EdgefelError, match="--kernels and --no-kernels exclude each other"):
        DeployOptions(kernels=kernel_folder, without_kernels=True)


def test_the_index_says_what_is_inside(bundle, tmp_path):
    write_deploy_folder(bundle, tmp_path / "edge.tar", WITHOUT)
    with tarfile.open(tmp_path / "edge.tar") as tar:
        index = json.load(tar.extractfile("edge/index.json"))
        manifest = json.load(tar.extractfile("edge/model/manifest.json"))
    assert (index["format"], index["version"], index["name"], index["model"]) == (
        "edgefel-deploy",
        1,
        "edge",
        "tiny",
    )
    assert [file["name"] for file in manifest["files"]] == ["model.fp32.onnx", "model.fp16.onnx"]
    for file in manifest["files"]:
        assert index["files"][f"model/{file['name']}"]["sha256"] == file["sha256"]
        BundleFile(**file)
