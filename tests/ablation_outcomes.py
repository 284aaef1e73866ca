"""Outcomes of a small experiment whose truth is known."""

from __future__ import annotations

from edgefel.bench.experiments.ablation.experiment import Claim, Experiment, Variant
from edgefel.bench.experiments.ablation.verdict import Outcome

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
