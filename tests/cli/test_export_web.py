"""`edgefel export --web`."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner
from small_web import small_web
from tiny_bundle import write_bundle

from edgefel.cli.main import main
from edgefel.web import onnxruntime_web


@pytest.fixture
def given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The options of a page that no browser opens."""
    options = small_web(tmp_path / "small", monkeypatch)
    return ["--web", "--detector-model", options.detector_model, "--onnxruntime-web", options.onnxruntime_web]


def run(*arguments: object):
    return CliRunner().invoke(main, ["export", *map(str, arguments)])


def contract_of(page: Path) -> dict[str, Any]:
    return json.loads((page / "contract.json").read_text())


def test_without_a_checkpoint_the_shipped_network_is_taken(shipped, given, tmp_path):
    page = tmp_path / "my page"
    result = run(*given, "-o", page)
    assert result.exit_code == 0, result.output
    assert contract_of(page)["name"] == shipped.name
    assert (page / "models" / "network.onnx").read_bytes() == (shipped / "model.fp32.onnx").read_bytes()
    assert "onnxruntime-web/" in result.stdout
    command = shlex.split(result.stdout.splitlines()[-1])
    assert command == ["python3", "-m", "http.server", "--bind", "127.0.0.1", "--directory", str(page)]
    again = run(*given, "-o", page)
    assert again.exit_code == 2
    assert "the folder is not empty" in again.stderr
    assert run(*given, "-o", page, "--overwrite").exit_code == 0


def test_a_bundle_in_int8_as_json(given, tmp_path):
    bundle = write_bundle(tmp_path / "bundle", ("fp32", "int8"))
    result = run(bundle, *given, "--int8", "-o", tmp_path / "page", "--json")
    document = json.loads(result.stdout)
    assert (document["folder"], document["precision"]) == (str(tmp_path / "page"), "int8")
    assert {"path", "bytes", "sha256"} == set(document["files"][0])
    assert contract_of(tmp_path / "page")["network"]["precision"] == "int8"


def test_a_checkpoint_is_exported_first(given, tmp_path, monkeypatch):
    pytest.importorskip("onnxscript", reason="exports a checkpoint")
    from edgefel.export import bundle

    asked = []

    def export(checkpoint, output, options, **more):
        asked.append((checkpoint, options.precisions, options.per_class, more["data"]))
        write_bundle(output, ("fp32", "int8"))
        return SimpleNamespace(warnings=("careful",), notes=())

    monkeypatch.setattr(bundle, "export_bundle", export)
    checkpoint = tmp_path / "runs" / "nano"
    checkpoint.mkdir(parents=True)
    more = ["--int8", "--data", "faces", "--per-class", 7]
    result = run(checkpoint, *given, *more, "-o", tmp_path / "page")
    assert result.exit_code == 0, result.output
    assert asked == [(checkpoint, ("int8",), 7, Path("faces"))]
    assert "warning: careful" in result.stderr
    assert contract_of(tmp_path / "page")["name"] == "nano"


def test_the_download_is_announced(shipped, given, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    result = run(*given[:3], "-o", tmp_path / "page")
    assert result.exit_code == 2
    version = f"onnxruntime-web {onnxruntime_web.VERSION}"
    assert f"downloading {version} by npm (33 MB, MIT licence)" in result.stderr
    assert result.stderr.splitlines()[-1].startswith(
        f"error: {version} cannot be downloaded: there is no npm"
    )
    assert not (tmp_path / "page").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--fp16"], "--fp16: --web takes an FP32 or an INT8 file"),
        (["--engine"], "--engine: --web takes an FP32 or an INT8 file"),
        (["--weights", "int4"], "--weights: --web takes"),
        (["--fp32", "--int8"], "--fp32 and --int8 exclude each other"),
        (["--data", "faces"], "--data: a bundle is exported already; leave it out"),
        (["--calibration", "mse"], "--calibration: a bundle is exported already"),
        (["--layout", "raf-db"], "--layout"),
    ],
)
def test_options_that_do_not_fit(shipped, given, tmp_path, arguments, message):
    result = run(*given, *arguments, "-o", tmp_path / "page")
    assert result.exit_code == 2
    assert message in result.stderr
    assert not (tmp_path / "page").exists()


def test_without_yunet_the_error_says_how_to_get_it(shipped, given, tmp_path):
    result = run("--web", *given[3:], "-o", tmp_path / "page")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: YuNet needs its ONNX file: run 'edgefel detector get'")


@pytest.mark.parametrize("option", ["--detector-model", "--onnxruntime-web"])
def test_options_of_the_page_alone_are_refused(tmp_path, option):
    result = run(tmp_path, "-o", tmp_path / "bundle", option, tmp_path)
    assert (result.exit_code, f"{option} belongs to --web" in result.stderr) == (2, True)


def test_a_bundle_takes_a_checkpoint(tmp_path):
    result = run("-o", tmp_path / "bundle")
    assert result.exit_code == 2
    assert "Missing argument 'CHECKPOINT'" in result.stderr
