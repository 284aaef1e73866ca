"""`edgefel engine` on small bundles, with a real TensorRT."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import tiny_bundle
from click.testing import CliRunner
from exported import HAS_TENSORRT

from edgefel.cli.main import main
from edgefel.runtime import manifest as manifest_module
from edgefel.runtime.engines import PACKAGES, engine_mismatch
from edgefel.runtime.manifest import read_manifest, write_manifest
from edgefel.runtime.shipped import find_shipped

pytestmark = pytest.mark.skipif(not HAS_TENSORRT, reason="no TensorRT installed; pip install edgefel[rtx]")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("EDGEFEL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "engines"


@pytest.fixture
def bundle(tmp_path) -> Path:
    return tiny_bundle.write_bundle(tmp_path / "bundle")


def run(*arguments: object):
    return CliRunner().invoke(main, ["engine", *map(str, arguments)])


def engines(*arguments: object) -> list[dict]:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)["engines"]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def change_builder(bundle: Path, **changes: object) -> None:
    manifest = read_manifest(bundle)
    file = manifest.find("fp32", "engine")
    write_manifest(bundle, manifest.with_file(replace(file, builder={**file.builder, **changes})))


def test_an_engine_is_built_and_recorded(bundle):
    (row,) = engines(bundle, "--min-batch", 2, "--max-batch", 6, "--workspace-mb", 512, "--builder-level", 2)
    manifest = read_manifest(bundle)
    file = manifest.find("fp32", "engine")
    assert (row["file"], row["status"], row["precision"]) == ("model.fp32.engine", "built", "fp32")
    assert manifest.verify(file).stat().st_size == file.bytes
    assert file.builder["batch"] == {"min": 2, "opt": 2, "max": 6}
    assert (file.builder["workspace_mb"], file.builder["builder_level"]) == (512, 2)
    assert file.builder["source"] == "model.fp32.onnx"
    assert engine_mismatch(file) is None
    assert names(bundle) == [
        "manifest.json",
        "model.fp32.engine",
        "model.fp32.engine.layers.json",
        "model.fp32.onnx",
    ]
    assert json.loads((bundle / "model.fp32.engine.layers.json").read_text())["layers"]


def test_precisions_and_where_int8_comes_from(tmp_path):
    both = tiny_bundle.write_bundle(tmp_path / "both", ("fp16", "int8", "int8+fp16"))
    assert [row["file"] for row in engines(both)] == ["model.fp16.engine", "model.int8-fp16.engine"]
    plain = tiny_bundle.write_bundle(tmp_path / "plain", ("fp32", "int8"))
    (row,) = engines(plain, "--precision", "int8")
    assert row["file"] == "model.int8.engine"
    assert any("quantized for ONNX Runtime" in text for text in row["warnings"])
    result = run(plain, "--precision", "fp16")
    assert result.exit_code == 2
    assert "no ONNX file of precision fp16 to build an engine of; it has fp32, int8" in result.stderr


def test_an_engine_that_fits_is_kept_and_rebuild_builds_it(bundle):
    assert [engines(bundle)[0]["status"], engines(bundle)[0]["status"]] == ["built", "kept"]
    assert engines(bundle, "--rebuild")[0]["status"] == "built"


def test_an_engine_that_is_gone_comes_from_the_cache(bundle, cache):
    engines(bundle)
    whole = (bundle / "model.fp32.engine").read_bytes()
    (bundle / "model.fp32.engine").unlink()
    assert engines(bundle)[0]["status"] == "from cache"
    assert (bundle / "model.fp32.engine").read_bytes() == whole
    assert len(names(cache)) == 1
    (bundle / "model.fp32.engine").unlink()
    assert engines(bundle, "--no-cache")[0]["status"] == "built"


def test_no_cache_writes_none(bundle, cache):
    engines(bundle, "--no-cache")
    assert not cache.exists()


@pytest.mark.parametrize(
    ("change", "options", "said"),
    [
        ({"version": "0.1"}, (), "built with tensorrt_rtx 0.1, and here is"),
        ({"package": "tensorrt", "version": "10.3.0"}, (), "built with tensorrt 10.3.0"),
        ({"source_sha256": "0" * 64}, (), "was built of another model.fp32.onnx"),
        ({}, ("--max-batch", 4), "was built with max_batch 8 (asked for 4)"),
        ({"options": None, "batch": {"min": 1, "opt": 1, "max": 2}}, (), "was built for batches"),
    ],
)
def test_an_engine_that_does_not_fit_is_explained_and_rebuilt_on_request(bundle, change, options, said):
    engines(bundle)
    change_builder(bundle, **change)
    before = (bundle / "manifest.json").read_bytes()
    result = run(bundle, *options)
    assert result.exit_code == 2
    (line,) = [text for text in result.stderr.splitlines() if text.startswith("error: ")]
    assert f"model.fp32.engine: {said}" in line
    assert line.endswith("; pass --rebuild to replace it")
    assert (bundle / "manifest.json").read_bytes() == before
    assert engines(bundle, *options, "--rebuild")[0]["status"] == "built"
    assert engines(bundle, *options)[0]["status"] == "kept"


def test_a_damaged_engine_is_found(bundle):
    engines(bundle)
    (bundle / "model.fp32.engine").write_bytes(b"half")
    result = run(bundle)
    assert "the file is damaged or was changed; pass --rebuild" in result.stderr
    assert engines(bundle, "--rebuild")[0]["megabytes"] > 0.001


def test_a_damaged_onnx_file_is_not_built(bundle):
    (bundle / "model.fp32.onnx").write_bytes(b"half")
    result = run(bundle)
    assert result.exit_code == 2
    assert "SHA-256 differs from the manifest's" in result.stderr
    assert names(bundle) == ["manifest.json", "model.fp32.onnx"]


@pytest.mark.parametrize("there", [False, True])
def test_a_manifest_that_cannot_be_written_leaves_the_bundle_as_it_was(bundle, monkeypatch, there):
    if there:
        engines(bundle)
    before = {name: (bundle / name).read_bytes() for name in names(bundle)}
    real = manifest_module.write_json

    def full_disk(path, value):
        if Path(path).name == "manifest.json":
            raise OSError(28, "No space left on device")
        real(path, value)

    monkeypatch.setattr(manifest_module, "write_json", full_disk)
    result = run(bundle, "--rebuild", "--max-batch", 3)
    assert result.exit_code == 2
    assert "model.fp32.engine cannot be recorded (No space left on device); free disk space" in result.stderr
    assert {name: (bundle / name).read_bytes() for name in names(bundle)} == before


def test_options_this_tensorrt_does_not_have_are_errors(bundle):
    for option in (("--target", "sm_10"), ("--version-compatible",), ("--min-batch", 9)):
        result = run(bundle, *option)
        assert result.exit_code == 2, option
        assert "error: engine: " in result.stderr
    assert names(bundle) == ["manifest.json", "model.fp32.onnx"]


def test_the_table_and_a_folder_that_is_no_bundle(bundle, tmp_path):
    result = run(bundle)
    assert result.exit_code == 0
    assert "model.fp32.engine" in result.stdout
    assert "1 to 8" in result.stdout
    assert run(tmp_path / "none").exit_code == 2


def test_it_needs_neither_torch_nor_onnx(bundle, tmp_path):
    """As on a device: importing any of them is an error there."""
    code = (
        "import sys\n"
        "for name in ('torch', 'onnx', 'onnxruntime', 'onnxscript', 'onnxsim'): sys.modules[name] = None\n"
        "from edgefel.cli.main import main\n"
        "main(sys.argv[1:])"
    )
    command = [sys.executable, "-c", code, "engine", str(bundle), "--json"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["engines"][0]["status"] == "built"


def test_a_bundle_that_another_process_builds_engines_of_is_refused(bundle):
    from edgefel.files.write import sole_user

    with sole_user(bundle, ""):
        result = run(bundle)
    assert result.exit_code == 2
    assert "another process is building engines there" in result.stderr
    assert names(bundle) == ["manifest.json", "model.fp32.onnx"]


def test_without_a_bundle_a_copy_of_the_network_that_comes_with_edgefel_gets_them(shipped):
    before = {path.name: path.read_bytes() for path in shipped.iterdir()}
    result = run("--json")
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    assert Path(document["bundle"]) == find_shipped() != shipped
    assert document["engines"][0]["status"] == "built"
    assert read_manifest(find_shipped()).find("fp32", "engine").builder["source"] == "model.fp32.onnx"
    assert [row["status"] for row in engines()] == ["kept"]
    assert {path.name: path.read_bytes() for path in shipped.iterdir()} == before


def test_nothing_is_copied_without_tensorrt(shipped, cache, monkeypatch):
    for name in PACKAGES:
        monkeypatch.setitem(sys.modules, name, None)
    result = run()
    assert result.exit_code == 2
    assert "error: " in result.stderr
    assert find_shipped() == shipped
    assert not cache.with_name("networks").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            ("--kernels", "nothere"),
            "--kernels: nothere: no such folder; give one of 'edgefel kernels compile'",
        ),
        (
            ("--kernels", "."),
            "--kernels: its ONNX files have no fused operators; export it with --attention plugin",
        ),
        (("--kernels", ".", "--no-kernels"), "--kernels and --no-kernels exclude each other; leave one out"),
        (("--precision", "fp16"), "no ONNX file of precision fp16 to build an engine of; it has fp32"),
        (("--target", "sm_10"), "has no target 'sm_10'; it has current, "),
        (
            ("--version-compatible",),
            "has no version-compatible engines (--version-compatible); leave that option",
        ),
        (("--min-batch", "9"), "batch sizes must satisfy 1 <= min <= opt <= max"),
    ],
)
def test_nothing_is_copied_where_the_options_are_wrong(shipped, cache, options, said):
    result = run(*options)
    assert (result.exit_code, result.stdout) == (2, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert said in line
    assert not cache.parent.exists()


def test_without_a_bundle_and_without_that_network(none_shipped):
    result = run()
    assert result.exit_code == 2
    assert result.stderr.startswith("error: this installation holds no network; give BUNDLE")


def test_a_file_with_unsigned_activations_is_refused(tmp_path):
    """TensorRT would end with a message about zero points."""
    bundle = tiny_bundle.write_bundle(tmp_path / "bundle", ("fp32", "int8"))
    manifest = read_manifest(bundle)
    builder = {"policy": "onnxruntime", "activations": "asymmetric uint8"}
    file = replace(manifest.find("int8"), builder=builder)
    write_manifest(bundle, manifest.with_file(file))
    result = CliRunner().invoke(main, ["engine", str(bundle), "--precision", "int8"])
    assert result.exit_code == 2
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert (
        "TensorRT takes int8 with the zero point 0; 'edgefel export --int8' writes model.int8-fp16.onnx"
        in line
    )
    assert not list(bundle.glob("*.engine"))
