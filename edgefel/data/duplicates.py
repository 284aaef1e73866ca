"""Pictures that are in a data set more than once: copies, and pictures that look alike."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgefel.data.dataset import SPLITS, ImageDataset
from edgefel.data.perceptual_hash import FINE_LIMIT, hamming, near_pairs
from edgefel.data.scan import Scan

Integers = NDArray[np.int64]
Flags = NDArray[np.bool_]

SPLIT_NAMES = ("", *SPLITS)
_SET_SHOWN = 10  # pictures of a set of copies that are named; the rest is counted
# of one hash, split and class: more are compared by these alone, or a placeholder under a million names takes for ever
_MOST_OF_ONE_HASH = 16
_CHUNK = 1 << 20  # pairs of pictures that are compared at once


@dataclass(frozen=True)
class Columns:
    """Of N pictures: label (UNLABELLED where none), number of the group, index into SPLIT_NAMES; int64 [N] each."""

    label: Integers
    group: Integers
    split: Integers

    @staticmethod
    def of(dataset: ImageDataset) -> Columns:
        """Those of a data set."""
        split = np.zeros(len(dataset), np.int64)
        for code, name in enumerate(SPLIT_NAMES):
            split[dataset.in_split(name)] = code
        return Columns(dataset.targets(), dataset.groups(), split)


@dataclass(frozen=True)
class Copies:
    """Files with the same bytes: the first `indices`, one of each split and class before any second, of `count`."""

    indices: tuple[int, ...]
    count: int
    across_splits: bool
    contradicting: bool


@dataclass(frozen=True)
class NearPair:
    """Two pictures that look alike, and in how many of the 64 bits their hashes differ."""

    indices: tuple[int, int]
    distance: int
    across_splits: bool
    contradicting: bool


@dataclass(frozen=True)
class CopyCounts:
    """sets: of equal files. superfluous: files that could go without a picture getting lost. within_group: sets inside
    one group and split under one label, which are not listed; the others are, those across splits first."""

    sets: int
    superfluous: int
    across_splits: int
    contradicting: int
    within_group: int
    listed: tuple[Copies, ...]


@dataclass(frozen=True)
class NearCounts:
    """pairs: of pictures of different groups or splits that look alike; alike ones of one group, split, class and hash
    count once. within_group: pairs inside one group and split, which are not listed, as frames of one video are
    alike. complete: whether all were compared; otherwise the counts are lower bounds."""

    distance: int
    pairs: int
    across_splits: int
    contradicting: int
    within_group: int
    complete: bool
    listed: tuple[NearPair, ...]


def find_copies(columns: Columns, scan: Scan, limit: int) -> CopyCounts:
    """Equal files; the first `limit` sets are listed. Those in several splits leak, under several labels contradict."""
    indices = np.flatnonzero(scan.readable)
    content, label, split = scan.content[indices], columns.label[indices], columns.split[indices]
    size = int(content.max(initial=-1)) + 1
    counts = np.bincount(content, minlength=size)
    across = _varied(content[split > 0], split[split > 0], size)
    contradicting = _varied(content[label >= 0], label[label >= 0], size)
    spread = _varied(content, columns.group[indices] * len(SPLIT_NAMES) + split, size)
    repeated = counts > 1
    told = np.flatnonzero(repeated & (spread | contradicting))
    told = told[np.lexsort((told, ~contradicting[told], ~across[told]))][:limit]
    turn = _ordinal((content * len(SPLIT_NAMES) + split) * (int(label.max(initial=0)) + 2) + label + 1)
    order = np.lexsort((indices, turn, content))
    starts = np.searchsorted(content[order], told)
    listed = tuple(
        Copies(
            tuple(indices[order[start : start + min(_SET_SHOWN, int(counts[one]))]].tolist()),
            int(counts[one]),
            bool(across[one]),
            bool(contradicting[one]),
        )
        for one, start in zip(told, starts, strict=True)
    )
    return CopyCounts(
        sets=int(repeated.sum()),
        superfluous=int((counts[repeated] - 1).sum()),
        across_splits=int((repeated & across).sum()),
        contradicting=int((repeated & contradicting).sum()),
        within_group=int((repeated & ~spread & ~contradicting).sum()),
        listed=listed,
    )


def find_near(columns: Columns, scan: Scan, distance: int, limit: int) -> NearCounts:
    """Pictures that look alike and are not equal files; the first `limit` pairs are listed, those across splits first.

    Hashes of 64 bits differ in at most `distance` of them, and those of 256 bits in at most FINE_LIMIT. Flat pictures
    are left out. Raises ValueError for a distance that `near_pairs` does not take.
    """
    nodes = _Nodes.of(columns, scan)
    pairs = across = contradicting = 0
    within = int((nodes.weight * (nodes.weight - 1) // 2).sum())
    best: list[NearPair] = []
    for left, right in _node_pairs(nodes, distance):
        first, second = nodes.picture[left], nodes.picture[right]
        alike = hamming(scan.fine[first], scan.fine[second]).sum(1, dtype=np.int64) <= FINE_LIMIT
        inside = (columns.group[first] == columns.group[second]) & (
            columns.split[first] == columns.split[second]
        )
        within += int((nodes.weight[left] * nodes.weight[right])[alike & inside].sum())
        told = alike & ~inside & (scan.content[first] != scan.content[second])
        found = _judged(columns, scan, first[told], second[told])
        pairs += len(found.first)
        across += int(found.across.sum())
        contradicting += int(found.contradicting.sum())
        best = sorted([*best, *found.best(limit)], key=_importance)[:limit]
    return NearCounts(distance, pairs, across, contradicting, within, nodes.complete, tuple(best))


@dataclass(frozen=True)
class _Nodes:
    """Pictures to compare, sorted by hash: `picture`, its index [M], stands for `weight` different ones of one group,
    split, class and hash; `hash` [M] is the number of its hash among `hashes` [U]."""

    picture: Integers
    weight: Integers
    hash: Integers
    hashes: NDArray[np.uint64]
    complete: bool

    @staticmethod
    def of(columns: Columns, scan: Scan) -> _Nodes:
        indices = np.flatnonzero(scan.hashed)
        hashes, code = np.unique(scan.coarse[indices], return_inverse=True)
        label, group, split = (
            column[indices] for column in (columns.label + 1, columns.group, columns.split)
        )
        key = code.astype(np.int64) * (int(group.max(initial=0)) + 1) + group
        key = (key * len(SPLIT_NAMES) + split) * (int(label.max(initial=0)) + 1) + label
        _, first, node = np.unique(key, return_index=True, return_inverse=True)
        # equal files are told of elsewhere
        content = scan.content[indices]
        distinct = np.unique(node * (int(content.max(initial=0)) + 1) + content)
        weight = np.bincount(distinct // (int(content.max(initial=0)) + 1), minlength=len(first))
        place = (code[first] * len(SPLIT_NAMES) + split[first]) * (int(label.max(initial=0)) + 1)
        kept = _ordinal(place + label[first]) < _MOST_OF_ONE_HASH
        return _Nodes(indices[first[kept]], weight[kept], code[first[kept]], hashes, bool(kept.all()))


@dataclass(frozen=True)
class _Judged:
    first: Integers
    second: Integers
    distance: NDArray[np.uint8]
    across: Flags
    contradicting: Flags

    def best(self, limit: int) -> list[NearPair]:
        order = np.lexsort((self.second, self.first, self.distance, ~self.contradicting, ~self.across))
        return [
            NearPair(
                (int(self.first[at]), int(self.second[at])),
                int(self.distance[at]),
                bool(self.across[at]),
                bool(self.contradicting[at]),
            )
            for at in order[:limit]
        ]


def _judged(columns: Columns, scan: Scan, first: Integers, second: Integers) -> _Judged:
    first, second = np.minimum(first, second), np.maximum(first, second)
    split, other = columns.split[first], columns.split[second]
    label, another = columns.label[first], columns.label[second]
    return _Judged(
        first,
        second,
        hamming(scan.coarse[first], scan.coarse[second]),
        (split != other) & (split > 0) & (other > 0),
        (label != another) & (label >= 0) & (another >= 0),
    )


def _importance(pair: NearPair) -> tuple[bool, bool, int, tuple[int, int]]:
    return not pair.across_splits, not pair.contradicting, pair.distance, pair.indices


def _node_pairs(nodes: _Nodes, distance: int) -> Iterator[tuple[Integers, Integers]]:
    """Each pair of nodes whose hashes are near, once; in chunks [P], [P]."""
    counts = np.bincount(nodes.hash, minlength=len(nodes.hashes))
    starts = np.cumsum(counts) - counts
    pairs, _ = near_pairs(nodes.hashes, distance)
    several = np.flatnonzero(counts > 1)
    pairs = np.concatenate([np.stack([several, several], axis=1), pairs])
    products = counts[pairs[:, 0]] * counts[pairs[:, 1]]
    chunk = np.cumsum(products) // _CHUNK
    for piece in np.split(np.arange(len(pairs)), np.flatnonzero(np.diff(chunk)) + 1):
        one, other = pairs[piece, 0], pairs[piece, 1]
        repeats = products[piece]
        at = np.repeat(np.arange(len(piece)), repeats)
        inside = np.arange(len(at)) - np.repeat(np.cumsum(repeats) - repeats, repeats)
        left = starts[one][at] + inside // counts[other][at]
        right = starts[other][at] + inside % counts[other][at]
        once = (one != other)[at] | (left < right)
        yield left[once], right[once]


def _varied(owner: Integers, value: Integers, size: int) -> Flags:
    """Whether the values of an owner, 0 to size - 1, are not all the same [size]."""
    width = int(value.max(initial=0)) + 1
    return np.asarray(np.bincount(np.unique(owner * width + value) // width, minlength=size) > 1)


def _ordinal(keys: Integers) -> Integers:
    """How many equal keys come before each [N]."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    ordinal = np.empty(len(keys), np.int64)
    ordinal[order] = np.arange(len(keys)) - np.searchsorted(ordered, ordered)
    return ordinal
