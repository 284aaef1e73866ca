"""Accuracy and recall for each value of an attribute, with confidence intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgefel.evaluation.metrics import FloatArray, IntArray

GROUP = "group"
# a value with fewer images is not compared: its interval spans half of everything
LEAST_IMAGES = 20
# of one class, for the recall
LEAST_OF_CLASS = 10


@dataclass(frozen=True)
class Share:
    """hits of images, and their ratio `value` with its 95 % Wilson interval (low, high)."""

    hits: int
    images: int
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Score:
    """The images with one value of an attribute. recall: per class, None where it does not occur."""

    value: str
    accuracy: Share
    recall: tuple[Share | None, ...]


@dataclass(frozen=True)
class Gap:
    """The largest difference between two values of an attribute. of: "accuracy", or the class whose recall it is.

    overlap: whether their 95 % intervals do. Where they do not, the difference is more than chance, unless it is
    the largest of a great many.
    """

    of: str
    best: str
    worst: str
    difference: float
    overlap: bool


@dataclass(frozen=True)
class Attribute:
    """An attribute of the people or recordings.

    scores: of the values with at least LEAST_IMAGES images, most images first. values: how many there are in
    all. unknown: images without a value. accuracy_gap: None with fewer than 2 scores. recall_gaps: per class, where
    two values have at least LEAST_OF_CLASS images of it; the largest first. spread_*: accuracy over all values,
    each counted once: mean, standard deviation, least and greatest.
    """

    name: str
    values: int
    unknown: int
    scores: tuple[Score, ...]
    accuracy_gap: Gap | None
    recall_gaps: tuple[Gap, ...]
    spread_mean: float
    spread_std: float
    spread_least: float
    spread_greatest: float


def wilson(hits: int, images: int) -> Share:
    """A share with its 95 % interval (Wilson 1927; also right for few images and for shares near 0 and 1).

    Raises ValueError for no images or more hits than images.
    """
    from scipy.stats import binomtest

    low, high = binomtest(hits, images).proportion_ci(0.95, method="wilson")
    return Share(hits, images, hits / images, float(low), float(high))


def judge_attribute(
    name: str, values: Sequence[str], probabilities: FloatArray, targets: IntArray, labels: Sequence[str]
) -> Attribute | None:
    """Scores of every value of `values` [N]; "" is no value. None where no two images share a value, or where
    there is only one value: nothing can be compared."""
    names = np.array(values, dtype=object)
    known = {value: np.flatnonzero(names == value) for value in dict.fromkeys(values) if value}
    if len(known) < 2 or max(map(len, known.values())) < 2:
        return None
    correct = probabilities.argmax(1) == targets
    order = sorted(known, key=lambda value: (-len(known[value]), value))
    scores = tuple(
        _score(value, correct[known[value]], targets[known[value]], len(labels))
        for value in order
        if len(known[value]) >= LEAST_IMAGES
    )
    accuracies = value_accuracies(values, correct)
    classes = [
        gap
        for number, label in enumerate(labels)
        if (gap := _gap(label, [(s.value, s.recall[number]) for s in scores], LEAST_OF_CLASS))
    ]
    return Attribute(
        name=name,
        values=len(known),
        unknown=int((names == "").sum()),
        scores=scores,
        accuracy_gap=_gap("accuracy", [(s.value, s.accuracy) for s in scores], LEAST_IMAGES),
        recall_gaps=tuple(sorted(classes, key=lambda gap: -gap.difference)),
        spread_mean=float(accuracies.mean()),
        spread_std=float(accuracies.std()),
        spread_least=float(accuracies.min()),
        spread_greatest=float(accuracies.max()),
    )


def value_accuracies(values: Sequence[str], correct: NDArray[Any]) -> NDArray[np.float64]:
    """Accuracy of every value of `values` [N] that is not "", in the order in which they come."""
    names = np.array(values, dtype=object)
    return np.array([correct[names == value].mean() for value in dict.fromkeys(values) if value])


def _score(value: str, correct: NDArray[Any], targets: IntArray, classes: int) -> Score:
    each = [correct[targets == number] for number in range(classes)]
    recall = tuple(wilson(int(own.sum()), len(own)) if len(own) else None for own in each)
    return Score(value, wilson(int(correct.sum()), len(correct)), recall)


def _gap(of: str, shares: Sequence[tuple[str, Share | None]], least: int) -> Gap | None:
    enough = [(value, share) for value, share in shares if share is not None and share.images >= least]
    if len(enough) < 2:
        return None
    best = max(enough, key=lambda pair: pair[1].value)
    worst = min(enough, key=lambda pair: pair[1].value)
    difference = best[1].value - worst[1].value
    return Gap(of, best[0], worst[0], difference, bool(best[1].low <= worst[1].high))
