"""Shares of labels over time, with 95 % intervals for which neighbouring frames are not independent.

A face keeps its label for seconds, so that a thousand frames say as much as a few dozen independent observations: the
effective sample size. Wilson's interval of that many holds for few of them too, and for shares of 0 and 1. The smaller
of two estimates of the size is used, because each is too large where the other is not:

- `redraws`: by the number of changes, for labels that alternate by chance, at one rate;
- `uncorrelated`: by the autocorrelation of the label, which also sees a slow alternation behind a fast one, but needs
  many alternations.

docs/results/share-intervals.json compares their coverage with that of a block bootstrap, which is too narrow for clips.
The intervals are of chance alone, in when the person was watched: not of wrong labels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]

_Z = 1.959963984540054  # of 95 %
# more of the series than this in the window of the autocorrelation: its correction would divide by about 0
_LEAST_REST = 0.1


@dataclass(frozen=True)
class Share:
    """The share of one label, 0 to 1, with its 95 % interval. seconds: with this label. size: effective sample size."""

    label: str
    seconds: float
    value: float
    low: float
    high: float
    size: float


def label_shares(
    labels: Sequence[str], seconds: Sequence[float], changes: int, series: Values
) -> tuple[Share, ...]:
    """The shares of `labels` in the time in which a person was seen.

    seconds: with each label. changes: how often the label changed. series [B, L]: the seconds of each label in equally
    long bins, in order; bins in which the person was not seen do not count.
    """
    total = sum(seconds)
    values = [part / total if total else 0.0 for part in seconds]
    seen = series.sum(axis=1)
    parts = series[seen > 0] / seen[seen > 0, None]
    most = redraws(changes, values)
    sizes = [min(most, uncorrelated(part, value)) for part, value in zip(parts.T, values, strict=True)]
    # a label that was never seen has no correlation of its own
    least = min((size for size, value in zip(sizes, values, strict=True) if value), default=1.0)
    sizes = [size if value else least for size, value in zip(sizes, values, strict=True)]
    return tuple(
        Share(label, part, value, *wilson(value, size), size)
        for label, part, value, size in zip(labels, seconds, values, sizes, strict=True)
    )


def wilson(value: float, size: float) -> tuple[float, float]:
    """The 95 % interval of a share of `size` independent observations, at least 1 (Wilson 1927)."""
    square = _Z * _Z / size
    middle = (value + square / 2) / (1 + square)
    half = math.sqrt(square * (value * (1 - value) + square / 4)) / (1 + square)
    return max(0.0, middle - half), min(1.0, middle + half)


def redraws(changes: int, values: Sequence[float]) -> float:
    """The effective sample size if the label is drawn anew, from the shares `values`, at random moments; at least 1.

    Of n such moments, a share 1 - sum of squares of the draws changes the label. The label at two times is correlated
    by exp(-n t / T), so that the average over T has the variance of 1 / (2 / n · (1 - (1 - exp(-n)) / n)) observations.
    """
    varied = 1 - sum(value * value for value in values)
    if not changes or varied <= 0:
        return 1.0
    number = changes / varied
    return max(1.0, number / 2 / (1 + math.expm1(-number) / number))


def uncorrelated(part: Values, value: float) -> float:
    """The effective sample size by the autocorrelation of one label's part of each bin [B]; at least 1.

    value: its share. The covariances are added up while sums of two neighbours are positive and fall (Geyer, "Practical
    Markov chain Monte Carlo", Statistical Science 7(4), 1992), and corrected for the unknown mean.
    """
    count = len(part)
    if count < 4 or not 0 < value < 1:
        return 1.0
    centred = part - part.mean()
    spectrum = np.fft.rfft(centred, 2 * count)
    covariances = np.fft.irfft(np.abs(spectrum) ** 2)[:count] / count
    pairs = np.minimum.accumulate(covariances[: count // 2 * 2].reshape(-1, 2).sum(axis=1))
    window = int(np.argmax(pairs <= 0)) if (pairs <= 0).any() else len(pairs)
    variance = float(2 * pairs[:window].sum() - covariances[0]) / count
    variance /= max(_LEAST_REST, 1 - (4 * window - 1) / count)
    return max(1.0, value * (1 - value) / variance) if variance > 0 else 1.0
