"""Intervals and verdicts on results whose truth is known."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from ablation_outcomes import PAIR, outcome, result
from hypothesis import given
from hypothesis import strategies as st

from edgefel.bench.experiments.ablation import report
from edgefel.bench.experiments.ablation.papers import EXPERIMENTS
from edgefel.bench.experiments.ablation.plan import Study, plan
from edgefel.bench.experiments.ablation.verdict import (
    MeanInterval,
    Outcome,
    interval,
    judgements,
    metric,
    summary,
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
    said = report.claims(found)[0][-1]
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
    rows = report.rows(Outcome(PAIR, results))
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


def test_results_are_read_from_the_runs(tmp_path):
    experiment = EXPERIMENTS["head"]
    runs = plan(Study(experiment, tmp_path))
    for run in runs[:5]:
        run.folder.mkdir(parents=True)
        judged = result(0.5 + run.seed / 10) | {"environment": {"device": "a CPU"}}
        run.result.write_text(json.dumps(judged))
    results = ((run.variant, run.seed, result) for run, result in judgements(runs))
    found = Outcome.of(experiment, results)
    assert {name: sorted(seeds) for name, seeds in found.results.items()} == {
        "none": [0, 1],
        "anchors": [0],
        "attention": [0],
        "anchors and attention": [0],
    }
    mean = found.mean("none", "accuracy")
    assert (mean.mean, mean.n) == (pytest.approx(0.55), 2)
