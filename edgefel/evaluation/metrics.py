"""Numbers that judge a classifier: accuracy, macro F1, recall, calibration, confusion matrix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgefel.errors import EdgefelError

FloatArray = NDArray[np.floating[Any]]
IntArray = NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Metrics:
    """One set of predictions, judged.

    accuracy: share of correct labels. macro_f1: mean F1 of the classes that occur in the data.
    recall: per class, None where the class does not occur. ece: see `expected_calibration_error`.
    confusion: [C][C] counts, true class by row, predicted by column.
    """

    accuracy: float
    macro_f1: float
    recall: tuple[float | None, ...]
    ece: float
    confusion: tuple[tuple[int, ...], ...]


def compute_metrics(probabilities: FloatArray, targets: IntArray) -> Metrics:
    """Judges `probabilities` [N, C] (rows sum to 1) against class indices `targets` [N].

    Raises EdgefelError if there is nothing to judge, and ValueError for shapes that do not fit.
    """
    from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, recall_score

    if len(targets) == 0:
        raise EdgefelError("no images to evaluate: the split is empty or none of them can be read")
    if probabilities.ndim != 2 or len(probabilities) != len(targets):
        raise ValueError(f"probabilities {probabilities.shape} do not fit {len(targets)} targets")
    predicted = probabilities.argmax(1)
    classes = range(probabilities.shape[1])
    occurring = [c for c in classes if (targets == c).any()]
    recall = recall_score(targets, predicted, labels=list(classes), average=None, zero_division=0)
    confusion = confusion_matrix(targets, predicted, labels=list(classes))
    return Metrics(
        accuracy=float(accuracy_score(targets, predicted)),
        macro_f1=float(f1_score(targets, predicted, labels=occurring, average="macro", zero_division=0)),
        recall=tuple(float(recall[c]) if c in occurring else None for c in classes),
        ece=expected_calibration_error(probabilities, targets),
        confusion=tuple(tuple(int(n) for n in row) for row in confusion),
    )


@dataclass(frozen=True)
class ReliabilityBin:
    """Images whose top probability lies in (low, high]: how many, how sure the model is, and how often it is right.

    confidence: mean top probability; accuracy: share of correct labels. Both None in an empty bin.
    """

    low: float
    high: float
    images: int
    confidence: float | None
    accuracy: float | None


def reliability_bins(
    probabilities: FloatArray, targets: IntArray, bins: int = 15
) -> tuple[ReliabilityBin, ...]:
    """The bars of a reliability diagram: equal-width bins of the top probability of `probabilities` [N, C].

    Bin b holds ((b-1)/bins, b/bins] (Guo et al. 2017, arXiv 1706.04599, section 2; 15 bins as there).
    """
    top = probabilities.max(1).astype(np.float64)
    correct = (probabilities.argmax(1) == targets).astype(np.float64)
    index = np.clip(np.ceil(top * bins).astype(int) - 1, 0, bins - 1)
    counts = np.bincount(index, minlength=bins)
    sure = np.bincount(index, weights=top, minlength=bins)
    right = np.bincount(index, weights=correct, minlength=bins)
    return tuple(
        ReliabilityBin(
            low=b / bins,
            high=(b + 1) / bins,
            images=int(counts[b]),
            confidence=float(sure[b] / counts[b]) if counts[b] else None,
            accuracy=float(right[b] / counts[b]) if counts[b] else None,
        )
        for b in range(bins)
    )


def expected_calibration_error(probabilities: FloatArray, targets: IntArray, bins: int = 15) -> float:
    """ECE: `Σ_b |B_b|/N · |accuracy(B_b) - confidence(B_b)|` over the bins of `reliability_bins`.

    Guo et al. 2017, arXiv 1706.04599, equation 3.
    """
    return sum(
        part.images / len(targets) * abs(part.accuracy - part.confidence)
        for part in reliability_bins(probabilities, targets, bins)
        if part.accuracy is not None and part.confidence is not None
    )
