"""`edgefel bench kernels`: without a GPU nothing is timed; the resources of the compiled kernels are shown."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch
from click.testing import CliRunner, Result

from edgefel.bench.results import read_results
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
    from edgefel.bench.kernels import run
    from edgefel.bench.kernels.suite import KernelRow

    what = ("op", "level 1", 8, "fp16", "forward")
    timed = [
        KernelRow(*what, name, ms_p50=ms, roofline=0.5, error=0.0)
        for name, ms in (("edgefel", 0.25), ("eager", 0.5))
    ]
    failed = KernelRow(*what, "flex", note="does not run: no")
    environment = {"device": "a GPU"}
    rows = [run.to_row(one, None, environment) for one in (*timed, failed)]
    asked = []
    rig = SimpleNamespace(environment=environment)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(run, "cuda_rig", lambda runs: asked.append(runs) or rig)
    monkeypatch.setattr(run, "measure_kernels", lambda *given: asked.append(given) or rows)
    options = ("--level", "1", "--impl", "edgefel,eager", "--batch", "8", "--mode", "forward", "--runs", "7")
    result = bench("-o", tmp_path / "results", *options)
    assert result.exit_code == 0, result.output
    for text in ("0.2500", "50%", "does not run: no", "op fp16 forward: 2.00 times the fastest other"):
        assert text in result.stdout
    selection, given, output, _ = asked[1]
    assert (asked[0], given, output) == (7, rig, tmp_path / "results" / "kernels.jsonl")
    assert selection == run.Selection((8,), ("fp16",), (1,), ("edgefel", "eager"), ("forward",))
    assert (tmp_path / "results" / "kernels.png").read_bytes().startswith(b"\x89PNG")
    lines = bench("--json", *options).stdout.splitlines()
    assert [json.loads(line)["subject"]["implementation"] for line in lines] == ["edgefel", "eager", "flex"]


def test_what_cannot_be_chosen_is_said(tmp_path):
    for arguments, message in (
        (("--level", "4"), "level 4: the pyramid has the levels 1, 2 and 3"),
        (("--model", "--level", "9"), "level 9: the pyramid has the levels 1, 2 and 3"),
        (("--impl", "cublas"), "implementation 'cublas' is not known; choose from: edgefel, eager, compile"),
        (("--arch", "sm_90"), "--arch belongs to --model"),
        (("--model", "--arch", "sm_75"), "--arch sm_75: no clocks are stated for it; known: sm_87, sm_90"),
        (("--model", "--impl", "flex"), "--impl and --mode choose what is timed"),
    ):
        result = bench(*arguments)
        assert result.exit_code == 2, arguments
        assert message in result.stderr


@pytest.mark.slow
def test_the_model_counts_one_level_without_a_gpu(tmp_path, compiling):
    options = ("--model", "--arch", "sm_90", "--level", "3", "--batch", "8", "-o", tmp_path / "results")
    result = compiling("bench", "kernels", *options)
    assert result.returncode == 0, result.stderr
    assert "sm_90: lower bounds for NVIDIA H100 SXM 80 GB, 132 multiprocessors at 1755 MHz" in result.stdout
    rows = read_results(tmp_path / "results" / "kernel-model.jsonl").rows
    scores = ("forward_kernel", "backward_kv_kernel", "backward_q_kernel", "backward_table_kernel")
    assert [row.subject["kernel"] for row in rows] == [
        scores[0], "delta_kernel", "bias_kernel", *scores[1:], "sum_offsets_kernel",
    ]  # fmt: skip
    for row in rows:
        found = row.metrics
        assert row.kind == "kernel-model"
        assert row.notes == ()
        assert sum(found["by_pipe"].values()) == pytest.approx(found["instructions_per_unit"], abs=0.01)
        assert found["bound_us"] == max(found["bounds_us"].values()) == found["bounds_us"][found["bound_by"]]
        assert found["spill_bytes"] == found["by_pipe"]["other"] == 0
        if row.subject["kernel"] in scores:
            # an exponential for every score at least, but for those of keys that fill up the tile; and its products
            assert found["units"] == 8 * 8 * 49**2
            assert found["by_pipe"]["mufu"] >= 49 / 64
            assert found["by_pipe"]["tensor"] > 0
