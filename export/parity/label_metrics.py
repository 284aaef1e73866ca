"""What a comparison says about the labels that two versions of a network give: change of recall with an
interval, agreement, divergence, and whether the labels may be trusted at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.floating[Any]]
IntArray = npt.NDArray[np.integer[Any]]

RESAMPLES = 4000
LEVEL = 0.95
CHANCE_LEVEL = 0.01
_SMALLEST = 1e-12


def kl_divergence(p: FloatArray, q: FloatArray) -> npt.NDArray[np.float64]:
    """KL(p || q) of every row, in nats: [N, C] distributions -> [N], each at least 0.

    Rows are normalised in float64 first, since reduced precision sums to 1 only roughly. Where q is below
    1e-12 it counts as that: a probability that underflows in FP16 costs much, and not infinitely much.
    """
    p, q = (_normalised(values) for values in (p, q))
    ratio = np.log(np.maximum(p, _SMALLEST)) - np.log(np.maximum(q, _SMALLEST))
    divergence: npt.NDArray[np.float64] = np.maximum((p * ratio).sum(axis=1), 0.0)
    return divergence


def _normalised(values: FloatArray) -> npt.NDArray[np.float64]:
    wide = np.maximum(values.astype(np.float64), 0.0)
    return np.asarray(wide / np.maximum(wide.sum(axis=1, keepdims=True), _SMALLEST))


@dataclass(frozen=True)
class ClassParity:
    """One class: its images, recall of PyTorch and of the file (0 to 1), the change in points (hundredths,
    negative where the file loses) and its 95 % interval. None where there is no image of the class."""

    label: str
    images: int
    recall_reference: float | None = None
    recall: float | None = None
    change: float | None = None
    interval: tuple[float, float] | None = None


def recall_change(
    reference_probabilities: FloatArray,
    actual_probabilities: FloatArray,
    targets: IntArray,
    labels: Sequence[str],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[ClassParity, ...]:
    """Change of every class's recall from the reference to the actual probabilities, both [N, C]; targets [N].

    The change comes from counts, so it is exact. The interval is a paired bootstrap: images of the class are drawn
    again with replacement, both versions judged on the same ones. An image is won, lost or unchanged, so a resample is
    one multinomial draw. Half an image is added to won and lost each and one to unchanged (Agresti and Min 2005, doi
    10.1002/sim.1781): without that, no change among 30 images would look like certainty.
    """
    right_before = reference_probabilities.argmax(axis=1) == targets
    right_after = actual_probabilities.argmax(axis=1) == targets
    tails = [50.0 * (1 - LEVEL), 50.0 * (1 + LEVEL)]
    rows = []
    for number, label in enumerate(labels):
        own = targets == number
        count = int(own.sum())
        if count == 0:
            rows.append(ClassParity(label, 0))
            continue
        before, after = int(right_before[own].sum()), int(right_after[own].sum())
        won = int((right_after & ~right_before)[own].sum())
        lost = int((right_before & ~right_after)[own].sum())
        chances = np.array([won + 0.5, lost + 0.5, count - won - lost + 1.0]) / (count + 2.0)
        # a stream of its own for each class: one class more does not move the others' intervals
        drawn = np.random.default_rng([seed, number]).multinomial(count, chances, size=resamples)
        low, high = np.percentile(100.0 * (drawn[:, 0] - drawn[:, 1]) / count, tails)
        change = 100.0 * (won - lost) / count
        rows.append(
            ClassParity(label, count, before / count, after / count, change, (float(low), float(high)))
        )
    return tuple(rows)


def share_interval(hits: int, count: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927, doi 10.1080/01621459.1927.10502953), within 0 to 1."""
    from scipy.stats import binomtest

    interval = binomtest(hits, count).proportion_ci(LEVEL, method="wilson")
    return float(interval.low), float(interval.high)


def chance_p_value(probabilities: FloatArray, targets: IntArray) -> float:
    """How likely a guesser is to do as well: the exact one-sided binomial test of the accuracy.

    The guesser always names the largest class of `targets`, or any class where they are even: its hit rate is
    the larger of that class's share and 1 / C. `probabilities` [N, C], `targets` [N], N at least 1.
    """
    from scipy.stats import binom

    count, classes = probabilities.shape
    share = max(float(np.bincount(targets, minlength=classes).max()) / count, 1.0 / classes)
    hits = int((probabilities.argmax(axis=1) == targets).sum())
    return float(binom.sf(hits - 1, count, share))
