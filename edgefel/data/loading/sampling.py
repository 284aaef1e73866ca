"""Balanced epochs, the data refinement of ARBEx (arXiv 2305.01486, sections 4.2.2 and 4.3), and uniform ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgefel.errors import EdgefelError
from edgefel.text import counted


class BalancedEpoch:
    """Draws each epoch from a fresh pool in which no group and no class dominates.

    A pool takes up to `per_group` random images of every group (video or subject); the epoch then takes
    `per_class` images of every class that occurs in the pool, without replacement, or, where the pool has
    fewer, each of them equally often and the rest at random. Classes with no image are left out.

    `labels` [N] are class indices, `groups` [N] numbers or names. Images are sorted by group once, at construction; an
    epoch then costs a draw for every image that a large group contributes to the pool, and no sorting. Raises
    EdgefelError if they are empty, differ in length, or a count is below 1.
    """

    def __init__(
        self,
        labels: Sequence[int] | NDArray[np.integer[Any]],
        groups: Sequence[str] | NDArray[np.integer[Any]],
        per_class: int = 500,
        per_group: int = 512,
        seed: int = 0,
    ) -> None:
        if len(labels) == 0:
            raise EdgefelError("balanced epochs need at least one labelled image; the data set is empty")
        if len(labels) != len(groups):
            raise EdgefelError(
                f"{counted(len(labels), 'label')} but {counted(len(groups), 'group')}; give one group per image"
            )
        if per_class < 1 or per_group < 1 or seed < 0:
            raise EdgefelError(
                f"per_class={per_class}, per_group={per_group}, seed={seed}: "
                "the counts must be at least 1 and the seed at least 0"
            )
        self.per_class, self.per_group, self.seed = per_class, per_group, seed
        self.labels, self.groups = _ranks(labels), _ranks(groups)
        self._classes = int(self.labels.max()) + 1
        sizes = np.bincount(self.groups)
        large = sizes > per_group
        # stable: the draw must not depend on how a sort orders equals; frames of a video mostly lie together, which
        # makes it a matter of merging few runs
        order = np.argsort(self.groups, kind="stable").astype(np.int32)
        in_large = np.repeat(large, sizes)
        self._whole = order[~in_large]  # images of the groups that the pool takes whole
        self._large = order[in_large]  # images of the others, group by group
        self._sizes = sizes[large]  # how many of `_large` belong to each group

    def __len__(self) -> int:
        """Images per epoch, if every class occurs in the pool."""
        return self._classes * self.per_class

    def indices(self, epoch: int) -> NDArray[np.int64]:
        """Indices into the data set [M] in training order, the same for the same (seed, epoch)."""
        rng = np.random.default_rng(np.random.SeedSequence([self.seed, epoch]))
        pool = self._pool(rng)
        labels = self.labels[pool]
        candidates = (pool[labels == label] for label in range(self._classes))
        chosen = [_draw(of_class, self.per_class, rng) for of_class in candidates if of_class.size]
        return rng.permutation(np.concatenate(chosen)).astype(np.int64)

    def _pool(self, rng: np.random.Generator) -> NDArray[np.int32]:
        """The images that an epoch is drawn from [P], in arbitrary order.

        Small groups whole; of each large one `per_group` images, every subset equally likely. These are the first steps
        of the shuffle of Fisher and Yates, in all groups at once: `per_group` steps, whatever N.
        """
        if not self._sizes.size:
            return self._whole
        images = self._large.copy()  # the next epoch must not depend on this one
        starts = np.cumsum(self._sizes) - self._sizes
        for step in range(self.per_group):
            here, there = starts + step, starts + rng.integers(step, self._sizes)
            images[here], images[there] = images[there], images[here]
        first = (starts[:, None] + np.arange(self.per_group)).ravel()
        return np.concatenate([self._whole, images[first]])


def _ranks(values: Sequence[Any] | NDArray[Any]) -> NDArray[Any]:
    """The rank of each value [N] among the distinct ones, from 0, in the smallest sufficient unsigned integer type."""
    numbers = np.asarray(values)
    if numbers.dtype.kind in "iu" and int(numbers.max()) - int(numbers.min()) <= 4 * numbers.size + 2**16:
        shifted = numbers.astype(np.int64) - int(numbers.min())  # counting is ten times as fast as sorting
        ranks = (np.cumsum(np.bincount(shifted) > 0) - 1)[shifted]
    else:
        ranks = np.unique(numbers, return_inverse=True)[1]
    return ranks.astype(np.min_scalar_type(int(ranks.max())))


def _draw(candidates: NDArray[np.int32], count: int, rng: np.random.Generator) -> NDArray[np.int32]:
    whole, rest = divmod(count, candidates.size)
    extra = candidates[rng.choice(candidates.size, rest, replace=False, shuffle=False)]
    return np.concatenate([np.repeat(candidates, whole), extra])


@dataclass(frozen=True)
class UniformEpoch:
    """`length` of `count` images, whatever their class and group; if there are fewer, each equally often.

    Raises EdgefelError for numbers below 1.
    """

    count: int
    length: int
    seed: int = 0

    def __post_init__(self) -> None:
        if self.count < 1 or self.length < 1:
            raise EdgefelError(f"epoch of {self.length} of {counted(self.count, 'image')}: give at least 1")

    def __len__(self) -> int:
        return self.length

    def indices(self, epoch: int) -> NDArray[np.int64]:
        """Indices into the data set [length] in training order, the same for the same (seed, epoch)."""
        rng = np.random.default_rng(np.random.SeedSequence([self.seed, epoch]))
        whole, rest = divmod(self.length, self.count)
        rounds = [rng.permutation(self.count) for _ in range(whole)]
        return np.concatenate([*rounds, rng.permutation(self.count)[:rest]])
