"""The recorded costs are those of the networks that were trained; the plot shows both."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgefel.bench.experiments import keep_rates
from edgefel.bench.experiments.ablation.plan import Study
from edgefel.bench.experiments.ablation.verdict import Outcome
from edgefel.bench.results import read_results
from edgefel.errors import EdgefelError

RESULTS = Path(__file__).parents[3] / "docs" / "results"


@pytest.fixture(scope="module")
def outcome() -> Outcome:
    return Outcome.of_rows(keep_rates.EXPERIMENT, read_results(RESULTS / "ablations.jsonl").rows)


@pytest.fixture(scope="module")
def costs() -> dict:
    return json.loads((RESULTS / "keep-rates.json").read_text())["costs"]


def test_accuracy_and_cost_of_the_keep_rates(outcome, costs):
    # cheaper is what was run: the networks of the rows
    for variant in outcome.variants:
        macs = {result["macs"] for result in outcome.results[variant.name].values()}
        assert macs == {costs[variant.name]["macs"]}


def test_every_variant_stands_at_its_accuracy_and_cost(outcome, costs):
    macs, ms = keep_rates.figure(costs, outcome).axes
    for number, variant in enumerate(outcome.variants):
        accuracy = 100 * outcome.mean(variant.name, "accuracy").mean
        for panel, x in ((macs, costs[variant.name]["macs"] / 1e6), (ms, costs[variant.name]["ms_p50"])):
            (line, *_) = panel.containers[number]
            assert (line.get_xdata()[0], line.get_ydata()[0]) == pytest.approx((x, accuracy))


def test_a_study_that_was_not_run_is_refused(tmp_path):
    with pytest.raises(EdgefelError, match="no result; run edgefel ablate keep-rates"):
        keep_rates.costs(Study(keep_rates.EXPERIMENT, tmp_path, seeds=(0,)), 1)
