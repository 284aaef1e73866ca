"""Intervals and verdicts on results whose truth is known."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgefel.bench.experiments.ablation import table
from edgefel.bench.experiments.ablation.experiment import Claim, Experiment, Variant
from edgefel.bench.experiments.ablation.papers import EXPERIMENTS
from edgefel.bench.experiments.ablation.plan import Study, plan
from edgefel.bench.experiments.ablation.plot import figure
from edgefel.bench.experiments.ablation.verdict import MeanInterval, Outcome, interval, metric, summary

PAIR = Experiment(
    "pair",
    "Pair",
    "a paper",
    (Variant("a", {}, {"accuracy": 0.7}), Variant("b", {}, {"accuracy": 0.6}), Variant("c", {})),
    (Claim("a", "b"),),
)


def result(accuracy: float, macro_f1: float = 0.5) -> dict:
    numbers = {"accuracy": accuracy, "macro_f1": macro_f1, "ece": 0.1}
    return {"diverged": False, "corrected": numbers, "primary": {**numbers, "accuracy": accuracy - 0.01}}


def outcome(a: dict[int, float], b: dict[int, float], c: dict[int, float] | None = None) -> Outcome:
    given = {"a": a, "b": b, "c": c or {}}
    return Outcome(
        PAIR, {name: {seed: result(x) for seed, x in runs.items()} for name, runs in given.items()}
    )


def test_an_interval_of_students_t():
    # 4.303: Student's t for 95 % and 2 degrees of freedom, from any table
    found = interval([1.0, 2.0, 3.0])
    assert (found.mean, found.n) == (2.0, 3)
    assert found.half == pytest.approx(4.303 / math.sqrt(3), rel=1e-3)
    assert interval([5.0]) == MeanInterval(5.0, math.inf, 1)
    with pytest.raises(ValueError, match="no values"):
        interval([])


def test_the_interval_has_the_mean_in_it_95_times_of_100():
    rng = np.random.default_rng(0)
    inside = [abs(found.mean) <= found.half for found in (interval(rng.normal(size=3)) for _ in range(2000))]
    assert np.mean(inside) == pytest.approx(0.95, abs=0.015)


@pytest.mark.parametrize(
    ("a", "b", "verdict"),
    [
        ([0.70, 0.71, 0.72], [0.60, 0.61, 0.62], "holds"),
        ([0.60, 0.61, 0.62], [0.70, 0.71, 0.72], "reversed"),
        ([0.60, 0.70, 0.65], [0.65, 0.60, 0.69], "undecided"),
        ([0.70], [0.10], "undecided"),
        ([0.60, 0.61], [0.60, 0.61], "undecided"),
    ],
)
def test_verdicts(a, b, verdict):
    judged = outcome(dict(enumerate(a)), dict(enumerate(b))).judged()
    assert [one.verdict for one in judged] == [verdict]
    assert judged[0].paper == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("a", "beside"),
    [
        ([0.70, 0.71, 0.72], "within"),  # by 10 points, as in the paper
        ([0.60, 0.61, 0.62], "less"),
        ([0.80, 0.81, 0.82], "more"),
        ([0.90, 0.61, 0.30], "within"),
        ([0.90], None),
    ],
)
def test_the_papers_own_difference_may_lie_outside(a, beside):
    found = outcome(dict(enumerate(a)), {0: 0.60, 1: 0.61, 2: 0.62})
    (judged,) = found.judged()
    assert judged.beside_paper == judged.to_dict()["beside_paper"] == beside
    said = table.claims(found)[0][-1]
    assert said == judged.verdict + (f", {beside} than in the paper" if beside in ("less", "more") else "")


def test_runs_are_compared_with_the_run_of_their_seed():
    """Seeds differ by far more than the variants do."""
    (judged,) = outcome({0: 0.21, 1: 0.52, 2: 0.91}, {0: 0.20, 1: 0.51, 2: 0.90, 7: 0.99}).judged()
    assert judged.difference.n == 3
    assert judged.difference.mean == pytest.approx(0.01)
    assert judged.verdict == "holds"


def test_without_a_common_seed_nothing_is_compared():
    found = outcome({0: 0.7}, {1: 0.6})
    assert [one.verdict for one in found.judged()] == ["not run"]
    assert summary(found) == "Not enough runs to compare anything."


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=6))
def test_exchanging_the_two_turns_the_verdict_round(pairs):
    a, b = (dict(enumerate(values)) for values in zip(*pairs, strict=True))
    (there,), (back,) = outcome(a, b).judged(), outcome(b, a).judged()
    turned = {"holds": "reversed", "reversed": "holds", "undecided": "undecided"}
    assert back.verdict == turned[there.verdict]


def test_a_run_that_diverged_knows_nothing():
    assert metric({"diverged": True}, "accuracy") == pytest.approx(1 / 7)
    assert metric({"diverged": True, "classes": 8}, "accuracy") == 1 / 8
    assert (metric({"diverged": True}, "macro_f1"), metric({"diverged": True}, "ece")) == (0.0, 1.0)
    results = {"a": {0: {"diverged": True}}, "b": {0: result(0.6)}, "c": {}}
    rows = table.rows(Outcome(PAIR, results))
    assert [row[-1] for row in rows] == ["1, 1 diverged", "1"]


def test_agreement_of_the_order_with_the_papers():
    experiment = EXPERIMENTS["anchors"]
    papers = {v.name: {0: result(v.paper["accuracy"])} for v in experiment.variants}
    assert Outcome(experiment, papers).rank_agreement() == pytest.approx(1.0)
    against = {v.name: {0: result(1 - v.paper["accuracy"])} for v in experiment.variants}
    assert Outcome(experiment, against).rank_agreement() == pytest.approx(-1.0)
    equal = {v.name: {0: result(0.5)} for v in experiment.variants}
    assert Outcome(experiment, equal).rank_agreement() is None
    assert outcome({0: 0.7}, {0: 0.6}).rank_agreement() is None


def test_the_verdict_in_a_sentence():
    assert summary(outcome({0: 0.7, 1: 0.7}, {0: 0.6, 1: 0.6})) == "The paper's ordering holds here."
    assert summary(outcome({0: 0.6, 1: 0.6}, {0: 0.7, 1: 0.7})) == (
        "The paper's ordering does not hold here: of its claims, 1 of 1 are reversed."
    )
    assert summary(outcome({0: 0.6}, {0: 0.7})) == (
        "The paper's ordering is not confirmed here: of its claims, 1 of 1 are within the noise."
    )


def test_the_table_says_what_was_measured_beside_the_papers_figures():
    found = outcome({0: 0.70, 1: 0.72}, {0: 0.60, 1: 0.64}, {0: 0.5})
    text = table.markdown(found, "Here: a model on faces.")
    # 12.706: Student's t for one degree of freedom
    assert "| a | 71.0 % ± 12.7 | 70.00 | 0.500 ± 0.000 |  | 0.100 ± 0.000 | 70.0 % ± 12.7 | 2 |" in text
    assert "| c | 50.0 % |  | 0.500 |  | 0.100 | 49.0 % | 1 |" in text
    assert "| accuracy: a > b | +9.0 ± 12.7 | +10.00 | undecided |" in text
    assert "Here: a model on faces." in text
    json.dumps(table.to_dict(found), allow_nan=False)


def test_results_are_read_from_the_runs(tmp_path):
    experiment = EXPERIMENTS["head"]
    runs = plan(Study(experiment, tmp_path))
    for run in runs[:5]:
        run.folder.mkdir(parents=True)
        run.result.write_text(json.dumps(result(0.5 + run.seed / 10)))
    found = Outcome.read(experiment, runs)
    assert {name: sorted(seeds) for name, seeds in found.results.items()} == {
        "none": [0, 1],
        "anchors": [0],
        "attention": [0],
        "anchors and attention": [0],
    }
    assert found.values("none", "accuracy") == [0.5, 0.6]


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
    drawn.savefig(Path(tmp_path) / "plot.png")


def test_nothing_to_draw():
    with pytest.raises(ValueError, match="no results"):
        figure(outcome({}, {}), "nano")
