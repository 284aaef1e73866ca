"""`edgefel evaluate` at the terminal."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from edgefel.cli.main import main


def run(checkpoint, data, *arguments: object):
    words = [checkpoint, "--data", data, *arguments]
    return CliRunner().invoke(main, ["evaluate", *map(str, words)])


def test_the_table_and_the_coverage_are_printed(evaluated):
    result, _ = evaluated
    for text in ("without head", "with head", "macro F1", "ECE", "recall fear", "skipped 2", "4.png"):
        assert text in result.stdout
    assert "--min-confidence" in result.stdout


def test_without_a_head_there_is_one_column_and_coverage_is_an_option(headless, faces):
    done = run(headless, faces, "--workers", 0)
    assert done.exit_code == 0, done.output
    assert "no reliability head" in done.stdout
    assert "with head" not in done.stdout
    assert "--min-confidence" not in done.stdout


def test_one_json_document_is_printed(nano_checkpoint, faces):
    done = run(nano_checkpoint, faces, "--json", "--workers", 0)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["images"] == 19


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("{none}", "{faces}"), "no such checkpoint"),
        (("{nano}", "{none}"), "no such folder"),
        (("{nano}", "{faces}", "--device", "cuda:77"), "is not available here"),
        (("{nano}", "{faces}", "-o", "{faces}"), "the folder is not empty"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(nano_checkpoint, faces, tmp_path, arguments, message):
    places = {"none": tmp_path / "none", "nano": nano_checkpoint, "faces": faces}
    done = run(*(argument.format(**places) for argument in arguments))
    assert done.exit_code == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "none").exists()
