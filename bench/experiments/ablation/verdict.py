"""Means with intervals, and whether the papers' ordering holds.

Differences are paired by seed: runs of one seed share the order of their faces, their first weights and their noise as
far as their settings allow.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgefel.bench.experiments.ablation.experiment import Claim, Experiment, Variant
from edgefel.bench.experiments.ablation.plan import StudyRun
from edgefel.bench.results import Row
from edgefel.files.documents import check_shape, read_json

LEVEL = 0.95
HOLDS, REVERSED, UNDECIDED, MISSING = "holds", "reversed", "undecided", "not run"
_SAYS = {HOLDS: "hold", REVERSED: "are reversed", UNDECIDED: "are within the noise", MISSING: "were not run"}
Result = Mapping[str, Any]
Judgement = tuple[StudyRun, Result]


@dataclass(frozen=True)
class MeanInterval:
    """Mean of n values with the 95 % interval of Student's t; half its width is infinite for a single value."""

    mean: float
    half: float
    n: int

    def to_dict(self) -> dict[str, Any]:
        ends = [self.mean - self.half, self.mean + self.half] if math.isfinite(self.half) else None
        return {"mean": self.mean, "interval": ends, "n": self.n}

    def beside(self, value: float) -> int:
        """1 where the interval lies above the value, -1 where it lies below, 0 where it holds it."""
        return (self.mean - self.half > value) - (self.mean + self.half < value)


def interval(values: Sequence[float]) -> MeanInterval:
    """Of independent values. Raises ValueError for none."""
    from scipy.stats import t

    data = np.asarray(values, np.float64)
    if not data.size:
        raise ValueError("no values")
    half = math.inf
    if data.size > 1:
        half = float(t.ppf((1 + LEVEL) / 2, data.size - 1)) * float(data.std(ddof=1)) / math.sqrt(data.size)
    return MeanInterval(float(data.mean()), half, int(data.size))


def judgements(runs: Iterable[StudyRun]) -> list[Judgement]:
    """The runs that have been judged, with their results. Raises EdgefelError for a result that cannot be read."""
    found: list[Judgement] = []
    for run in runs:
        if run.result.is_file():
            result = read_json(run.result, {"diverged": bool, "environment": dict, "classes?": int})
            if not result["diverged"]:
                part = {"accuracy": float, "macro_f1": float, "ece": float}
                check_shape(result, {"corrected": part, "primary": part}, str(run.result))
            found.append((run, result))
    return found


def metric(result: Result, name: str, part: str = "corrected") -> float:
    """A number of a result. A run that diverged has the accuracy of chance, an F1 of 0 and an ECE of 1."""
    if result["diverged"]:
        return {"accuracy": 1 / (result.get("classes") or 7), "macro_f1": 0.0, "ece": 1.0}[name]
    return float(result[part][name])


@dataclass(frozen=True)
class Judged:
    """A claim, the mean difference of runs with the same seed (None where no seed has both), and the papers' own."""

    claim: Claim
    difference: MeanInterval | None
    paper: float | None

    @property
    def verdict(self) -> str:
        """ "holds" or "reversed" where the interval of the difference leaves out 0, else "undecided"; "not run"."""
        if self.difference is None:
            return MISSING
        return {1: HOLDS, 0: UNDECIDED, -1: REVERSED}[self.difference.beside(0)]

    @property
    def beside_paper(self) -> str | None:
        """Whether the difference is "less" or "more" than the papers' by more than its interval, or "within" it; None
        where there is no interval or no figure of theirs."""
        if self.difference is None or self.paper is None or not math.isfinite(self.difference.half):
            return None
        return {1: "more", 0: "within", -1: "less"}[self.difference.beside(self.paper)]

    def to_dict(self) -> dict[str, Any]:
        return {
            "claim": str(self.claim),
            "verdict": self.verdict,
            "difference": None if self.difference is None else self.difference.to_dict(),
            "paper": self.paper,
            "beside_paper": self.beside_paper,
        }


@dataclass(frozen=True)
class Outcome:
    """The results of an experiment that there are, by variant and seed."""

    experiment: Experiment
    results: Mapping[str, Mapping[int, Result]]

    @classmethod
    def of(cls, experiment: Experiment, found: Iterable[tuple[str, int, Result]]) -> Outcome:
        """Of results with their variants and seeds; of results of the same run the last counts."""
        results: dict[str, dict[int, Result]] = {variant.name: {} for variant in experiment.variants}
        for variant, seed, result in found:
            results[variant][seed] = result
        return cls(experiment, results)

    @classmethod
    def of_rows(cls, experiment: Experiment, rows: Iterable[Row]) -> Outcome:
        """Of the experiment's result rows among `rows`."""
        own = [row for row in rows if row.kind == "ablation" and row.subject["experiment"] == experiment.name]
        found = ((row.subject["variant"], row.subject["seed"], row.metrics) for row in own)
        return cls.of(experiment, ((name, seed, {**own, "corrected": own}) for name, seed, own in found))

    @property
    def variants(self) -> tuple[Variant, ...]:
        """Those with at least one result."""
        return tuple(variant for variant in self.experiment.variants if self.results[variant.name])

    def mean(self, variant: str, name: str, part: str = "corrected") -> MeanInterval:
        """A metric over all seeds. Raises ValueError where there are none."""
        results = self.results[variant]
        return interval([metric(results[seed], name, part) for seed in sorted(results)])

    def judged(self) -> tuple[Judged, ...]:
        """A verdict on every claim."""
        papers = {variant.name: variant.paper for variant in self.experiment.variants}
        found = []
        for claim in self.experiment.claims:
            better, worse = self.results[claim.better], self.results[claim.worse]
            both = sorted(set(better) & set(worse))
            pairs = [metric(better[seed], claim.metric) - metric(worse[seed], claim.metric) for seed in both]
            more, less = (papers[name].get(claim.metric) for name in (claim.better, claim.worse))
            stated = None if more is None or less is None else more - less
            found.append(Judged(claim, interval(pairs) if pairs else None, stated))
        return tuple(found)

    def rank_agreement(self) -> float | None:
        """Kendall's tau between the papers' accuracies and those here, over variants; 1 is the same order.

        None for fewer than three variants with both, or where all are equal.
        """
        from scipy.stats import kendalltau

        known = [variant for variant in self.variants if "accuracy" in variant.paper]
        if len(known) < 3:
            return None
        here = [self.mean(variant.name, "accuracy").mean for variant in known]
        tau = float(kendalltau(here, [variant.paper["accuracy"] for variant in known]).statistic)
        return tau if math.isfinite(tau) else None


def summary(outcome: Outcome) -> str:
    """The verdict in a sentence."""
    judged = outcome.judged()
    counts = {word: sum(one.verdict == word for one in judged) for word in _SAYS}
    if counts[MISSING] == len(judged):
        return "Not enough runs to compare anything."
    if counts[HOLDS] == len(judged):
        return f"{outcome.experiment.ordering} holds here."
    parts = [f"{count} of {len(judged)} {_SAYS[word]}" for word, count in counts.items() if count]
    ending = "does not hold" if counts[REVERSED] else "is not confirmed"
    return f"{outcome.experiment.ordering} {ending} here: of its claims, {', '.join(parts)}."
