"""`edgefel bench profile` as users type it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from edgefel.bench.results import read_results
from edgefel.cli.main import main

BUNDLE = Path(__file__).parents[2] / "bundles" / "nano-synthetic"


def bench(*arguments: object):
    return CliRunner().invoke(main, ["bench", "profile", *map(str, arguments)])


def test_a_table_of_groups_and_the_slowest_nodes(tmp_path):
    rows = tmp_path / "rows.jsonl"
    result = bench(BUNDLE, "--backend", "onnxruntime", "--runs", "3", "--top", "2", "-o", rows)
    assert result.exit_code == 0, result.output
    assert "convolutions and products with weights" in result.stdout
    assert "with the profiler" in result.stdout
    assert "the slowest nodes" in result.stdout
    (row,) = read_results(rows).rows
    assert row.kind == "profile"
    assert len(row.metrics["slowest"]) == 2


def test_counts_by_operator_and_as_json():
    result = bench(BUNDLE, "--count", "--by", "operator", "--backend", "onnxruntime")
    assert result.exit_code == 0, result.output
    assert "nodes that are executed" in result.stdout
    assert "LayerNormalization" in result.stdout
    result = bench(BUNDLE, "--count", "--backend", "onnxruntime", "--json")
    row = json.loads(result.stdout)
    assert row["metrics"]["groups"]["head"]["nodes"] > 10


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing"], "nothing: no such folder, and no registered model"),
        ([BUNDLE, "--backend", "tensorrt"], "backend tensorrt: its profile is not read"),
        ([BUNDLE, "--precision", "int8", "--count"], "holds no ONNX file of what is to be counted"),
        ([BUNDLE, "--precision", "int8"], "holds no int8 file"),
    ],
)
def test_bad_input_is_one_line_and_2(arguments, message):
    result = bench(*arguments)
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())
    assert "Traceback" not in result.output
