"""Clipping of activations: from a histogram of |x| to the |x| that maps to 127, or to both ends of a range."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

CalibrationMethod = Literal["sqnr", "mse", "minmax", "percentile", "entropy"]
METHODS: tuple[CalibrationMethod, ...] = get_args(CalibrationMethod)
DEFAULT_METHOD: CalibrationMethod = "sqnr"
QMAX = 127
PERCENTILE = 99.99
ENTROPY_LEVELS = 128
# of all values, the share that may lie beyond either end of an asymmetric range
TAIL = (1 - PERCENTILE / 100.0) / 2

Counts = npt.NDArray[np.int64]


def threshold(method: CalibrationMethod, counts: Counts, limit: float, maximum: float) -> float:
    """The |x| that maps to 127, by a method that needs no more than the histogram of all images: all but "sqnr".

    minmax: the largest |x|. percentile: the upper edge of the bin that holds the PERCENTILE-th percentile.
    mse: of 81 fractions of the largest |x|, the one with the least squared error of rounding and clipping.
    entropy: see `entropy_threshold`. None of them exceeds the largest |x|.

    counts: of |x| in equal bins from 0 to `limit`. maximum: the largest |x|, below `limit`.
    """
    if method == "minmax" or maximum == 0.0:
        return maximum
    choose = {"percentile": _percentile, "mse": _least_squares, "entropy": _entropy}[method]
    return min(maximum, choose(counts, limit, maximum))


def ends(
    most: float, counts: Counts, negative: Counts, limit: float, low: float, high: float
) -> tuple[float, float]:
    """The least and the largest value of an asymmetric range, least <= 0 <= largest, neither beyond `most`.

    On each side the value that TAIL of all values lie beyond: a long tail on one side costs the other nothing.

    most: a method's threshold. counts: of |x| in equal bins from 0 to `limit`; negative: those of them with x < 0. low,
    high: the extremes.
    """

    def end(own: Counts, extreme: float) -> float:
        if not own.any():
            return 0.0
        beyond = own.sum() - np.cumsum(own)
        position = int(np.argmax(beyond <= TAIL * counts.sum()))
        return min(most, max(extreme, 0.0), limit * (position + 1) / len(own))

    return -end(negative, -low), end(counts - negative, high)


def entropy_threshold(counts: Counts) -> int:
    """How many bins to keep, so that 128 levels lose the least information.

    For every i from 128 bins up, P is the distribution over the first i bins with everything beyond counted
    in the last of them, and Q what 128 equal levels leave of these bins: each level's count, without what was
    clipped, spread evenly over its bins that are not empty. The answer is the i of the least
    Kullback-Leibler divergence KL(P || Q). Bin 0 counts as much as bin 1, so that exact zeros, which no
    threshold harms, have no say.

    The method is TensorRT's (Migacz, "8-bit Inference with TensorRT", GTC 2017, S7310) in the detail that
    NVIDIA published (pytorch-quantization, `_compute_amax_entropy`). ONNX Runtime's
    `get_entropy_threshold` differs: it mirrors the histogram, takes one bin more on the right than on the
    left, cuts levels of floor(bins / levels) bins and leaves Q empty in the bins that remain, counts zeros,
    and rounds Q down to whole numbers.

    Q is constant over a level, so that sums over bins become differences of running sums: all candidates take
    O(bins * levels) together.
    """
    used = np.trim_zeros(counts, "b").astype(np.float64)
    if used.size <= ENTROPY_LEVELS:
        return len(used)
    used[0] = used[1]
    return ENTROPY_LEVELS + int(np.argmin(entropy_divergences(used)))


def entropy_divergences(counts: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """KL(P || Q) in nats of keeping i = 128 .. len(counts) bins: float64 [len(counts) - 127].

    Infinite where the last bin kept is empty and something is clipped into it.
    """
    kept = np.arange(ENTROPY_LEVELS, len(counts) + 1)
    # bin j belongs to the level floor(128 j / i); the first bin of every level, and the end
    edges = -(kept[:, None] * -np.arange(ENTROPY_LEVELS + 1) // ENTROPY_LEVELS)
    mass = np.diff(_running_sum(counts)[edges], axis=1)
    occupied = np.diff(_running_sum(counts > 0)[edges], axis=1)
    inside = _running_sum(counts)[kept]
    total = inside[-1]
    clipped = total - inside
    last = counts[kept - 1]
    # sum of p log p, with the last bin's term exchanged for the one that has the clipped values in it
    own = _running_sum(_x_log_x(counts))[kept] - _x_log_x(last) + _x_log_x(last + clipped)
    height = np.log(np.divide(mass, occupied, out=np.ones_like(mass), where=occupied > 0))
    cross = (mass * height).sum(axis=1) + clipped * height[:, -1]
    with np.errstate(divide="ignore", invalid="ignore"):
        divergences = (own - cross) / total - np.log(total) + np.log(inside)
    divergences[(last == 0) & (clipped > 0)] = np.inf
    return np.asarray(divergences, dtype=np.float64)


def _entropy(counts: Counts, limit: float, maximum: float) -> float:
    return limit * entropy_threshold(counts) / len(counts)


def _percentile(counts: Counts, limit: float, maximum: float) -> float:
    cumulative = np.cumsum(counts)
    position = int(np.searchsorted(cumulative, cumulative[-1] * PERCENTILE / 100.0))
    return limit * (min(position, len(counts) - 1) + 1) / len(counts)


def _least_squares(counts: Counts, limit: float, maximum: float) -> float:
    centres = (np.arange(len(counts)) + 0.5) * (limit / len(counts))
    candidates = maximum * np.linspace(0.2, 1.0, 81)
    scales = candidates[:, None] / QMAX
    rounded = np.clip(np.rint(centres / scales), 0, QMAX) * scales
    errors = ((rounded - centres) ** 2 * counts).sum(axis=1)
    return float(candidates[int(np.argmin(errors))])


def _running_sum(values: npt.NDArray[np.float64] | npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """Sums of the first 0, 1, ... values."""
    return np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])


def _x_log_x(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.asarray(values * np.log(np.where(values > 0, values, 1.0)), dtype=np.float64)
