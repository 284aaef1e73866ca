"""`edgefel bench kernels` without a GPU: nothing is timed; the resources of the compiled kernels are shown."""

from __future__ import annotations

import json

import pytest
import torch

pytest.importorskip("triton")


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU: the bench would run for minutes")
def test_without_a_gpu_it_says_so_and_compiles(compiling, tmp_path):
    result = compiling("bench", "kernels", "-o", tmp_path / "results")
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("No CUDA device: nothing was timed.")
    assert "window_cross_attention_level1" in result.stdout
    document = json.loads((tmp_path / "results" / "kernels.json").read_text())
    assert document["measured"] is False
    assert document["reason"] == "no CUDA device: nothing was timed"
    assert "rows" not in document
    assert {row["arch"] for row in document["compiled"]} >= {"sm_87", "sm_90", "sm_110"}
    assert all(0 < row["occupancy"] <= 1 for row in document["compiled"])
    assert not (tmp_path / "results" / "kernels.png").exists()


def test_a_file_for_a_folder_is_refused_before_any_work(compiling, tmp_path):
    (tmp_path / "file").write_text("mine")
    result = compiling("bench", "kernels", "-o", tmp_path / "file")
    assert result.returncode == 2
    assert result.stderr.strip().endswith("exists and is not a folder; choose another output folder")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_batch_of_none_is_a_usage_error(compiling):
    result = compiling("bench", "kernels", "--batch-sizes", "0")
    assert result.returncode == 2
    assert "batch" in result.stderr
