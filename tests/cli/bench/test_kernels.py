"""`edgefel bench kernels`: without a GPU nothing is timed; the resources of the compiled kernels are shown."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest
import torch
from click.testing import CliRunner, Result

from edgefel.cli.main import main
from edgefel.kernels.ahead_of_time.resources import TARGETS

pytest.importorskip("triton")

# one target: all of them take a minute
FEW_TARGETS = """
from edgefel.kernels.ahead_of_time import resources
resources.TARGETS = {arch: resources.TARGETS[arch] for arch in (87,)}
"""


def bench(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["bench", "kernels", *map(str, arguments)])


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU: the bench would run for minutes")
def test_without_a_gpu_it_says_so_and_compiles(tmp_path, compiling):
    result = compiling("bench", "kernels", "-o", tmp_path / "results", first=FEW_TARGETS)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("No CUDA device: nothing was timed.")
    assert "window_cross_attention_level1" in result.stdout
    document = json.loads((tmp_path / "results" / "kernels.json").read_text())
    assert document["measured"] is False
    assert document["reason"] == "no CUDA device: nothing was timed"
    assert "rows" not in document
    assert {row["arch"] for row in document["compiled"]} == {"sm_87"}
    assert {87, 90, 110} <= set(TARGETS)
    assert all(0 < row["occupancy"] <= 1 for row in document["compiled"])
    assert not (tmp_path / "results" / "kernels.png").exists()


def test_a_file_for_a_folder_is_refused_before_any_work(tmp_path):
    (tmp_path / "file").write_text("mine")
    result = bench("-o", tmp_path / "file")
    assert result.exit_code == 2
    assert result.stderr.strip().endswith("exists and is not a folder; choose another output folder")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_batch_of_none_is_a_usage_error():
    result = bench("--batch-sizes", "0")
    assert result.exit_code == 2
    assert "batch" in result.stderr


def test_what_was_measured_is_a_table_a_plot_and_rows(tmp_path, monkeypatch):
    """On a machine with a GPU, whose bench is replaced by rows that are given."""
    from edgefel.bench.kernels import suite

    timed = suite.KernelRow(
        "op", "level 1", 8, "fp16", "forward", "edgefel", ms_p50=0.25, roofline=0.5, error=0.0
    )
    failed = suite.KernelRow("op", "level 1", 8, "fp16", "forward", "flex", note="does not run: no")
    summary = {
        "op": "op",
        "dtype": "fp16",
        "mode": "forward",
        "geometric_mean": 2.0,
        "least": 1.5,
        "problems": 3,
    }
    document = {"bench": "kernels", "measured": True, "device": "a GPU", "summary": [summary]}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(suite, "measure_kernels", lambda *asked: {**document, "rows": [timed, failed]})
    result = bench("-o", tmp_path / "results")
    assert result.exit_code == 0, result.output
    for text in ("0.2500", "50%", "does not run: no", "op fp16 forward: 2.00 times the fastest other"):
        assert text in result.stdout
    rows = json.loads((tmp_path / "results" / "kernels.json").read_text())["rows"]
    assert rows == [asdict(timed), asdict(failed)]
    assert (tmp_path / "results" / "kernels.png").read_bytes().startswith(b"\x89PNG")
