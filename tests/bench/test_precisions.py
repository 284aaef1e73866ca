"""PyTorch and the files of a network, timed in turn."""

from __future__ import annotations

import json

import pytest

from edgefel.bench import precisions
from edgefel.bench.compare import run


@pytest.mark.slow
def test_a_row_has_every_file_with_its_ratio(capsys, monkeypatch, nano_weights):
    measured = []
    compare = run.compare
    monkeypatch.setattr(run, "compare", lambda *wanted: measured.append(compare(*wanted)) or measured[0])
    assert precisions.main(["--model", "arbex-nano", "--runs", "3", "--seconds", "3"]) == 0
    row = json.loads(capsys.readouterr().out)
    rows = {entry["name"]: entry for entry in row["rows"]}
    assert list(rows) == [precisions.EAGER, "fp32", "int8"]
    eager = rows[precisions.EAGER]
    assert eager["times_as_fast_as_eager"] == 1.0
    for name in ("fp32", "int8"):
        ratio = eager["ms_p50"] / rows[name]["ms_p50"]
        assert rows[name]["times_as_fast_as_eager"] == pytest.approx(ratio, rel=0.02)
        low, high = rows[name]["interval"]
        assert low <= rows[name]["times_as_fast_as_eager"] <= high
    assert rows["int8"]["megabytes"] < rows["fp32"]["megabytes"]
    # it was exported with random weights
    for one in measured[0].rows:
        assert one.notes == ("random weights: its labels mean nothing",)
        assert "accuracy" not in one.metrics
    assert row["command"] == "python -m edgefel.bench.precisions --model arbex-nano --threads 1"


@pytest.mark.parametrize("arguments", [["--model", "nothing"], ["--threads", "0"]])
def test_bad_arguments_are_one_line(arguments, capsys):
    assert precisions.main(arguments) == 2
    assert capsys.readouterr().err.startswith("error: ")
