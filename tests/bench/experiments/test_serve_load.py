"""A short run against a real server."""

from __future__ import annotations

import json
import os

import pytest
from tiny_bundle import write_bundle

from edgefel.bench.experiments import serve_load
from edgefel.bench.experiments.serve_load import jpegs, main, measure, resident_mb

HAAR = "--detector haar --backend onnxruntime --threads 1"


@pytest.mark.slow
def test_a_short_run(tmp_path, monkeypatch):
    pytest.importorskip("websockets", reason="the extra 'serve' is not installed")
    monkeypatch.setattr(serve_load, "WARM_UP", 0.5)
    monkeypatch.setattr(serve_load, "GAP", 0.6)
    bundle = write_bundle(tmp_path / "bundle")
    row = json.loads(json.dumps(measure(2, 3.0, 4.0, 0.5, str(bundle), HAAR)))
    latency = row["latency_ms"]
    assert 0 < latency["p50"] <= latency["p90"] <= latency["p99"] <= latency["max"]
    assert row["answers"] >= row["compared"] > 0
    assert len(row["memory"]) >= 2
    assert all(one["mb"] > 10 for one in row["memory"])
    # a tracker forgets people at this rate: nothing would be compared
    with pytest.raises(serve_load.EdgefelError, match=r"of \d+ answers 0 came soon enough"):
        measure(1, 0.5, 0.25, 0.5, str(bundle), HAAR)


def test_frames_differ_and_are_small():
    frames = jpegs()
    assert len(set(frames)) == serve_load.FRAMES
    assert max(map(len, frames)) < 200_000


def test_memory_is_that_of_the_process():
    assert 10 < resident_mb(os.getpid()) < 100_000


def test_a_server_that_does_not_start(capsys):
    pytest.importorskip("websockets", reason="the extra 'serve' is not installed")
    assert main(["--bundle", "no-such-bundle", "--seconds", "1"]) == 2
    assert "error: edgefel serve does not start" in capsys.readouterr().err
