"""The committed results of docs/jetson.md hold what the project promises."""

from __future__ import annotations

import json
from pathlib import Path

RESULTS = Path(__file__).parent.parent / "docs" / "results"


def test_the_measured_stream_holds_what_the_project_promises():
    """On the full-length run, which takes too long to be repeated here: tests/bench/test_stream.py has a short one."""
    row = json.loads((RESULTS / "stream.json").read_text(encoding="utf-8"))
    assert (row["clip"]["seconds"], row["clip"]["fps"], row["clip"]["faces"]) == (60, 30, 3)
    truth = row["truth"]
    assert (truth["frames"], truth["lost"], truth["dropped"]) == (1800, 0, 0)
    assert truth["keeps_identity"]
    assert len(truth["changes"]) >= 2
    assert truth["slowest_change_s"] < 0.5
    assert row["memory"]["minutes"] == 10
    assert row["memory"]["growth_from_first_mb"] < 20


def test_the_measured_pipeline_costs_less_than_3_ms_a_frame():
    """Everything but detection and inference, on one core, with three faces in every frame."""
    row = json.loads((RESULTS / "stream-overhead.json").read_text(encoding="utf-8"))
    overhead = row["overhead"]
    assert overhead["frames"] == 1800
    assert overhead["faces_per_frame"] > 2.9
    assert overhead["alone"]["ms_per_frame"] < 3
