"""An exponential long tail cut out of a data set: which class is how rare is decided by a rotation."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from edgefel.calib.sampling import LabelledImages
from edgefel.errors import EdgefelError
from edgefel.text import counted


@dataclass(frozen=True)
class LongTail:
    """indices: into the data set. counts: images per label. order: labels, the most frequent first."""

    indices: tuple[int, ...]
    counts: dict[str, int]
    order: tuple[str, ...]

    @property
    def tail(self) -> tuple[str, ...]:
        """The rarest third of the labels (rounded, at least one), the rarest last."""
        return self.order[-max(1, round(len(self.order) / 3)) :]


def long_tail(
    dataset: LabelledImages, imbalance: float, rotation: int, seed: int, *, among: Collection[int]
) -> LongTail:
    """Keeps n_k = r · imbalance^((C-1-k)/(C-1)) images of the k-th of C classes, r of the rarest.

    The profile is that of CIFAR-LT (Cui et al. 2019, arXiv 1901.05555); r is the largest number for which every
    class has enough. Class k is the label (k + rotation) mod C: over C rotations every class stands at every
    place once, so that a result is not one about a certain class. `seed` draws the images that stay. An `imbalance`
    of 1 keeps everything as it is and orders the classes by frequency. Raises EdgefelError for an imbalance below 1,
    and for classes with too few images.
    """
    if not 1.0 <= imbalance < float("inf"):
        raise EdgefelError(
            f"imbalance {imbalance:g}: give how many times rarer the rarest class is, 1 or more"
        )
    pool = np.array(sorted(among), dtype=np.int64)
    labels = np.array([dataset.samples[i].label for i in pool], dtype=np.int64)
    classes = len(dataset.labels)
    available = np.bincount(labels, minlength=classes)
    if not available.all():
        lacking = ", ".join(name for name, n in zip(dataset.labels, available, strict=True) if n == 0)
        raise EdgefelError(f"no images of {lacking} to calibrate on; give data that shows every class")
    if imbalance == 1.0:
        order, counts = np.argsort(-available, kind="stable"), available
    else:
        order = (np.arange(classes) + rotation) % classes
        profile = imbalance ** np.linspace(1.0, 0.0, classes)
        multiples = available[order] / profile
        rarest = int(np.floor(multiples.min() + 1e-9))
        if rarest < 1:
            scarce = int(multiples.argmin())
            raise EdgefelError(
                f"imbalance {imbalance:g}: needs {counted(int(np.ceil(profile[scarce])), 'image')} of "
                f"{dataset.labels[order[scarce]]} and there are {available[order[scarce]]}; give more data or a "
                "smaller --imbalance"
            )
        counts = np.zeros(classes, dtype=np.int64)
        counts[order] = np.rint(rarest * profile)
        rng = np.random.default_rng(seed)
        kept = [rng.permutation(pool[labels == label])[: counts[label]] for label in range(classes)]
        pool = np.sort(np.concatenate(kept))
    named = dict(zip(dataset.labels, counts.tolist(), strict=True))
    return LongTail(tuple(pool.tolist()), named, tuple(dataset.labels[i] for i in order))
