"""docs/experiments*.md say what docs/results/ablations.jsonl holds; the tables of the head."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from experiment_tables import diagnosis, outcomes

from edgefel.bench.experiments.ablation.papers import EXPERIMENTS
from edgefel.bench.experiments.ablation.verdict import Outcome
from edgefel.bench.results import read_results

ROOT = Path(__file__).parents[2]
ROWS = ROOT / "docs" / "results" / "ablations.jsonl"
PAGE = "\n".join(page.read_text(encoding="utf-8") for page in (ROOT / "docs").glob("*.md"))


def test_every_row_is_read_and_comes_from_a_commit():
    loaded = read_results(ROWS)
    assert not loaded.problems
    assert loaded.rows
    assert all("dirty" not in row.environment["commit"] for row in loaded.rows)


def test_every_experiment_with_rows_has_its_title_and_plot():
    assert outcomes()
    for name, outcome in outcomes().items():
        assert f"# {outcome.experiment.title}\n" in PAGE
        assert f"images/ablation_{name}.png" in PAGE
        assert (ROOT / "docs" / "images" / f"ablation_{name}.png").is_file()


def test_at_least_three_seeds_of_every_variant():
    for outcome in outcomes().values():
        # a row of a table may be left out, and is called "not run" then; but not a seed of it
        seeds = {name: len(runs) for name, runs in outcome.results.items() if runs}
        assert min(seeds.values()) >= 3, (outcome.experiment.name, seeds)


def test_the_mean_over_noise_levels_is_that_of_the_rows():
    accuracy: dict[tuple[str, int], float] = {}
    for row in read_results(ROWS).rows:
        if row.subject["experiment"] == "noise":
            accuracy[str(row.subject["variant"]), int(str(row.subject["seed"]))] = (
                100 * row.metrics["accuracy"]
            )
    by_seed = [
        np.mean(
            [accuracy[f"{x} %, K = 10", seed] - accuracy[f"{x} %, K = 0", seed] for x in (0, 5, 10, 15, 20)]
        )
        for seed in range(3)
    ]
    half = 4.303 * np.std(by_seed, ddof=1) / np.sqrt(3)  # Student's t, two degrees of freedom
    assert f"the mean difference is {np.mean(by_seed):.1f} ± {half:.1f} points" in " ".join(PAGE.split())


def test_every_experiment_is_explained():
    assert all(f"| `{name}` |" in PAGE for name in EXPERIMENTS)


def test_a_head_is_diagnosed_by_its_means_over_seeds():
    experiment = EXPERIMENTS["head"]

    def seed(primary: float) -> dict:
        parts = {"primary": primary, "corrected": 0.5}
        known = {"accuracy": parts, "weight": None, "fixed": 0.01, "spoiled": 0.02, "anchors": None}
        return {"diverged": False, "diagnosis": known}

    found = {"none": {0: seed(0.4), 1: seed(0.6)}, "anchors": {0: {"diverged": True}}}
    *_, row = diagnosis(
        Outcome.of(experiment, [(v, s, r) for v in found for s, r in found[v].items()])
    ).splitlines()
    assert row == "| none | 50.0 % |  |  | 50.0 % |  | 1.0 % | 2.0 % |  |  |  |"
