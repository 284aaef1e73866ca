"""`edgefel export` from the command line."""

from __future__ import annotations

import json
import resource
import shutil

import pytest
from click.testing import CliRunner
from exported import LABELS, large_bundle, save, tiny_graph, tiny_model, write_faces

from edgefel.calib.sampling import DEFAULT_GROUP_CAP, DEFAULT_PER_CLASS
from edgefel.calib.thresholds import METHODS
from edgefel.cli.export import command
from edgefel.cli.main import main
from edgefel.data.labels import expression_labels
from edgefel.export.options import ExportOptions
from edgefel.runtime.manifest import read_manifest


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return save(tmp_path_factory.mktemp("checkpoint") / "nano", tiny_model())


def run(*arguments: object):
    return CliRunner().invoke(main, ["export", *(str(argument) for argument in arguments)])


def test_json_alone_is_on_stdout_and_the_rest_on_stderr():
    folder, result = large_bundle()
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document["bundle"] == str(folder)
    assert [row["file"] for row in document["files"]] == [f.name for f in read_manifest(folder).files]
    assert document["files"][0]["verdict"] == "pass"
    assert {row["verdict"] for row in document["files"]} <= {"pass", "warn", None}
    assert document["refused"] is False
    assert document["files"][0]["max_deviation"] < 1e-4
    assert any("1 unreadable calibration images skipped" in text for text in document["warnings"])
    assert "trace and simplify" in result.stderr
    assert "warning: " in result.stderr


def test_a_bundle_is_not_overwritten_by_accident(checkpoint):
    folder = large_bundle()[0]
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    result = run(checkpoint, "-o", folder)
    assert result.exit_code == 2
    assert "--overwrite" in result.stderr
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def test_the_table_has_a_row_per_file_and_an_engine_is_not_called_compared():
    from edgefel.cli.export import _cells

    compared = {
        "file": "model.fp16.onnx",
        "precision": "fp16",
        "megabytes": 2.25,
        "max_deviation": 6.1e-4,
        "logits_sqnr_db": 68.5,
        "top1_agreement": 0.984,
        "verdict": "pass",
    }
    assert _cells(compared) == ("model.fp16.onnx", "fp16", "2.2", "6.1e-04", "68.5", "98.4%", "pass")
    built = {**dict.fromkeys(compared), "file": "a.engine", "precision": "fp16", "megabytes": 10.0}
    assert _cells(built) == ("a.engine", "fp16", "10.0", "-", "-", "-", "built, not run")
    infinite = {**built, "verdict": "fail"}
    assert _cells(infinite)[3:] == ("-", "-", "-", "fail")


def test_a_file_that_fails_is_named_the_bundle_is_written_and_the_exit_code_is_3(
    checkpoint, tmp_path, monkeypatch
):
    # the trace of these very weights, which other tests have paid for
    monkeypatch.setattr("edgefel.export.bundle.export_onnx", lambda *args, **options: tiny_graph())
    limits = tmp_path / "limits.yaml"
    limits.write_text("int8: {min_sqnr_db: 199}\n")
    faces = write_faces(tmp_path / "faces", LABELS, 2)
    options = ["--data", faces, "--fp32", "--int8", "--per-class", 1, "--limits", limits, "--json"]
    result = run(checkpoint, "-o", tmp_path / "out", *options)
    assert result.exit_code == 3, result.output
    document = json.loads(result.stdout)
    assert document["refused"] is True
    assert [row["verdict"] for row in document["files"]] == ["pass", "fail", "warn"]
    told = [line for line in result.stderr.splitlines() if line.startswith("model.int8.onnx: fail: ")]
    assert len(told) == 1
    assert "limit 199 dB" in told[0]
    marked = read_manifest(tmp_path / "out").find("int8")
    assert marked.verdict == "fail"
    assert marked.parity["limits"]["min_sqnr_db"] == 199
    assert (tmp_path / "out" / "model.int8.onnx").is_file()


def truncated(checkpoint, tmp_path):
    copy = shutil.copytree(checkpoint, tmp_path / "truncated")
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    return [copy]


def other_classes(checkpoint, tmp_path):
    copy = shutil.copytree(checkpoint, tmp_path / "other")
    description = json.loads((copy / "model.json").read_text())
    description["labels"] = [f"class {i}" for i in range(len(description["labels"]))]
    (copy / "model.json").write_text(json.dumps(description))
    return [copy, "--data", write_faces(tmp_path / "seven", expression_labels(7), 2)]


def empty_data(checkpoint, tmp_path):
    (tmp_path / "empty").mkdir()
    return [checkpoint, "--int8", "--data", tmp_path / "empty"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (lambda c, t: [t / "absent"], "absent"),
        (truncated, "truncated"),
        (lambda c, t: [c, "--data", t / "nowhere"], "no such folder"),
        (empty_data, "empty"),
        (other_classes, "share fewer than two classes"),
        (lambda c, t: [c, "--input-size", "224"], "takes 112x112 images"),
        (lambda c, t: [c, "--limits", t / "limits.yaml"], "no such file"),
        (lambda c, t: [c, "--data", t, "--layout", "imagenet"], "layout 'imagenet' is not known"),
        (lambda c, t: [c, "--layout", "raf-db"], "--layout belongs to --data"),
    ],
    ids=[
        "missing",
        "truncated",
        "no-data",
        "empty-data",
        "classes",
        "input-size",
        "limits",
        "layout",
        "layout-alone",
    ],
)
def test_bad_input_is_one_line_exit_code_2_and_nothing_written(checkpoint, tmp_path, arguments, message):
    filled = arguments(checkpoint, tmp_path)
    before = sorted(tmp_path.iterdir())
    result = run(*filled, "-o", tmp_path / "out")
    assert result.exit_code == 2, result.output
    error = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(error) == 1
    assert message in error[0]
    assert result.stdout == ""
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_nothing_is_left(checkpoint, tmp_path):
    """A limit on file sizes fails a write as a full disk does: part of the way in."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        result = run(checkpoint, "-o", tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert result.exit_code == 2, result.output
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert "cannot be written" in line
    assert "free disk space" in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [["--opset", "18"], ["--max-batch", "0"], ["--input-size", "96"]])
def test_impossible_options_exit_with_code_2(checkpoint, tmp_path, arguments):
    assert run(checkpoint, "-o", tmp_path / "out", *arguments).exit_code == 2


def test_the_defaults_are_the_librarys():
    options = {option.name: option for option in command.params}
    assert options["per_class"].default == DEFAULT_PER_CLASS
    assert options["group_cap"].default == DEFAULT_GROUP_CAP
    assert tuple(options["method"].type.choices) == METHODS
    assert options["method"].default == ExportOptions().method
    assert options["parity_images"].default == ExportOptions().parity_images


def test_help_shows_examples():
    result = run("--help")
    assert result.exit_code == 0
    assert "edgefel export runs/nano -o bundle --fp32 --fp16 --int8 --data faces" in result.stdout


@pytest.mark.parametrize(("flag", "value"), [("--max-drop", 1), ("--search-images", 64)])
def test_an_option_of_the_search_without_auto_is_refused(checkpoint, tmp_path, flag, value):
    result = run(checkpoint, "-o", tmp_path / "out", "--int8", flag, value)
    assert result.exit_code == 2, result.output
    assert result.stderr == (f"error: {flag} belongs to --auto; give that too, or leave it out\n")
    assert result.stdout == ""
    assert list(tmp_path.iterdir()) == []
