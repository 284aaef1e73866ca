"""The full network, exported as the command does it."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgefel.bench.results import read_results
from edgefel.bench.roofline.bound import project
from edgefel.bench.roofline.devices import DEVICES
from edgefel.bench.roofline.graph import load_graphs
from edgefel.models.profile import profile
from edgefel.models.registry import model_config

COMMITTED = Path(__file__).parents[3] / "docs" / "results" / "roofline.jsonl"


@pytest.mark.slow
def test_the_full_network_is_counted_as_the_committed_rows_say():
    graphs = load_graphs("arbex", ["fp32", "int8+fp16"])
    counted = profile(model_config("arbex"))
    committed = {row.key: row for row in read_results(COMMITTED).rows}
    found = project(graphs, [DEVICES["orin-nano-super"], DEVICES["h100"]], [1, 8], layers=0)
    assert len(found) == 8
    for one in found:
        metrics, batch = one.row.metrics, one.row.subject["batch"]
        assert 43.7e6 <= metrics["parameters"] <= 44e6
        assert metrics["parameters"] == counted.parameters
        assert 8.3e9 <= metrics["macs"] / batch <= 8.6e9
        assert metrics["macs"] / batch == pytest.approx(counted.macs, rel=1e-4)
        before = committed[one.row.key].metrics
        assert metrics["macs"] == before["macs"]
        for name in ("floor_ms", "unfused_floor_ms", "ideal_ms"):
            assert metrics[name] == pytest.approx(before[name], rel=1e-9)
