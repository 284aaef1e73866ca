"""Steady labels: an exponential average of a track's probabilities, weighted by confidence."""

from __future__ import annotations

import math
from typing import NamedTuple

from edgefel.errors import EdgefelError
from edgefel.runtime.confidence import confidence_of

# the least weight of a frame, without which an uncertain face would never change its label
LEAST_WEIGHT = 0.2


class Smoothed(NamedTuple):
    """probabilities, primary [C], quality: averages. confidence: 1 - normalised entropy of `probabilities`."""

    probabilities: list[float]
    primary: list[float]
    confidence: float
    quality: float


class Smoother:
    """Averages one track's distributions over time.

    seconds: time constant; 0 disables smoothing. `dt` seconds after the previous frame, a frame of confidence c has the
    weight

        a = 1 - exp(-dt / seconds · (LEAST_WEIGHT + (1 - LEAST_WEIGHT) · c)),     average += a · (frame - average)

    so the result does not depend on the frame rate or on dropped frames, and confident frames weigh more. With
    confident frames a label changes after about 0.7 `seconds`. The quality is averaged with c = 1.
    Lists of floats: for a few classes NumPy's call overhead exceeds the arithmetic.
    """

    def __init__(self, seconds: float = 0.2) -> None:
        if not math.isfinite(seconds) or seconds < 0:
            raise EdgefelError(f"smoothing of {seconds} seconds: give 0 (none) or more")
        self._seconds = seconds
        self._time = 0.0
        self._mean: Smoothed | None = None

    def update(
        self,
        time: float,
        probabilities: list[float],
        primary: list[float],
        confidence: float,
        quality: float = 1.0,
    ) -> Smoothed:
        """Adds a frame and returns the new average. time: seconds. probabilities, primary: [C]."""
        if (mean := self._mean) is not None and self._seconds:
            share = LEAST_WEIGHT + (1 - LEAST_WEIGHT) * min(1.0, max(0.0, confidence))
            elapsed = max(time - self._time, 0.0) / self._seconds
            weight = -math.expm1(-elapsed * share)
            probabilities = _towards(mean.probabilities, probabilities, weight)
            primary = _towards(mean.primary, primary, weight)
            quality = mean.quality - math.expm1(-elapsed) * (quality - mean.quality)
        self._time = time
        self._mean = Smoothed(probabilities, primary, confidence_of(probabilities), quality)
        return self._mean


def _towards(mean: list[float], frame: list[float], weight: float) -> list[float]:
    return [old + weight * (new - old) for old, new in zip(mean, frame, strict=True)]
