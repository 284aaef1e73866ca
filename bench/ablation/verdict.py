"""Means with intervals, and whether the papers' ordering holds: paired by seed, as runs of a seed share their faces'
order, their first weights and their noise as far as their settings allow."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgefel.bench.ablation.experiment import Claim, Experiment, Variant
from edgefel.bench.ablation.plan import Run
from edgefel.bench.results import Row
from edgefel.files.documents import check_shape, read_json

LEVEL = 0.95
HOLDS, REVERSED, UNDECIDED, MISSING = "holds", "reversed", "undecided", "not run"
Result = Mapping[str, Any]


@dataclass(frozen=True)
class Interval:
    """Mean of n values with the 95 % interval of Student's t; half its width is infinite for a single value."""

    mean: float
    half: float
    n: int

    @property
    def low(self) -> float:
        """Lower end."""
        return self.mean - self.half

    @property
    def high(self) -> float:
        """Upper end."""
        return self.mean + self.half

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        ends = [self.low, self.high] if math.isfinite(self.half) else None
        return {"mean": self.mean, "interval": ends, "n": self.n}


def interval(values: Sequence[float]) -> Interval:
    """Of independent values. Raises ValueError for none."""
    from scipy.stats import t

    data = np.asarray(values, np.float64)
    if not data.size:
        raise ValueError("no values")
    if data.size == 1:
        return Interval(float(data[0]), math.inf, 1)
    spread = float(data.std(ddof=1)) / math.sqrt(data.size)
    return Interval(float(data.mean()), float(t.ppf((1 + LEVEL) / 2, data.size - 1)) * spread, int(data.size))


def read_result(path: Path) -> Result:
    """What a run was judged to be worth. Raises EdgefelError for a file that cannot be read or is something else."""
    result = read_json(path, {"diverged": bool, "environment?": dict, "classes?": int})
    if not result["diverged"]:
        part = {"accuracy": float, "macro_f1": float, "ece": float}
        check_shape(result, {"corrected": part, "primary": part}, str(path))
    return dict(result)


def metric(result: Result, name: str, part: str = "corrected") -> float:
    """A number of a result. A run that diverged knows nothing: chance, an F1 and an ECE of 0 and 1."""
    if result["diverged"]:
        classes = result.get("classes") or 7
        return {"accuracy": 1 / classes, "macro_f1": 0.0, "ece": 1.0}[name]
    return float(result[part][name])


@dataclass(frozen=True)
class Judged:
    """A claim, and what the runs say: the mean difference of runs with the same seed, and the papers' own difference.

    verdict: "holds" or "reversed" where the interval of the difference leaves out 0, else "undecided"; "not run" where
    no seed has both.
    """

    claim: Claim
    difference: Interval | None
    paper: float | None

    @property
    def verdict(self) -> str:
        """One of the four words."""
        if self.difference is None:
            return MISSING
        if self.difference.low > 0:
            return HOLDS
        return REVERSED if self.difference.high < 0 else UNDECIDED

    @property
    def beside_paper(self) -> str | None:
        """Whether the difference is "less" or "more" than the papers' by more than its interval, or "within" it; None
        where there is no interval or no figure of theirs."""
        if self.difference is None or self.paper is None or not math.isfinite(self.difference.half):
            return None
        if self.difference.high < self.paper:
            return "less"
        return "more" if self.difference.low > self.paper else "within"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
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
    def read(cls, experiment: Experiment, runs: Sequence[Run]) -> Outcome:
        """Of the runs that have been judged. Raises EdgefelError for a result that cannot be read."""
        results: dict[str, dict[int, Result]] = {variant.name: {} for variant in experiment.variants}
        for run in runs:
            if run.result.is_file():
                results[run.variant][run.seed] = read_result(run.result)
        return cls(experiment, results)

    @classmethod
    def of_rows(cls, experiment: Experiment, rows: Iterable[Row]) -> Outcome:
        """Of the experiment's result rows among `rows`; of rows of the same run the last counts."""
        results: dict[str, dict[int, Result]] = {variant.name: {} for variant in experiment.variants}
        for row in rows:
            if row.kind == "ablation" and row.subject["experiment"] == experiment.name:
                results[row.subject["variant"]][row.subject["seed"]] = {
                    **row.metrics,
                    "corrected": row.metrics,
                }
        return cls(experiment, results)

    @property
    def variants(self) -> tuple[Variant, ...]:
        """Those with at least one result."""
        return tuple(variant for variant in self.experiment.variants if self.results[variant.name])

    def values(self, variant: str, name: str, part: str = "corrected") -> list[float]:
        """A metric of every seed, in their order."""
        return [metric(self.results[variant][seed], name, part) for seed in sorted(self.results[variant])]

    def judged(self) -> tuple[Judged, ...]:
        """Every claim of the experiment."""
        return tuple(self._judge(claim) for claim in self.experiment.claims)

    def _judge(self, claim: Claim) -> Judged:
        better, worse = self.results[claim.better], self.results[claim.worse]
        both = sorted(set(better) & set(worse))
        pairs = [metric(better[seed], claim.metric) - metric(worse[seed], claim.metric) for seed in both]
        papers = [
            self.experiment.variant(name).paper.get(claim.metric) for name in (claim.better, claim.worse)
        ]
        stated = None if papers[0] is None or papers[1] is None else papers[0] - papers[1]
        return Judged(claim, interval(pairs) if pairs else None, stated)

    def rank_agreement(self) -> float | None:
        """Kendall's tau between the papers' accuracies and those here, over variants; 1 is the same order.

        None for fewer than three variants with both, or where all are equal.
        """
        from scipy.stats import kendalltau

        known = [variant for variant in self.variants if "accuracy" in variant.paper]
        if len(known) < 3:
            return None
        here = [float(np.mean(self.values(variant.name, "accuracy"))) for variant in known]
        tau = float(kendalltau(here, [variant.paper["accuracy"] for variant in known]).statistic)
        return tau if math.isfinite(tau) else None


def summary(outcome: Outcome) -> str:
    """The verdict in a sentence."""
    judged = outcome.judged()
    words = {word: [j for j in judged if j.verdict == word] for word in (HOLDS, REVERSED, UNDECIDED, MISSING)}
    if len(words[MISSING]) == len(judged):
        return "Not enough runs to compare anything."
    if len(words[HOLDS]) == len(judged):
        return f"{outcome.experiment.ordering} holds here."
    parts = [f"{len(found)} of {len(judged)} {_SAYS[word]}" for word, found in words.items() if found]
    ending = "does not hold" if words[REVERSED] else "is not confirmed"
    return f"{outcome.experiment.ordering} {ending} here: of its claims, {', '.join(parts)}."


_SAYS = {HOLDS: "hold", REVERSED: "are reversed", UNDECIDED: "are within the noise", MISSING: "were not run"}
