"""docs/experiments*.md say what docs/results/ablations.jsonl holds."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from edgefel.bench.experiments.ablation.papers import EXPERIMENTS
from edgefel.bench.results import read_results

ROOT = Path(__file__).parent.parent
ROWS = ROOT / "docs" / "results" / "ablations.jsonl"
sys.path.insert(0, str(ROOT / "tools"))
from experiment_tables import outcomes  # noqa: E402

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
