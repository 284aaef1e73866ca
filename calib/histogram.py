"""Histogram of |x| of one activation, independent of the order in which values arrive."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from edgefel.calib.image_sqnr import ImageSqnr
from edgefel.calib.thresholds import CalibrationMethod, ends, threshold
from edgefel.errors import EdgefelError

BINS = 2048
# values binned at a time: the passes over them then read a core's own cache instead of memory, which halves
# the time of a large activation
_BLOCK = 1 << 15
# below 2^-96 the factor that turns a value into its bin would overflow float32
_MIN_EXPONENT = -96


class ActivationHistogram:
    """Counts of |x| in `BINS` equal bins from 0 up to a limit that grows; signed extremes; a fixed size.

    The limit is always a power of two above every value. Dividing by it is then exact in float32, and so is
    moving to a larger one, which merges neighbouring bins: the counts depend on the values alone, not on
    their order, nor on how they were cut into batches or shared out among collectors that were merged.

    `collect` adds values, `compute` gives the threshold of a method for symmetric quantization and `ends` the range for
    asymmetric, `reset` forgets.

    counts: int64 [BINS]. negative: int64 [BINS], those of them that are of values below 0. limit: upper edge of the
    last bin; 0 while every value is 0. low, high: the smallest and the largest value, with sign. shape: of the
    activation without its first dimension. sqnr: of each image.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.reset()

    def reset(self) -> None:
        """Forgets everything collected."""
        self.counts = np.zeros(BINS, dtype=np.int64)
        self.negative = np.zeros(BINS, dtype=np.int64)
        self.limit = 0.0
        self.low, self.high = math.inf, -math.inf
        self.shape: tuple[int, ...] | None = None
        self.sqnr = ImageSqnr()

    @property
    def maximum(self) -> float:
        """The largest |x|; 0 where nothing was collected."""
        return max(self.high, -self.low, 0.0)

    def collect(self, values: npt.NDArray[np.float32]) -> None:
        """Adds an activation [N, ...], float32, of N images; N may change from call to call.

        Raises EdgefelError naming the tensor if a value is not finite, or the other dimensions have changed.
        """
        self._check_shape(values.shape[1:])
        for image in values:
            own = ActivationHistogram(self.name)
            own._count(np.ascontiguousarray(image, dtype=np.float32).ravel())
            own.sqnr.add(own.counts, own.limit)
            own.shape = self.shape
            self.merge(own)

    def _count(self, flat: npt.NDArray[np.float32]) -> None:
        size = min(_BLOCK, flat.size)
        magnitudes = np.empty(size, dtype=np.float32)
        bins = np.empty(size, dtype=np.int32)
        indices = np.empty(size, dtype=np.int64)
        for start in range(0, flat.size, _BLOCK):
            block = flat[start : start + _BLOCK]
            low, high = float(block.min()), float(block.max())
            # either is NaN if any value is
            if not (math.isfinite(low) and math.isfinite(high)):
                raise EdgefelError(
                    f"calibration: the activation {self.name!r} is not finite; "
                    "check the checkpoint (training may have diverged) and the images"
                )
            self.low, self.high = min(self.low, low), max(self.high, high)
            top = max(high, -low)
            if top >= self.limit and top > 0.0:
                self._raise_limit(_limit_above(top))
            if self.limit == 0.0:
                self.counts[0] += block.size
                continue
            n = block.size
            np.abs(block, out=magnitudes[:n])
            np.multiply(magnitudes[:n], np.float32(BINS / self.limit), out=magnitudes[:n])
            # bincount wants int64; the detour over int32 is what processors convert to many at a time
            np.copyto(bins[:n], magnitudes[:n], casting="unsafe")
            np.copyto(indices[:n], bins[:n])
            found = np.bincount(indices[:n], minlength=BINS)
            self.counts += found
            if high <= 0.0:
                self.negative += found
            elif low < 0.0:
                self.negative += np.bincount(indices[:n][block < 0.0], minlength=BINS)

    def merge(self, other: ActivationHistogram) -> None:
        """Adds what another collector of the same tensor has seen, as if its values had come here."""
        if other.shape is None:
            return
        self._check_shape(other.shape)
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)
        limit = max(self.limit, other.limit)
        self._raise_limit(limit)
        self.counts += _coarser(other.counts, other.limit, limit)
        self.negative += _coarser(other.negative, other.limit, limit)
        self.sqnr.merge(other.sqnr)

    def compute(self, method: CalibrationMethod) -> float:
        """The |x| that maps to 127, by `edgefel.calib.thresholds`.

        Raises EdgefelError naming the tensor if it is the same value everywhere, for there is no range in it, or
        if nothing was collected.
        """
        if self.shape is None:
            raise EdgefelError(f"calibration: nothing was collected of the activation {self.name!r}")
        if self.low == self.high:
            raise EdgefelError(
                f"calibration: the activation {self.name!r} is {self.low + 0.0:g} everywhere, in all images; check "
                "the checkpoint (a dead layer?) and the images (all the same or blank?)"
            )
        if method == "sqnr":
            return min(self.maximum, self.sqnr.best())
        return threshold(method, self.counts, self.limit, self.maximum)

    def ends(self, method: CalibrationMethod) -> tuple[float, float]:
        """The least and the largest value of an asymmetric range, least <= 0 <= largest; raises as `compute` does.

        minmax: the extremes. The other methods: `edgefel.calib.thresholds.ends` within their symmetric range.
        """
        most = self.compute(method)
        if method == "minmax":
            return min(self.low, 0.0), max(self.high, 0.0)
        return ends(most, self.counts, self.negative, self.limit, self.low, self.high)

    def _check_shape(self, shape: tuple[int, ...]) -> None:
        if self.shape is None:
            self.shape = shape
        elif shape != self.shape:
            raise EdgefelError(
                f"calibration: the activation {self.name!r} changed its shape from {_shown(self.shape)} to "
                f"{_shown(shape)}; all images must have the model's input size"
            )

    def _raise_limit(self, limit: float) -> None:
        self.counts = _coarser(self.counts, self.limit, limit)
        self.negative = _coarser(self.negative, self.limit, limit)
        self.limit = limit


def _limit_above(top: float) -> float:
    """The least power of two greater than `top`."""
    return math.ldexp(1.0, max(math.frexp(top)[1], _MIN_EXPONENT))


def _coarser(counts: npt.NDArray[np.int64], limit: float, new_limit: float) -> npt.NDArray[np.int64]:
    """The counts as they would be with a larger limit."""
    if limit in (0.0, new_limit):
        # under the limit 0 there are only zeros, which stay in the first bin
        return counts
    merged = min(BINS, round(new_limit / limit))
    wider = np.zeros(BINS, dtype=np.int64)
    wider[: BINS // merged] = counts.reshape(-1, merged).sum(axis=1)
    return wider


def _shown(shape: tuple[int, ...]) -> str:
    return f"[{', '.join(['N', *map(str, shape)])}]"
