"""SQNR of an activation, image by image, at thresholds on a grid that is the same for all images."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import numpy.typing as npt

from edgefel.calib.thresholds import QMAX

STEPS = 16  # thresholds per octave: 4 % apart, where an optimum is flat
# octaves of thresholds around the limit of an image's histogram; what lies outside counts as 0 dB. Below, all but a
# small part is clipped; above, one step is half the limit
BELOW, ABOVE = 5, 6
_MERGED = 4  # bins taken as one for thresholds above the limit, whose steps are that much wider
_UNIT = 2.0**-20  # dB; sums of whole numbers do not depend on their order
_POINTS = 4  # of a bin, at which its error is evaluated: a value may lie anywhere in it


class ImageSqnr:
    """Sum over images of the SQNR that symmetric INT8 leaves of each, at the thresholds 2^(k / STEPS).

    SQNR is relative to an image's own energy, and in dB: an image that is clipped to nothing costs the mean as much as
    it had to lose, at most some 40 dB, however large its values are. With squared errors, summed over all images, one
    whose activations are ten times as large as usual weighs as much as a hundred others; and behind it stands a
    normalization that makes images alike.

    The sums do not depend on the order of the images, nor on how they were shared out among merged collectors.
    """

    def __init__(self) -> None:
        # octave -> int64 [STEPS], in _UNIT: of the thresholds from 2^octave up
        self._sums: dict[int, npt.NDArray[np.int64]] = {}

    def add(self, counts: npt.NDArray[np.int64], limit: float) -> None:
        """Adds one image. counts: of |x| in equal bins from 0 to `limit`, which is a power of two, or 0 if all are."""
        fine = counts.astype(np.float32)
        # mostly zeros, of ReLU say, which no step harms
        fine[0] = 0.0
        if not fine.any():
            return
        coarse = fine.reshape(-1, _MERGED).sum(axis=1)
        # of no BLAS, whose threads would wait for those that run the network
        energy, *below = np.einsum("kb,b->k", _table(len(fine), -BELOW, 0), fine).astype(np.float64)
        same, *above = np.einsum("kb,b->k", _table(len(coarse), 0, ABOVE), coarse).astype(np.float64)
        ratios = [*(energy / np.asarray(below)), *(same / np.asarray(above))]
        rows = np.rint(10.0 * np.log10(ratios) / _UNIT).astype(np.int64).reshape(-1, STEPS)
        first = math.frexp(limit)[1] - 1 - BELOW
        for octave, row in enumerate(rows, start=first):
            self._sums[octave] = self._sums.get(octave, 0) + row

    def merge(self, other: ImageSqnr) -> None:
        """Adds the images of another."""
        for octave, row in other._sums.items():
            self._sums[octave] = self._sums.get(octave, 0) + row

    def best(self) -> float:
        """The threshold of the largest mean; infinite if all images are (next to) 0 everywhere."""
        if not self._sums:
            return math.inf
        octave, row = max(sorted(self._sums.items()), key=lambda item: int(item[1].max()))
        return math.ldexp(2.0 ** (int(row.argmax()) / STEPS), octave)


@cache
def _table(bins: int, first: int, end: int) -> npt.NDArray[np.float32]:
    """What a value of each bin adds, where the limit is 1: its mean square, and below it its mean squared error at the
    thresholds from 2^first up to 2^end. float32 [1 + (end - first) * STEPS, bins]."""
    values = ((np.arange(bins * _POINTS) + 0.5) / (bins * _POINTS)).reshape(bins, _POINTS)
    rows = [np.square(values).mean(axis=1)]
    for step in 2.0 ** (np.arange(first * STEPS, end * STEPS) / STEPS) / QMAX:
        quantized = np.minimum(np.rint(values / step), QMAX) * step
        rows.append(np.square(quantized - values).mean(axis=1))
    return np.asarray(rows, dtype=np.float32)
