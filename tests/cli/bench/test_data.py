"""`edgefel bench data`, as users type it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from edgefel.bench.data_path import STAGES
from edgefel.bench.results import read_results
from edgefel.cli.bench import data
from edgefel.cli.main import Edgefel

ROWS = Path(__file__).parents[3] / "docs" / "results" / "baseline-2core.jsonl"
BRIEF = (
    "--quick",
    "--runs",
    "2",
    "--seconds",
    "0.01",
    "--model",
    "arbex-nano",
    "--images",
    "8",
    "--batch-size",
    "4",
)


# with errors as in `edgefel`: one line and 2
GROUP = Edgefel("bench", package="edgefel.cli.bench", helps={"data": ""})


def bench(*arguments: object):
    words = [str(argument) for argument in arguments]
    data = ["--data"] if words and not words[0].startswith("-") else []
    return CliRunner().invoke(GROUP, ["data", *data, *words])


def test_tables_and_rows_of_both(faces_folder, tmp_path):
    rows = tmp_path / "rows.jsonl"
    result = bench(
        faces_folder,
        *BRIEF,
        "--rows",
        30_000,
        "--videos",
        20,
        "--train-rows",
        ROWS,
        "--stages",
        "read,whole",
        "-o",
        rows,
    )
    assert result.exit_code == 0, result.output
    assert "30000 images, balanced epochs" in result.stdout
    assert "The data path for arbex-nano: images of 128x128" in result.stdout
    assert "times training" in result.stdout
    found = read_results(rows).rows
    assert [row.subject["stage"] for row in found][:4] == [
        *("open the table", "make the sampler", "draw an epoch"),
        "read",
    ]
    assert found[-1].metrics["training_images_per_s"] == pytest.approx(52.678, abs=1e-3)
    assert "arbex-nano bf16 pytorch, batch 32" in found[-1].notes[0]


def test_json_is_rows_and_nothing_else(faces_folder):
    result = bench(faces_folder, *BRIEF, "--stages", "decode,whole", "--workers", "2", "--json")
    assert result.exit_code == 0, result.output
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(line["kind"], line["subject"]["stage"]) for line in lines] == [
        ("data-path", "decode"),
        ("data-path", "whole"),
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "nothing to time"),
        (("nowhere",), "nowhere"),
        (("--rows", "100"), "at least one video"),
        (("x", "--stages", "fly"), "'fly' is not one of"),
        (("x", "--workers", "0"), "numbers of at least 1"),
        (("x", "--batch-size", "64", "--images", "8"), "at least one batch"),
        (("x", "--train-images-per-s", "0"), "0"),
        (("x", "--train-images-per-s", "5", "--train-rows", "y"), "say the same"),
        (("x", "--train-rows", ROWS, "--model", "poster-v2"), "holds no training of poster-v2"),
        (("x", "--train-rows", "nowhere.jsonl"), "nowhere.jsonl: no such file"),
        (("x", "--model", "magic"), "magic"),
    ],
)
def test_bad_input_is_one_line_and_2(arguments, message, tmp_path):
    result = bench(*arguments, "-o", tmp_path / "rows.jsonl")
    assert result.exit_code == 2
    assert message in result.stderr.strip().splitlines()[-1]
    assert result.stdout == ""
    assert not (tmp_path / "rows.jsonl").exists()


def test_stages_are_those_of_the_bench():
    """They are written out, so that help needs nothing else."""
    assert data.STAGES == STAGES


def test_help_has_examples():
    result = bench("--help")
    assert result.exit_code == 0
    assert "edgefel bench data --data faces" in result.stdout
