"""`edgefel bench quantizers` as users type it."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
from click.testing import CliRunner

from edgefel.bench.quantizers.tools import all_settings
from edgefel.bench.results import read_results
from edgefel.cli.bench import quantizers
from edgefel.cli.main import main

BUNDLE = Path(__file__).parents[2] / "bundles" / "nano-synthetic"


def bench(*arguments: object):
    return CliRunner().invoke(main, ["bench", "quantizers", *map(str, arguments)])


def test_a_table_and_rows_and_what_is_not_installed(tmp_path):
    rows = tmp_path / "rows.jsonl"
    result = bench(
        *(BUNDLE, "--tool", "edgefel,modelopt", "--no-engines", "--quick", "--runs", "2", "--images", "7"),
        *("--per-class", "1", "-o", rows),
    )
    assert result.exit_code == 0, result.output
    assert "INT8 by post-training quantization" in result.stdout
    loaded = read_results(rows)
    assert loaded.problems == ()
    assert [row.subject["quantizer"] for row in loaded.rows] == [
        "FP32",
        *["edgefel"] * 2,
        *["NVIDIA ModelOpt"] * 2,
    ]
    if find_spec("modelopt") is None:
        assert "not installed; run: pip install 'nvidia-modelopt[onnx]'" in " ".join(result.stdout.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing"], "nothing: no such folder, and no registered model"),
        ([BUNDLE, "--tool", "magic"], "'magic' is not one of edgefel, nncf, onnxruntime, modelopt"),
        ([BUNDLE, "--layout", "raf-db"], "--layout belongs to --data"),
    ],
)
def test_bad_input_is_one_line_and_2(arguments, message):
    result = bench(*arguments)
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())


def test_the_tools_are_those_of_the_bench():
    assert tuple(dict.fromkeys(one.tool.module for one in all_settings("mse"))) == quantizers.TOOLS
