"""`edgefel bench compare` on a committed bundle: table, rows, refusals."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from edgefel.bench.report import headline
from edgefel.bench.results import read_results
from edgefel.cli.main import main

BUNDLE = Path(__file__).parents[2] / "bundles" / "nano-synthetic"
FEW = ("--precision", "fp32", "--backend", "onnxruntime", "--quick", "--runs", "3", "--no-memory")


def bench(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["bench", "compare", *map(str, arguments)])


def test_rows_are_added_and_shown(tmp_path):
    rows = tmp_path / "new" / "rows.jsonl"
    first = bench(BUNDLE, *FEW, "-o", rows)
    assert first.exit_code == 0, first.output
    assert "times as fast as arbex-nano fp32 onnxruntime" in first.stdout
    said = " ".join(first.stdout.split())
    assert (
        "No accuracy was measured, so nothing is recommended; the fastest is arbex-nano fp32 in onnxruntime"
        in said
    )
    assert "To get one, compare trained models: edgefel bench compare RUN --data DATA." in said
    second = bench(BUNDLE, *FEW, "-o", rows, "--json")
    assert second.exit_code == 0, second.output
    loaded = read_results(rows)
    assert loaded.problems == ()
    assert len(loaded.rows) == 2
    assert loaded.rows[0].key == loaded.rows[1].key
    assert [json.loads(line) for line in second.stdout.splitlines()] == [loaded.rows[1].to_dict()]
    assert loaded.rows[0].subject == {
        "model": "arbex-nano",
        "precision": "fp32",
        "backend": "onnxruntime",
        "batch": 1,
        "threads": 1,
    }


def test_it_ends_with_a_recommendation_or_says_why_there_is_none(nano_checkpoint, faces_folder, monkeypatch):
    # judged by accuracy; whether a run of a few calls was steady is not this test's matter
    for model, steady, expected in (
        (nano_checkpoint, True, "Run "),
        (BUNDLE, False, "No row within 1 point of the best accuracy ("),
    ):
        monkeypatch.setattr(headline, "steadiness", lambda row, steady=steady: (steady, ""))
        result = bench(model, *FEW, "--data", faces_folder, "--images", "14")
        assert result.exit_code == 0, result.output
        assert expected in " ".join(result.stdout.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing"], "nothing: no such folder, and no registered model; known models: arbex, poster-v2"),
        ([BUNDLE, "--backend", "magic"], "backend 'magic' is not known; choose from: pytorch, torch.compile"),
        ([BUNDLE, "--runs", "0"], "'--runs': 0 is not in the range"),
        ([BUNDLE, "--batch-sizes", "1,0"], "give numbers of at least 1 with commas between them"),
        ([BUNDLE, "--precision", "fp8"], "'fp8' is not one of fp32, fp16, int8"),
        ([BUNDLE, BUNDLE, "--backend", "onnxruntime"], "another one is called arbex-nano too"),
        ([BUNDLE, "--layout", "raf-db"], "--layout belongs to --data"),
        ([BUNDLE, *FEW, "--data", BUNDLE, "--layout", "imagenet"], "layout 'imagenet' is not known"),
        ([BUNDLE, "--backend", "pytorch"], "a bundle holds no PyTorch model; give its checkpoint"),
    ],
)
def test_bad_input_is_one_line_and_2(arguments, message):
    result = bench(*arguments)
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())


def test_a_place_where_nothing_can_be_written_is_refused_before_any_work(tmp_path):
    (tmp_path / "file").write_text("mine")
    result = bench(BUNDLE, *FEW, "-o", tmp_path / "file" / "rows.jsonl")
    assert result.exit_code == 2
    assert "cannot be written" in result.output
    assert "preparing" not in result.output
