"""How far the probabilities of an image spread, before and after the reliability head (ARBEx, section 4.7.1)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgefel.evaluation.metrics import FloatArray

DEFINITION = (
    "Per image: standard deviation (population), largest and smallest of its class probabilities, averaged over the "
    "images. Pooled: the same of all probabilities of all images at once."
)


@dataclass(frozen=True)
class Spread:
    """std, highest, lowest: of each image's class probabilities, then the mean over the images.

    pooled_*: of all probabilities together. The pooled std is the per-image one if the images are alike, and
    never less, for every image has the same mean 1/C.
    """

    images: int
    std: float
    highest: float
    lowest: float
    pooled_std: float
    pooled_highest: float
    pooled_lowest: float


def spread(probabilities: FloatArray) -> Spread:
    """Of `probabilities` [N, C], N at least 1; the paper's definition is not given, this one is in DEFINITION."""
    return Spread(
        images=len(probabilities),
        std=float(probabilities.std(axis=1).mean()),
        highest=float(probabilities.max(axis=1).mean()),
        lowest=float(probabilities.min(axis=1).mean()),
        pooled_std=float(np.std(probabilities)),
        pooled_highest=float(probabilities.max()),
        pooled_lowest=float(probabilities.min()),
    )
