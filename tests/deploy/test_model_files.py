"""Which files of a bundle go onto a device or a server."""

from __future__ import annotations

import dataclasses

import pytest
from tiny_bundle import write_bundle

from edgefel.deploy.model_files import choose_file, choose_files, manifest_bytes, model_entries
from edgefel.errors import EdgefelError
from edgefel.runtime.manifest import read_manifest


def test_a_failed_file_is_taken_only_by_force(bundle):
    manifest = read_manifest(bundle)
    with pytest.raises(
        EdgefelError, match=r"model\.int8\.onnx: failed its comparison with PyTorch: as int8 does"
    ):
        choose_files(manifest, ["int8"])
    forced = choose_files(manifest, ["int8"], force=True)
    assert forced.precisions == ("int8",)
    assert any("verdict 'fail'" in note for note in forced.notes)


def test_a_bundle_of_failed_files_alone_is_refused(bundle):
    manifest = read_manifest(bundle)
    failed = dataclasses.replace(manifest, files=tuple(f for f in manifest.files if f.verdict == "fail"))
    with pytest.raises(EdgefelError, match="no ONNX file that can be used; export again, or pass --force"):
        choose_files(failed)
    assert choose_files(failed, force=True).precisions == ("int8",)


def test_a_precision_that_is_not_there_is_named_with_what_there_is(bundle):
    manifest = read_manifest(bundle)
    with pytest.raises(EdgefelError, match=r"no int8\+fp16 onnx file in this bundle; it holds fp32 \(onnx\)"):
        choose_files(manifest, ["int8+fp16"])
    with pytest.raises(EdgefelError, match="precision 'fp4' is not known; choose one of: fp32, fp16"):
        choose_file(manifest, "fp4", "onnxruntime")


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
    chosen = choose_files(read_manifest(write_bundle(tmp_path / "b", precisions)))
    assert (chosen.gpu_precision, chosen.cpu_precision) == (gpu, cpu)


def test_the_manifest_is_that_of_the_folder(bundle):
    assert manifest_bytes(read_manifest(bundle)) == (bundle / "manifest.json").read_bytes()


def test_a_model_card_is_packed_and_may_be_missing(bundle):
    chosen = choose_files(read_manifest(bundle))
    without = [entry.path for entry in model_entries(chosen)]
    (bundle / "model-card.md").write_text("# Card\n")
    entries = {entry.path: entry.open().read() for entry in model_entries(chosen)}
    assert set(entries) - set(without) == {"model/model-card.md"}
    assert entries["model/model-card.md"] == b"# Card\n"
