"""`edgefel demo`: the stages in order, going on after an interruption, refusing other folders.

The whole demo runs once, small, with everything in it; the tests look at what it left.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import shallow
from click.testing import CliRunner

from edgefel.cli.demo import RECIPE, Demo
from edgefel.cli.main import main

SMALL = {"faces": 210, "subjects": 21, "epochs": 1, "per_class": 10}


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A demo in which every stage ran."""
    pytest.importorskip("tensorrt_rtx", reason="engines are built by TensorRT for RTX (extra rtx)")
    from edgefel.cli.demo import _photo

    folder = tmp_path_factory.mktemp("demo") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("edgefel.cli.demo.RECIPE", RECIPE + shallow.PYRAMID)
        patch.setattr("edgefel.cli.demo.TIMING_SECONDS", 0.1)
        Demo(folder, engine=True, photo=str(_photo(None)), seed=0, **SMALL).run()
    return folder


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr("edgefel.cli.demo.FULL", SMALL)
    monkeypatch.setattr("edgefel.cli.demo.TIMING_SECONDS", 0.1)


@pytest.mark.slow
def test_everything_is_there(finished):
    for file in (
        "faces/labels.csv",
        "faces/contact_sheet.png",
        "run/best.json",
        "evaluation/confusion.png",
        "bundle/manifest.json",
        "photograph/grace_hopper.jpg",
        "results.json",
    ):
        assert (finished / file).stat().st_size > 0, file


@pytest.mark.slow
def test_the_results_cover_every_file_and_its_engine(finished):
    results = json.loads((finished / "results.json").read_text())
    rows = {row["file"]: row for row in results["comparison"]["files"]}
    assert {"PyTorch", "model.fp32.onnx", "model.fp16.onnx", "model.int8.onnx"} <= set(rows)
    for name in ("fp32", "fp16", "int8-fp16"):
        assert rows[f"model.{name}.engine"]["megabytes"] > 0
        assert rows[f"model.{name}.engine"]["accuracy"] is None
    assert rows["model.fp32.onnx"]["agreement"] == 1.0
    assert rows["model.fp32.onnx"]["deviation"] < 1e-4
    assert rows["model.fp32.onnx"]["accuracy"] == results["evaluation"]["with_head"]["accuracy"]


@pytest.mark.slow
def test_a_second_call_only_shows_the_results(finished, monkeypatch):
    def unwanted(arguments):
        raise AssertionError(f"ran again: {arguments}")

    monkeypatch.setattr("edgefel.cli.demo._run_command", unwanted)
    result = CliRunner().invoke(main, ["demo", "-o", str(finished), "--json"])
    assert result.exit_code == 0, result.output
    results = json.loads(result.stdout)
    assert set(results["seconds"]) == {
        "faces",
        "streams",
        "training",
        "evaluation",
        "export",
        "photograph",
        "measurement",
    }
    table = CliRunner().invoke(main, ["demo", "-o", str(finished)])
    assert "model.int8-fp16.engine" in table.stdout
    assert "faces/contact_sheet.png" in table.stdout


@pytest.mark.slow
def test_an_interrupted_demo_goes_on_where_it_stopped(finished, tmp_path):
    """Killed after the faces and after the photograph, before that was noted."""
    folder = shutil.copytree(finished, tmp_path / "demo")
    state = json.loads((folder / "state.json").read_text())
    for stage in ("faces", "photograph", "measurement"):
        del state["seconds"][stage]
    (folder / "state.json").write_text(json.dumps(state))
    photograph = folder / "photograph" / "grace_hopper.jpg"
    photograph.write_bytes(b"")
    (folder / "results.json").unlink()
    result = CliRunner().invoke(main, ["demo", "-o", str(folder), "--json"])
    assert result.exit_code == 0, result.output
    assert photograph.stat().st_size > 0
    shown = [line for line in result.stderr.splitlines() if "$ edgefel" in line]
    assert len(shown) == 1
    assert "predict" in shown[0]


def test_a_folder_in_use_and_other_options_are_refused(tmp_path):
    (tmp_path / "mine.txt").write_text("")
    result = CliRunner().invoke(main, ["demo", "-o", str(tmp_path)])
    assert result.exit_code == 2
    assert "in use and no demo" in result.stderr
    (tmp_path / "state.json").write_text('{"options": {}, "seconds": {}}')
    result = CliRunner().invoke(main, ["demo", "-o", str(tmp_path)])
    assert result.exit_code == 2
    assert "holds a demo with other options" in result.stderr


def test_a_missing_photograph_is_noticed_before_any_work(tmp_path):
    result = CliRunner().invoke(
        main, ["demo", "-o", str(tmp_path / "demo"), "--photo", str(tmp_path / "no.jpg")]
    )
    assert result.exit_code == 2
    assert "no such image" in result.stderr
    assert not (tmp_path / "demo").exists()


def test_a_demo_that_is_running_is_refused(tmp_path):
    from edgefel.files.write import sole_user

    with sole_user(tmp_path / "demo", ""):
        result = CliRunner().invoke(main, ["demo", "-o", str(tmp_path / "demo"), "--quick"])
    assert result.exit_code == 2
    assert "another demo is running there" in result.stderr
