"""A short run against a real server, and frames that are not as drawn."""

from __future__ import annotations

import json

import numpy as np
import pytest
import rtsp

from edgefel.bench.experiments import stream_latency
from edgefel.bench.experiments.stream_latency import difference, drawn, latency_row, main, number_of
from edgefel.errors import EdgefelError


@pytest.mark.parametrize("number", [0, 1, 4660, 65535])
def test_the_number_of_a_frame(number):
    image = drawn(number, (120, 300, 3))
    noisy = np.clip(image + np.random.default_rng(number).normal(0, 20, image.shape), 0, 255).astype(np.uint8)
    assert number_of(image) == number_of(noisy) == number
    assert difference(image) == 0
    # what a decoder shows that lacks a key frame
    assert difference(np.full_like(image, 128)) > stream_latency.MOST_DIFFERENCE


@rtsp.needs_server
def test_a_short_run(monkeypatch):
    monkeypatch.setattr(stream_latency, "_SETTLE_SECONDS", 0.1)
    row = json.loads(json.dumps(latency_row(rtsp.SCRIPT, 1, 0.5, ("h264",))))
    assert [one["decoder"] for one in row["rows"]] == list(stream_latency.DECODERS)
    for one in row["rows"]:
        # the clock of the server is this one's: no frame comes before it is due
        assert 0 < one["age_ms"]["p50"] <= one["age_ms"]["p95"] <= one["age_ms"]["max"]
        assert one["first_age_ms"] > 0
        assert one["worst_difference"] < stream_latency.MOST_DIFFERENCE
    assert row["rows"][0]["ratio"]["value"] == 1


def test_frames_that_are_not_as_drawn():
    watched = stream_latency._Watched(joined=[1.0], first=[0.1], ages=[0.1, 0.2], worst=40.0)
    with pytest.raises(EdgefelError, match="h264, opencv: a frame differs by 40 from what the server drew"):
        stream_latency._row("h264", "opencv", watched, watched)


def test_a_server_that_does_not_start(tmp_path, capsys):
    script = tmp_path / "server.py"
    script.write_text("print('no')")
    assert main(["--server", str(script)]) == 2
    assert f"error: {script}: the RTSP server does not start; it needs" in capsys.readouterr().err
