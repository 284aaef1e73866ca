"""Wrong labels on purpose: what training makes of them is one of the papers' experiments (ARBEx table 2)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgefel.training.randomness import Purpose, derive_seed


def with_label_noise(
    targets: NDArray[np.int64], share: float, num_classes: int, seed: int
) -> NDArray[np.int64]:
    """A copy of `targets` [N] in which round(share * N) labels are another class, all others equally likely.

    With the same seed, what is wrong at a lower share is wrong in the same way at a higher one.
    """
    rng = np.random.default_rng(derive_seed(seed, Purpose.LABELS))
    order = rng.permutation(len(targets))
    shift = rng.integers(1, num_classes, len(targets))
    wrong = order[: round(share * len(targets))]
    noisy = targets.copy()
    noisy[wrong] = (targets[wrong] + shift[wrong]) % num_classes
    return noisy
