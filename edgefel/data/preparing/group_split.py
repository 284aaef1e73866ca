"""Divides the groups of a data set (persons, videos) into train, val and test; no group is in two."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgefel.data.dataset import SPLITS
from edgefel.errors import EdgefelError
from edgefel.text import counted

Integers = NDArray[np.int64]
Reals = NDArray[np.float64]

# All swaps are compared up to this number of groups of several images; more groups are balanced by chance.
_MOST_SWAPPED = 400
_MOST_STEPS = 2000  # of the improvement; each one lowers the cost, and a few per group are enough
# With few groups (JAFFE has 10 persons) the result depends on the order of dealing: several are tried.
_FEW, _STARTS = 64, 24
_LEAST_GAIN = 1e-9  # smaller gains are rounding errors, and two steps could undo each other endlessly


def check_shares(shares: Sequence[float]) -> tuple[float, float, float]:
    """The shares of train, val and test.

    Raises EdgefelError unless they are three numbers of at least 0 that add up to 1, the first above 0.
    """
    said = ",".join(f"{share:g}" for share in shares)
    if len(shares) != len(SPLITS):
        raise EdgefelError(f"splits {said!r}: give three shares, of {', '.join(SPLITS)}, such as 0.8,0.1,0.1")
    train, val, test = (float(share) for share in shares)
    if not (min(train, val, test) >= 0 and math.isclose(train + val + test, 1.0, abs_tol=1e-6)):
        raise EdgefelError(f"splits {said!r}: shares are at least 0 and add up to 1, such as 0.8,0.1,0.1")
    if train == 0:
        raise EdgefelError(f"splits {said!r}: nothing is left to train on; give train a share above 0")
    return train, val, test


def deal_groups(
    groups: Integers, labels: Integers, shares: Sequence[float], seed: int = 0
) -> NDArray[np.int8]:
    """The split of each of N images, int8 [N], as an index into SPLITS; all images of a group get the same.

    groups: number of each image's group [N]. labels: its class [N]. shares: of train, val and test; a split with share
    0 is empty, every other one gets at least one group. The same arguments give the same splits; `seed` breaks ties.

    The cost is the sum, over splits and classes, of (images - wanted)^2 / (share * images of the class^2). Groups
    of several images are dealt in descending size, each to the split where the cost grows least, and then moved and
    swapped as long as that lowers it (few groups are also dealt in other orders, and the best result is taken); groups
    of one image fill up what each class lacks.

    Dealing by cost as in StratifiedGroupKFold of scikit-learn, here for shares that differ.
    Raises EdgefelError for impossible shares (`check_shares`), and for fewer groups than splits.
    """
    wanted = np.array(check_shares(shares))
    used = np.flatnonzero(wanted > 0)
    numbers, member, size = np.unique(groups, return_inverse=True, return_counts=True)
    if len(numbers) < len(used):
        raise EdgefelError(
            f"{counted(len(numbers), 'group')} cannot be dealt to {len(used)} splits without being cut; "
            "a split must have at least one person or video: give fewer shares above 0"
        )
    classes, code = np.unique(labels, return_inverse=True)
    counts = np.zeros((len(numbers), len(classes)), np.int64)
    np.add.at(counts, (member.ravel(), code.ravel()), 1)
    rng = np.random.default_rng(seed)
    dealt = np.full(len(numbers), -1, np.int64)
    several = rng.permutation(np.flatnonzero(size > 1))
    several = several[np.argsort(-size[several], kind="stable")]
    # all classes have the same weight, however rare
    dealt[several] = _deal_several(counts[several] / counts.sum(0), wanted[used], rng)
    single = rng.permutation(np.flatnonzero(size == 1))
    dealt[single] = _deal_single(counts[single].argmax(1), counts, dealt, wanted[used])
    _fill_empty(dealt, size, len(used))
    return used[dealt[member.ravel()]].astype(np.int8)


def _deal_several(weight: Reals, shares: Reals, rng: np.random.Generator) -> Integers:
    """Split of each group. weight: its share of every class [G, C], in descending group size."""
    best, least = np.empty(len(weight), np.int64), math.inf
    for start in range(_STARTS if len(weight) <= _FEW else 1):
        order = rng.permutation(len(weight)) if start else np.arange(len(weight))
        dealt, cost = _deal_in_order(weight[order], shares)
        if cost < least - _LEAST_GAIN:
            best[order], least = dealt, cost
    return best


def _deal_in_order(weight: Reals, shares: Reals) -> tuple[Integers, float]:
    """Split of each group, and the cost."""
    held = np.zeros((len(shares), weight.shape[1]))
    dealt = np.empty(len(weight), np.int64)
    for group, row in enumerate(weight):
        # growth of the cost, without terms that are equal for every split
        growth = (row * (2 * held + row)).sum(1) / shares
        dealt[group] = int(growth.argmin())
        held[dealt[group]] += row
    for _ in range(_MOST_STEPS):
        if not _improve(weight, shares, held, dealt):
            break
    cost = ((held - shares[:, None]) ** 2).sum(1) / shares
    return dealt, float(cost.sum())


def _improve(weight: Reals, shares: Reals, held: Reals, dealt: Integers) -> bool:
    """Makes the move of one group, or the swap of two, that lowers the cost most; False if none lowers it."""
    groups = np.arange(len(weight))
    if not len(groups):
        return False
    here = held[dealt]  # [G, C]
    leave = (weight * (weight - 2 * here)).sum(1) / shares[dealt]
    arrive = (weight[:, None] * (weight[:, None] + 2 * held[None])).sum(2) / shares  # [G, S]
    change = leave[:, None] + arrive
    change[groups, dealt] = 0.0
    # the last group of a split stays
    change[np.bincount(dealt, minlength=len(shares))[dealt] == 1] = 0.0
    group, split = np.unravel_index(int(change.argmin()), change.shape)
    swap, pair = _best_swap(weight, shares, held, dealt)
    if min(float(change[group, split]), swap) > -_LEAST_GAIN:
        return False
    if swap < change[group, split]:
        one, other = pair
        held[dealt[one]] += weight[other] - weight[one]
        held[dealt[other]] += weight[one] - weight[other]
        dealt[one], dealt[other] = dealt[other], dealt[one]
        return True
    held[dealt[group]] -= weight[group]
    held[split] += weight[group]
    dealt[group] = split
    return True


def _best_swap(weight: Reals, shares: Reals, held: Reals, dealt: Integers) -> tuple[float, tuple[int, int]]:
    """The change of the cost by the best swap of two groups, and the two; 0 if there are too many to compare."""
    count = len(weight)
    if count > _MOST_SWAPPED:
        return 0.0, (0, 0)
    # |held + d|^2 - |held|^2 with d = other - one, for both splits: products of all pairs by one multiplication
    own = (weight * held[dealt]).sum(1)  # [G]: a group in its own split
    across = weight @ held.T  # [G, S]: a group in every split
    product = weight @ weight.T
    square = np.diag(product)
    distance = square[:, None] + square[None] - 2 * product
    gain = (2 * (across[:, dealt].T - own[:, None]) + distance) / shares[dealt][:, None]
    change = gain + gain.T
    change[dealt[:, None] == dealt[None]] = 0.0
    one, other = np.unravel_index(int(change.argmin()), change.shape)
    return float(change[one, other]), (int(one), int(other))


def _deal_single(label: Integers, counts: Integers, dealt: Integers, shares: Reals) -> Integers:
    """Split of each group of one image, by its class [M], so that every class approaches its shares."""
    split = np.empty(len(label), np.int64)
    for code in range(counts.shape[1]):
        chosen = np.flatnonzero(label == code)
        total = counts[:, code].sum()
        held = np.array([counts[dealt == s, code].sum() for s in range(len(shares))])
        lacking = np.maximum(shares * total - held, 0.0)
        if not chosen.size:
            continue
        whole = _rounded(lacking / lacking.sum() * len(chosen))
        split[chosen] = np.repeat(np.arange(len(shares)), whole)
    return split


def _rounded(parts: Reals) -> Integers:
    """Whole numbers with the same sum, by largest remainders."""
    whole = np.floor(parts).astype(np.int64)
    left = round(float(parts.sum())) - int(whole.sum())
    whole[np.argsort(whole - parts, kind="stable")[:left]] += 1
    return whole


def _fill_empty(dealt: Integers, size: Integers, splits: int) -> None:
    """Gives each empty split the smallest group of the split with the most groups."""
    for split in range(splits):
        if not (dealt == split).any():
            richest = int(np.bincount(dealt, minlength=splits).argmax())
            groups = np.flatnonzero(dealt == richest)
            dealt[groups[int(size[groups].argmin())]] = split
