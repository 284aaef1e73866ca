"""`edgefel bench latency`, `throughput` and `train`, as users type them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from bench_rows import row, timing
from click.testing import CliRunner

from edgefel.bench.results import read_results
from edgefel.cli.bench import options
from edgefel.cli.bench.options import make_plan
from edgefel.cli.main import main

BUNDLE = Path(__file__).parents[2] / "bundles" / "nano-synthetic"
ORT = ("--backend", "onnxruntime")
BRIEF = ("--quick", "--runs", "2", "--seconds", "0.01")


def bench(*arguments: object):
    return CliRunner().invoke(main, ["bench", *map(str, arguments)])


def test_latency_adds_rows_and_prints_tables(tmp_path):
    rows = tmp_path / "new" / "rows.jsonl"
    for count, stages in ((1, "--no-stages"), (2, "--stages")):
        result = bench("latency", BUNDLE, *BRIEF, *ORT, "--threads", "1", "--no-memory", stages, "-o", rows)
        assert result.exit_code == 0, result.output
        assert len(read_results(rows).rows) == count
    assert "arbex-nano: the model alone" in result.stdout
    assert "from an image to labels" in result.stdout
    for word in ("detection", "alignment", "preprocessing", "inference", "post"):
        assert word in result.stdout


def test_json_is_rows_and_nothing_else(tmp_path):
    rows = tmp_path / "rows.jsonl"
    result = bench(
        *("latency", BUNDLE, *BRIEF, "--batch-sizes", "1,2", "--threads", "1", "--no-stages", "--no-memory"),
        *("--json", "-o", rows),
    )
    assert result.exit_code == 0, result.output
    assert [json.loads(line) for line in result.stdout.splitlines()] == [
        row.to_dict() for row in read_results(rows).rows
    ]
    assert "not measured: tensorrt: the bundle holds no engine" in result.stderr


def test_throughput_marks_the_knee():
    result = bench("throughput", BUNDLE, *ORT, "--seconds", "0.05", "--quick", "--concurrency", "1,2")
    assert result.exit_code == 0, result.output
    assert "callers in a closed loop" in result.stdout
    assert result.stdout.count("knee") == 1


def test_train_prints_a_table_and_says_that_kernels_need_a_gpu():
    result = bench(
        *(
            "train",
            "--model",
            "arbex-nano",
            "--batch-sizes",
            "2",
            *BRIEF,
            "--accelerator",
            "cpu",
            "--no-memory",
        )
    )
    assert result.exit_code == 0, result.output
    assert "arbex-nano: one training step" in result.stdout
    assert "no GPU: the fused kernels do not run here" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("latency", BUNDLE, "--backend", "tensorrt"), "the bundle holds no engine"),
        (("latency", BUNDLE, "--backend", "magic"), "'magic' is not one of"),
        (("latency", BUNDLE, "--precision", "int8"), "holds no int8 file, only fp32"),
        (("latency", BUNDLE, "--batch-sizes", "1,0"), "numbers of at least 1"),
        (("latency", BUNDLE, "--runs", "0"), "0 is not in the range"),
        (("latency", BUNDLE, "--seconds", "nan"), "not a finite number"),
        (("latency", "nowhere"), "nowhere"),
        (("throughput", BUNDLE, "--concurrency", "two"), "numbers of at least 1"),
        (("throughput", BUNDLE, "--seconds", "0"), "0"),
        (("train", "--model", "magic"), "magic"),
        (("train", "--batch-sizes", "1"), "at least 2"),
        (("train", "--precision", "int8"), "'int8' is not one of"),
    ],
)
def test_bad_input_is_one_line_and_2(arguments, message):
    result = bench(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr.strip().splitlines()[-1]
    assert result.stdout == ""


@pytest.mark.parametrize("command", [("latency", BUNDLE), ("throughput", BUNDLE), ("train",)])
def test_a_place_that_takes_no_rows_is_refused_before_measuring(command, tmp_path):
    (tmp_path / "file").write_text("mine")
    for place, message in (
        (tmp_path, "is a folder"),
        (tmp_path / "file" / "rows.jsonl", "is a file, not a folder"),
    ):
        result = bench(*command, "-o", place)
        assert result.exit_code == 2
        assert message in result.stderr
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("command", ["latency", "throughput", "train"])
def test_help_has_examples(command):
    result = bench(command, "--help")
    assert result.exit_code == 0
    assert f"edgefel bench {command}" in result.stdout


def test_how_long():
    assert (make_plan(False, None, None).min_runs, make_plan(True, None, None).min_runs) == (50, 8)
    brief, long = make_plan(True, 3, 0.01), make_plan(True, 3, 50)
    assert (brief.seconds, brief.settle_seconds) == (0.01, 0.01)
    assert (long.seconds, long.settle_seconds) == (50, make_plan(True, 3).settle_seconds)


def test_a_table_shows_metrics_by_format_and_a_dash_for_what_is_missing(capsys):
    measured = row("latency", metrics={"latency_ms": timing(5.0), "file_bytes": 45_800_000})
    cells = {
        ">ms": options.median,
        ">MB": "{file_bytes!M:.1f}",
        ">p99": "{latency_ms[p99]}",
        ">mJ": "{energy_mj}",
    }
    options.table([measured], "title", ("model", ">batch"), cells)
    shown = capsys.readouterr().out
    assert "45.8" in shown
    assert "–" in shown
    low, high = measured.metrics["latency_ms"]["p50_interval"]
    assert f"({low:.2f}–{high:.2f})" in shown


def test_a_number_that_is_not_stable_has_a_mark():
    shaky = {**timing(5.0), "stable": False}
    assert options.median(row("latency", metrics={"latency_ms": shaky})).endswith(" ~")


@pytest.mark.parametrize(
    "what", [("latency", "--no-memory", "--no-stages"), ("throughput", "--concurrency", "1")]
)
def test_without_a_bundle_the_network_that_comes_with_edgefel_is_measured(what, shipped):
    command, *more = what
    result = bench(command, "--quick", "--seconds", "0.01", *ORT, "--threads", "1", *more, "--json")
    assert result.exit_code == 0, result.output
    assert {json.loads(line)["subject"]["model"] for line in result.stdout.splitlines()} == {"tiny"}
