"""Balanced epochs: the data refinement of ARBEx (arXiv 2305.01486, sections 4.2.2 and 4.3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgefel.errors import EdgefelError


@dataclass(frozen=True)
class BalancedEpoch:
    """Draws each epoch from a fresh pool in which no group and no class dominates.

    A pool takes up to `per_group` random images of every group (video or subject); the epoch then takes
    `per_class` images of every class that occurs in the pool, without replacement, or, where the pool has
    fewer, each of them equally often and the rest at random. Classes with no image are left out.

    `labels` [N] are class indices, `groups` [N] any hashable names. Raises EdgefelError if they are empty,
    differ in length, or a count is below 1.
    """

    labels: Sequence[int] | NDArray[np.int64]
    groups: Sequence[str] | NDArray[np.int64]
    per_class: int = 500
    per_group: int = 512
    seed: int = 0

    def __post_init__(self) -> None:
        if len(self.labels) == 0:
            raise EdgefelError("balanced epochs need at least one labelled image; the data set is empty")
        if len(self.labels) != len(self.groups):
            raise EdgefelError(
                f"{len(self.labels)} labels but {len(self.groups)} groups; give one group per image"
            )
        if self.per_class < 1 or self.per_group < 1 or self.seed < 0:
            raise EdgefelError(
                f"per_class={self.per_class}, per_group={self.per_group}, seed={self.seed}: "
                "the counts must be at least 1 and the seed at least 0"
            )
        # names become integers once, here, and not in every epoch
        object.__setattr__(self, "labels", np.asarray(self.labels, dtype=np.int64))
        object.__setattr__(self, "groups", np.unique(np.asarray(self.groups), return_inverse=True)[1])

    def __len__(self) -> int:
        """Images per epoch, if every class occurs in the pool."""
        return int(np.unique(self.labels).size * self.per_class)

    def indices(self, epoch: int) -> NDArray[np.int64]:
        """Indices into the data set [M] in training order, the same for the same (seed, epoch)."""
        rng = np.random.default_rng(np.random.SeedSequence([self.seed, epoch]))
        labels = np.asarray(self.labels)
        pool = self._pool(rng)
        chosen = [
            _draw(pool[labels[pool] == label], self.per_class, rng) for label in np.unique(labels[pool])
        ]
        return rng.permutation(np.concatenate(chosen))

    def _pool(self, rng: np.random.Generator) -> NDArray[np.int64]:
        groups = np.asarray(self.groups)
        order = np.lexsort((rng.random(groups.size), groups))
        counts = np.bincount(groups)
        rank = np.arange(groups.size) - np.repeat(np.cumsum(counts) - counts, counts)
        pool: NDArray[np.int64] = order[rank < self.per_group]
        return pool


def _draw(candidates: NDArray[np.int64], count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    whole, rest = divmod(count, candidates.size)
    extra = rng.permutation(candidates)[:rest]
    return np.concatenate([np.repeat(candidates, whole), extra])
