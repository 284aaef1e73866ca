"""Labels that do not flicker: an exponential average of a track's probabilities, weighted by confidence."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgefel.errors import EdgefelError
from edgefel.runtime.confidence import confidence_of
from edgefel.runtime.preprocessing import Tensor

# a frame that the model is not sure of at all still counts this much, or a doubtful face would never change
LEAST_WEIGHT = 0.2


@dataclass(frozen=True)
class Smoothed:
    """probabilities, primary [C]: averaged over the last frames. confidence: 1 - normalised entropy of the first."""

    probabilities: Tensor
    primary: Tensor
    confidence: float


class Smoother:
    """Averages one track's distributions over time.

    seconds: time constant; 0 takes each frame as it is. After `dt` seconds a frame of confidence c has the weight

        a = 1 - exp(-dt / seconds · (LEAST_WEIGHT + (1 - LEAST_WEIGHT) · c)),     average += a · (frame - average)

    so that frame rate and dropped frames make no difference, and the reliability head's confidence decides how
    much a frame changes. With sure frames a label changes after about 0.7 `seconds`.
    """

    def __init__(self, seconds: float = 0.2) -> None:
        if not np.isfinite(seconds) or seconds < 0:
            raise EdgefelError(f"smoothing of {seconds} seconds: give 0 (none) or more")
        self._seconds = seconds
        self._time = 0.0
        self._mean: npt.NDArray[np.float64] | None = None

    def update(self, time: float, probabilities: Tensor, primary: Tensor, confidence: float) -> Smoothed:
        """The average with the frame of `time` (seconds) in it: probabilities and primary [C]."""
        frame = np.array((probabilities, primary), dtype=np.float64)
        if self._mean is None:
            self._mean = frame
        else:
            self._mean += self._weight(time - self._time, confidence) * (frame - self._mean)
        self._time = time
        corrected, before = self._mean.astype(np.float32)
        return Smoothed(corrected, before, confidence_of(self._mean[0].tolist()))

    def _weight(self, elapsed: float, confidence: float) -> float:
        if self._seconds == 0:
            return 1.0
        share = LEAST_WEIGHT + (1 - LEAST_WEIGHT) * min(1.0, max(0.0, confidence))
        return -math.expm1(-max(elapsed, 0.0) / self._seconds * share)
