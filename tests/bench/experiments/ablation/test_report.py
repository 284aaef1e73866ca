"""What the table and the plot show of an outcome."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ablation_outcomes import outcome, result

from edgefel.bench.experiments.ablation.papers import EXPERIMENTS
from edgefel.bench.experiments.ablation.report import figure, markdown, to_dict
from edgefel.bench.experiments.ablation.verdict import Outcome


def test_the_table_says_what_was_measured_beside_the_papers_figures():
    found = outcome({0: 0.70, 1: 0.72}, {0: 0.60, 1: 0.64}, {0: 0.5})
    text = markdown(found, "Here: a model on faces.")
    # 12.706: Student's t for one degree of freedom
    assert "| a | 71.0 % ± 12.7 | 70.00 | 0.500 ± 0.000 |  | 0.100 ± 0.000 | 70.0 % ± 12.7 | 2 |" in text
    assert "| c | 50.0 % |  | 0.500 |  | 0.100 | 49.0 % | 1 |" in text
    assert "| accuracy: a > b | +9.0 ± 12.7 | +10.00 | undecided |" in text
    assert "Here: a model on faces." in text
    json.dumps(to_dict(found), allow_nan=False)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_plot_shows_every_variant_beside_the_papers_figure(name, tmp_path):
    experiment = EXPERIMENTS[name]
    values = {v.name: 0.3 + 0.04 * i for i, v in enumerate(experiment.variants)}
    results = {key: {seed: result(x + seed / 100) for seed in range(2)} for key, x in values.items()}
    drawn = figure(Outcome(experiment, results), "nano")
    stated = [v for v in experiment.variants if v.paper]
    assert len(drawn.axes) == (2 if stated else 1)
    for axis, expected in zip(
        drawn.axes, (values, {v.name: v.paper["accuracy"] for v in stated}), strict=False
    ):
        shown = [y for line in axis.containers for y in line[0].get_ydata()]
        if not experiment.axis:
            shown = [x for line in axis.containers for x in line[0].get_xdata()]
        means = [100 * (x + (0.005 if axis is drawn.axes[0] else 0)) for x in expected.values()]
        assert sorted(shown) == pytest.approx(sorted(means))
        assert "%" in axis.get_xlabel() + axis.get_ylabel()
    drawn.savefig(Path(tmp_path) / "plot.png", dpi=30)


def test_nothing_to_draw():
    with pytest.raises(ValueError, match="no results"):
        figure(outcome({}, {}), "nano")
