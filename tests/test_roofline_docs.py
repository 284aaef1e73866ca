"""The committed rows of docs/roofline.md are of the whole network."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgefel.bench.results import read_results
from edgefel.bench.roofline.devices import DEVICES
from edgefel.models.profile import profile
from edgefel.models.registry import model_config

RESULTS = Path(__file__).parent.parent / "docs" / "results" / "roofline.jsonl"
PRECISIONS = ("fp32", "fp16", "int8", "int8+fp16")
ROWS = read_results(RESULTS).rows
MODELS = ("arbex", "poster-v2", "arbex-nano")


def test_every_row_is_there_once():
    assert read_results(RESULTS).problems == ()
    keys = [tuple(row.subject[name] for name in ("model", "target", "precision", "batch")) for row in ROWS]
    expected = {(m, t, p, b) for m in MODELS for t in DEVICES for p in PRECISIONS for b in (1, 8)}
    assert set(keys) == expected
    assert len(keys) == len(expected)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_rows_were_made_with_these_ceilings(row):
    assert row.metrics["ceilings"] == DEVICES[row.subject["target"]].ceilings


@pytest.mark.parametrize("model", ["arbex", "poster-v2"])
def test_totals_are_those_of_the_full_network(model):
    for row in ROWS:
        if row.subject["model"] == model:
            assert 43.7e6 <= row.metrics["parameters"] <= 44e6
            assert 8.3e9 <= row.metrics["macs"] / row.subject["batch"] <= 8.6e9


@pytest.mark.parametrize("model", MODELS)
def test_graphs_hold_what_the_models_do(model):
    """The graph lacks an attention over one token (its result is one product), and has biases looked up beforehand."""
    counted = profile(model_config(model))
    for row in ROWS:
        if row.subject["model"] == model:
            assert row.metrics["parameters"] == counted.parameters
            assert row.metrics["macs"] / row.subject["batch"] == pytest.approx(counted.macs, rel=1e-3)
            assert row.metrics["constants"] >= 0.99 * counted.parameters
