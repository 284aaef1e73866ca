"""`--votes`: one file of votes from the command line to the report, on every command that opens a data set."""

from __future__ import annotations

import csv
import json
import re

import click
import pytest
from click.testing import CliRunner
from data.readers.trees_fer_plus import write_disagreeing

from edgefel.calib.calibration_set import read_calibration_set
from edgefel.cli.main import COMMANDS, main
from edgefel.data.open import open_dataset

WARNING = "label.csv differs in the votes of 3 of 32 images and in the class of 1"


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    folder = tmp_path_factory.mktemp("votes") / "fer-plus"
    write_disagreeing(folder)
    return folder


def run(*arguments: object):
    return CliRunner().invoke(main, [*map(str, arguments)])


def commands(command: click.Command, *names: str):
    context = click.Context(command)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from commands(below, *names, name)
    else:
        yield " ".join(names), {flag for parameter in command.params for flag in parameter.opts}


def test_every_command_that_takes_a_layout_takes_a_file_of_votes():
    taking = {name: flags for name, flags in commands(main) if "--layout" in flags and name != "import"}
    assert {"train", "evaluate", "calibrate", "export", "parity", "ablate", "bench compare"} < set(taking)
    assert {"data inspect", "data prepare", "data sheet"} < set(taking)
    assert [name for name, flags in taking.items() if "--votes" not in flags] == []
    assert set(COMMANDS) >= {name.split()[0] for name in taking}


def test_inspect_names_the_file_and_counts_contradictions_for_both(faces, tmp_path):
    result = run("data", "inspect", faces, "--json", "-o", tmp_path / "out", "--workers", 1)
    assert result.exit_code == 0, result.output
    assert result.stderr.count(f"warning: {faces}: labels are those of fer2013new.csv; {WARNING}") == 1
    report = json.loads(result.stdout)
    assert report == json.loads((tmp_path / "out/report.json").read_text(encoding="utf-8"))
    assert report["votes"] == {
        "layout": "fer-plus:fer2013new.csv",
        "file": "fer2013new.csv",
        "other": "label.csv",
        "compared": 32,
        "votes_differ": 3,
        "class_differs": 1,
    }
    by = {one["file"]: one for one in report["by_labels_file"]}
    assert list(by) == ["fer2013new.csv", "label.csv"]
    assert [one["copies"]["contradicting"] for one in by.values()] == [0, 1]
    assert [one["copies"]["across_splits"] for one in by.values()] == [2, 2]
    assert [one["near"]["across_splits"] for one in by.values()] == [1, 1]
    assert by["label.csv"]["per_split"] == {"train": 16, "val": 8, "test": 8}


def test_inspect_by_the_other_file_puts_contradictions_first_by_name(faces):
    result = run("data", "inspect", faces, "--votes", "label.csv", "--workers", 1)
    assert result.exit_code == 0, result.output
    assert "labels: votes of label.csv" in result.stdout
    assert re.search(
        r"by label.csv: 32 images .*; contradicting: 1 set of equal files, 0 pairs", result.stdout
    )
    copies = [line for line in result.stdout.splitlines() if line.startswith("copies: /")]
    assert "fer0000000.png (train, neutral) = " in copies[0]
    assert "fer0000024.png (test, happiness)" in copies[0]
    (alike,) = [line for line in result.stdout.splitlines() if line.startswith("look alike: /")]
    assert "fer0000004.png (train, surprise) ~ " in alike
    assert "fer0000026.png (test, surprise)" in alike
    assert "problem: 1 image with equal files under different labels" in result.stdout


def test_prepare_takes_and_names_the_file(faces, tmp_path):
    options = ("--no-detect", "--size", 48, "--workers", 1, "--json")
    result = run("data", "prepare", faces, "-o", tmp_path / "out", "--votes", "label.csv", *options)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["votes"]["file"] == "label.csv"
    with (tmp_path / "out/labels.csv").open(newline="") as stream:
        labels = {row["source"].split("/")[-1]: row["label"] for row in csv.DictReader(stream)}
    assert labels["fer0000024.png"] == "happiness"


def test_a_calibration_set_is_of_its_file_for_good(faces, tmp_path):
    result = run(
        "calibrate", "--data", faces, "-o", tmp_path / "set.json", "--layout", "fer-plus-7", "--per-class", 1
    )
    assert result.exit_code == 0, result.output
    assert "labels: votes of fer2013new.csv" in result.stdout
    chosen = read_calibration_set(tmp_path / "set.json")
    assert chosen.layout == "fer-plus-7:fer2013new.csv"
    named = open_dataset(chosen.root, layout=chosen.layout)
    assert named.votes is not None
    assert named.votes.file == "fer2013new.csv"


def test_a_sheet_of_the_other_file(faces, tmp_path):
    result = run("data", "sheet", faces, "-o", tmp_path / "s.png", "--votes", "label.csv", "--split", "test")
    assert result.exit_code == 0, result.output
    assert "warning: " in result.stderr
    assert "labels are those of label.csv" in result.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--votes", "majority.csv"), "'majority.csv' is not one of"),
        (("--votes", "label.csv", "--layout", "raf-db"), "of FER+ only, and the layout is raf-db"),
        (("--votes", "label.csv", "--layout", "fer-plus:fer2013new.csv"), "names another file"),
        (("--layout", "fer-plus:majority"), "votes 'majority': choose one of fer2013new.csv, label.csv"),
    ],
)
def test_a_choice_that_cannot_be(faces, options, message):
    result = run("data", "inspect", faces, *options)
    assert result.exit_code == 2
    assert message in result.stderr.replace("\n", " ")
    assert "Traceback" not in result.stderr


def test_votes_without_data_and_of_another_set_are_refused(faces_folder, tmp_path):
    alone = run("export", tmp_path / "run", "-o", tmp_path / "out", "--fp32", "--votes", "label.csv")
    assert alone.exit_code == 2
    assert "--votes belongs to --data" in alone.stderr
    other = run("data", "inspect", faces_folder, "--votes", "label.csv")
    assert other.exit_code == 2
    assert "no label.csv of FER+ in it; is it FER+?" in other.stderr
