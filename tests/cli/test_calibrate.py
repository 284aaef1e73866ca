"""`edgefel calibrate`, end to end."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from edgefel.calib.calibration_set import read_calibration_set
from edgefel.cli.main import main
from edgefel.runtime.manifest import read_manifest


def calibrate(*arguments):
    return CliRunner().invoke(main, ["calibrate", *map(str, arguments)])


def test_it_writes_a_set_and_shows_the_classes(faces_folder, tmp_path):
    result = calibrate(faces_folder, "-o", tmp_path / "set.json", "--per-class", 2)
    assert result.exit_code == 0, result.output
    assert "14 pictures" in result.stdout
    assert set(read_calibration_set(tmp_path / "set.json").counts.values()) == {2}


def test_json_and_a_warning_for_small_classes(faces_folder, tmp_path):
    result = calibrate(
        faces_folder, "-o", tmp_path / "set.json", "--per-class", 400, "--group-cap", 400, "--json"
    )
    document = json.loads(result.stdout)
    assert len(document["short"]) == 7
    assert "warning: anger has" in result.stderr
    assert document["key"] == read_calibration_set(tmp_path / "set.json").key()


def test_a_file_that_exists_is_kept(faces_folder, tmp_path):
    (tmp_path / "set.json").write_text("mine")
    result = calibrate(faces_folder, "-o", tmp_path / "set.json")
    assert result.exit_code == 2
    assert "exists; choose another file" in result.stderr
    assert (tmp_path / "set.json").read_text() == "mine"


def test_missing_data_is_one_line_and_leaves_nothing(tmp_path):
    result = calibrate(tmp_path / "nowhere", "-o", tmp_path / "set.json")
    assert result.exit_code == 2
    assert len(result.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "set.json").exists()


def test_a_set_without_int8_is_refused(nano_checkpoint, tmp_path):
    arguments = [
        nano_checkpoint,
        "-o",
        tmp_path / "bundle",
        "--fp32",
        "--calibration-set",
        tmp_path / "set.json",
    ]
    result = CliRunner().invoke(main, ["export", *map(str, arguments)])
    assert result.exit_code == 2
    assert "only INT8 is calibrated; add --int8" in result.stderr
    assert not (tmp_path / "bundle").exists()


@pytest.mark.slow
def test_an_export_calibrates_on_the_set_and_its_manifest_says_so(nano_checkpoint, faces_folder, tmp_path):
    calibrate(faces_folder, "-o", tmp_path / "set.json", "--per-class", 2)
    arguments = [
        nano_checkpoint,
        "-o",
        tmp_path / "bundle",
        "--int8",
        "--calibration-set",
        tmp_path / "set.json",
    ]
    result = CliRunner().invoke(main, ["export", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    builder = read_manifest(tmp_path / "bundle").files[0].builder
    assert builder["calibration"]["key"] == read_calibration_set(tmp_path / "set.json").key()
    assert builder["calibration"]["used"] == 14
