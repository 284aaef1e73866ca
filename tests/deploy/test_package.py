"""What goes into the deploy folder, and what stays behind."""

from __future__ import annotations

import dataclasses
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from tiny_bundle import write_bundle

from edgefel.deploy.kernel_files import kernels_from, why_not_compiled
from edgefel.deploy.licences import third_party
from edgefel.deploy.model_files import choose_files
from edgefel.deploy.package import DeployOptions, write_deploy_folder
from edgefel.errors import EdgefelError
from edgefel.runtime.kernels import KernelFolder
from edgefel.runtime.manifest import BundleFile, describe_file, read_manifest, write_manifest
from edgefel.runtime.session import Session

WITHOUT = DeployOptions(without_kernels=True)


@pytest.fixture
def bundle(tmp_path) -> Path:
    """FP32 passed, FP16 warned, INT8 failed; an engine of FP32; files that are for people alone."""
    folder = write_bundle(tmp_path / "bundle", ("fp32", "fp16", "int8"))
    manifest = read_manifest(folder)
    verdicts = {"fp32": "pass", "fp16": "warn", "int8": "fail"}
    files = [
        dataclasses.replace(
            file, parity={"verdict": verdicts[file.precision], "reasons": [f"as {file.precision} does"]}
        )
        for file in manifest.files
    ]
    (folder / "model.fp32.engine").write_bytes(b"of another machine")
    files.append(describe_file(folder / "model.fp32.engine", kind="engine", precision="fp32"))
    (folder / "calibration.json").write_text("{}")
    write_manifest(folder, dataclasses.replace(manifest, files=tuple(files)))
    return folder


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


def test_a_failed_file_is_taken_only_by_force(bundle, tmp_path):
    with pytest.raises(
        EdgefelError, match=r"model\.int8\.onnx: failed its comparison with PyTorch: as int8 does"
    ):
        write_deploy_folder(bundle, tmp_path / "edge.tar", dataclasses.replace(WITHOUT, precisions=("int8",)))
    forced = dataclasses.replace(WITHOUT, precisions=("int8",), force=True)
    deployed = write_deploy_folder(bundle, tmp_path / "edge.tar", forced)
    assert deployed.header["precisions"] == ["int8"]
    assert any("verdict 'fail'" in note for note in deployed.notes)


def test_a_bundle_of_failed_files_alone_is_refused(bundle):
    manifest = read_manifest(bundle)
    failed = dataclasses.replace(manifest, files=tuple(f for f in manifest.files if f.verdict == "fail"))
    with pytest.raises(EdgefelError, match="no ONNX file that can be used; export again, or pass --force"):
        choose_files(failed)
    assert choose_files(failed, force=True).precisions == ("int8",)


def test_a_precision_that_is_not_there_is_named_with_what_there_is(bundle, tmp_path):
    options = dataclasses.replace(WITHOUT, precisions=("int8+fp16",))
    with pytest.raises(EdgefelError, match=r"no int8\+fp16 onnx file in this bundle; it holds fp32 \(onnx\)"):
        write_deploy_folder(bundle, tmp_path / "edge.tar", options)


@pytest.mark.parametrize(
    ("precisions", "gpu", "cpu"),
    [
        (("fp32", "fp16", "int8", "int8+fp16"), "fp16", "fp32"),
        (("fp32",), "fp32", "fp32"),
        (("fp32", "int8+fp16"), "fp32", "fp32"),  # nobody has compared the INT8 file
        (("int8", "int8+fp16"), "int8+fp16", "int8"),
        (("int8",), "int8", "int8"),
    ],
)
def test_what_runs_on_a_device_by_default(tmp_path, precisions, gpu, cpu):
    folder = write_bundle(tmp_path / "b", precisions)
    deployed = write_deploy_folder(folder, tmp_path / "edge", WITHOUT)
    assert (deployed.header["gpu_precision"], deployed.header["cpu_precision"]) == (gpu, cpu)
    settings = (tmp_path / "edge" / "precision.env").read_text().splitlines()
    assert [f"GPU_PRECISION={gpu}", f"CPU_PRECISION={cpu}"] == settings[-2:]


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


def test_kernels_of_another_model_are_refused(bundle, kernel_folder):
    model = read_manifest(bundle).model
    assert kernels_from(kernel_folder, model).archs == ("sm_87", "sm_110")
    other = dataclasses.replace(model, name="arbex")
    with pytest.raises(EdgefelError, match="kernels of 'tiny', and the bundle's model is 'arbex'"):
        kernels_from(kernel_folder, other)


def test_damaged_kernels_are_refused(bundle, kernel_folder, tmp_path):
    (kernel_folder / "sm_110" / "balance.cubin").write_bytes(b"changed")
    with pytest.raises(EdgefelError, match=r"balance\.cubin: is not the file that balance\.json describes"):
        write_deploy_folder(bundle, tmp_path / "edge.tar", DeployOptions(kernels=kernel_folder))
    assert not (tmp_path / "edge.tar").exists()


def test_why_kernels_are_left_out(bundle, tmp_path, monkeypatch):
    model = read_manifest(bundle).model
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert "TRITON_INTERPRET is set" in (why_not_compiled(model) or "")
    monkeypatch.delenv("TRITON_INTERPRET")
    deployed = write_deploy_folder(bundle, tmp_path / "edge.tar")
    assert any("'tiny' is no registered model; make them with" in note for note in deployed.notes)
    assert why_not_compiled(dataclasses.replace(model, name="arbex-nano")) is None


def test_kernels_given_and_refused_at_once(kernel_folder):
    with pytest.raises(EdgefelError, match="--kernels and --no-kernels exclude each other"):
        DeployOptions(kernels=kernel_folder, without_kernels=True)


def test_the_list_of_licences_names_every_package_that_is_installed_with_edgefel():
    text = third_party()
    for name in ("numpy", "opencv-python-headless", "onnxruntime", "click", "rich", "prometheus-client"):
        (line,) = [line for line in text.splitlines() if line.startswith(f"{name} ")]
        assert len(line.split(": ")[1]) > 2
    assert "\npygments " in text  # what rich needs
    assert "torch" not in text
    assert "FFmpeg (LGPL-2.1)" in text


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
