"""Selective prediction: accuracy of the images left when the least confident are labelled "unsure"."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from edgefel.evaluation.metrics import FloatArray, IntArray
from edgefel.runtime.confidence import entropy_confidence

# thresholds that are reported
STEPS = 100


@dataclass(frozen=True)
class Threshold:
    """One choice of `--min-confidence`.

    coverage: share of images at or above it. accuracy: of those, None where none is left. class_coverage: share
    of each true class that keeps a label, None where the class does not occur; a class that is mostly "unsure"
    is the price that accuracy does not show.
    """

    min_confidence: float
    coverage: float
    accuracy: float | None
    class_coverage: tuple[float | None, ...]


@dataclass(frozen=True)
class Coverage:
    """Accuracy against coverage.

    thresholds: from 0 to 1. curve: (coverage, accuracy) with the k most confident images, thinned to STEPS points.
    risk_area: area under error against coverage (AURC: Geifman & El-Yaniv 2017, arXiv 1705.08500; 0 is perfect).
    best_risk_area: the same for a confidence that ranks every error below every hit; the least there is at this
    accuracy. auroc: chance that a hit is more confident than an error, ties half; None without errors or hits.
    """

    thresholds: tuple[Threshold, ...]
    curve: tuple[tuple[float, float], ...]
    risk_area: float
    best_risk_area: float
    auroc: float | None


def compute_coverage(probabilities: FloatArray, targets: IntArray) -> Coverage:
    """Of the corrected `probabilities` [N, C] and classes `targets` [N], N at least 1.

    The confidence is the model's own, 1 - normalised entropy; the stream compares that of the smoothed
    probabilities with the threshold.
    """
    from sklearn.metrics import roc_auc_score

    confidence = entropy_confidence(probabilities)
    correct = probabilities.argmax(1) == targets
    classes = probabilities.shape[1]
    thresholds = tuple(_at(step / STEPS, confidence, correct, targets, classes) for step in range(STEPS + 1))
    risks = _risks(confidence, correct)
    ranks = np.arange(1, len(targets) + 1)
    kept = np.unique(np.linspace(1, len(targets), min(STEPS, len(targets))).round().astype(int))
    perfect = np.sort(~correct)  # hits first
    return Coverage(
        thresholds=thresholds,
        curve=tuple((float(k / len(targets)), float(1 - risks[k - 1])) for k in kept),
        risk_area=float(risks.mean()),
        best_risk_area=float((np.cumsum(perfect) / ranks).mean()),
        auroc=None if correct.all() or not correct.any() else float(roc_auc_score(correct, confidence)),
    )


def _at(threshold: float, confidence: FloatArray, correct: Any, targets: IntArray, classes: int) -> Threshold:
    # rounding of the entropy must not make a certain image fall short of 1
    kept = confidence >= threshold - 1e-9
    shares = tuple(_mean(kept[targets == number]) for number in range(classes))
    return Threshold(threshold, float(kept.mean()), _mean(correct[kept]), shares)


def _mean(values: Any) -> float | None:
    return float(values.mean()) if len(values) else None


def _risks(confidence: FloatArray, correct: Any) -> FloatArray:
    """Share of errors among the k most confident, [N]. Of equally confident images each is as wrong as all of them
    on average: their order in the data must not matter."""
    values, group = np.unique(-confidence, return_inverse=True)
    errors = np.bincount(group, weights=~correct) / np.bincount(group, minlength=len(values))
    spread = np.sort(group)
    return np.asarray(np.cumsum(errors[spread]) / np.arange(1, len(correct) + 1))
