"""`edgefel data inspect`: tables, files, exit codes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from edgefel.cli.main import main
from edgefel.data.synthetic import FaceOptions
from edgefel.data.synthetic.write import write_faces


@pytest.fixture
def faces(tmp_path):
    write_faces(tmp_path / "faces", FaceOptions(count=42, size=64, subjects=14))
    return tmp_path / "faces"


def run(*arguments):
    return CliRunner().invoke(main, ["data", "inspect", *map(str, arguments)])


def test_a_sound_data_set(faces):
    result = run(faces, "--strict")
    assert result.exit_code == 0
    assert "groups: 14" in result.stdout
    assert "42 faces smaller than 112" in result.stdout
    assert "no leakage across splits, no contradicting labels, no unreadable files" in result.stdout


def test_a_problem_ends_with_3_when_strict_and_with_0_otherwise(faces):
    image = next((faces / "images").rglob("*.png"))
    image.write_bytes(b"")
    assert run(faces).exit_code == 0
    result = run(faces, "--strict", "--json", "--workers", "1")
    assert result.exit_code == 3
    report = json.loads(result.stdout)
    assert report["problems"] == ["1 unreadable file"]
    assert report["unreadable"]["listed"][0]["path"] == str(image)


def test_the_folder_holds_the_report_and_its_images(faces, tmp_path):
    out = tmp_path / "out"
    result = run(faces, "-o", out)
    assert result.exit_code == 0
    assert f"report: {out / 'report.json'}" in result.stdout
    assert sorted(path.name for path in out.iterdir()) == ["balance.png", "contact_sheet.png", "report.json"]
    assert json.loads((out / "report.json").read_text(encoding="utf-8"))["images"] == 42
    assert np.ptp(cv2.imread(str(out / "balance.png"))) > 100
    again = run(faces, "-o", out)
    assert again.exit_code == 2
    assert "the folder is not empty" in again.stderr
    assert run(faces, "-o", out, "--overwrite").exit_code == 0


def test_overwrite_takes_no_other_folder(faces, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").write_bytes(b"precious")
    result = run(faces, "-o", tmp_path / "photos", "--overwrite")
    assert result.exit_code == 2
    assert "holds a.png; choose another folder" in result.stderr
    assert (tmp_path / "photos" / "a.png").read_bytes() == b"precious"


@pytest.mark.parametrize("overwrite", [(), ("--overwrite",)])
def test_what_was_put_there_during_the_inspection_is_left(faces, tmp_path, monkeypatch, overwrite):
    from edgefel.data.inspection import inspect as inspection

    out = tmp_path / "out"
    if overwrite:
        assert run(faces, "-o", out).exit_code == 0
    inspect = inspection.inspect_dataset

    def meanwhile(*arguments, **options):
        out.mkdir(exist_ok=True)
        (out / "precious.txt").write_text("mine")
        return inspect(*arguments, **options)

    monkeypatch.setattr(inspection, "inspect_dataset", meanwhile)
    result = run(faces, "-o", out, *overwrite)
    assert result.exit_code == 2
    assert (out / "precious.txt").read_text() == "mine"


# a process that was started in the background may have been told to ignore Ctrl-C, and its children with it
INTERRUPTIBLE = """
import signal, sys
from edgefel.data import dataset
from edgefel.cli.main import main

signal.signal(signal.SIGINT, signal.default_int_handler)
read = dataset.read_image_file


def read_once_told(path):
    # the inspection has begun, and waits at an image
    print("begun", flush=True)
    sys.stdin.read()
    return read(path)


dataset.read_image_file = read_once_told
main()
"""


def test_ctrl_c_ends_with_130_and_leaves_nothing(faces, tmp_path):
    lines = (faces / "labels.csv").read_text().splitlines(keepends=True)
    (faces / "labels.csv").write_text("".join([lines[0], *lines[1:] * 100]))  # too many to be done at once
    command = ["data", "inspect", str(faces), "-o", str(tmp_path / "out"), "--workers", "1"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen([sys.executable, "-c", INTERRUPTIBLE, *command], text=True, **pipes)
    assert process.stdout.readline() == "begun\n"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)  # closes its standard input, and the image is read
    assert process.returncode == 130
    assert errors.splitlines()[-1] == "interrupted"
    assert list(tmp_path.iterdir()) == [faces]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("missing",), "missing: no such folder"),
        ((".", "--layout", "imagenet"), "layout 'imagenet' is not known"),
        ((".", "--distance", "11"), "11 is not in the range 0<=x<=10"),
    ],
)
def test_bad_input_is_one_line_and_2(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    result = run(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr.replace("\n", " ")


def test_it_says_how_faces_are_framed(faces, tmp_path):
    result = run(faces)
    assert "framing: eyes at 0.3" in result.stdout
    framing = json.loads(run(faces, "--json").stdout)["framing"]
    assert framing["framing"]["eyes_apart"] == pytest.approx(0.36, abs=0.03)
    assert 8 <= framing["faces"] <= framing["images"] <= 42
    refused = run(faces, "--detector-model", tmp_path / "none.onnx")
    assert refused.exit_code == 2
    assert "none.onnx: no such file" in refused.stderr
