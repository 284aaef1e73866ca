"""Duplicates in a data set: copies of files, and images that look alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgefel.data.dataset import SPLIT_NAMES, ImageDataset
from edgefel.data.inspection.perceptual_hash import FINE_LIMIT, hamming, near_pairs
from edgefel.data.inspection.scan import Scan, ScanCache, scan_images
from edgefel.tasks.runner import Runner

Integers = NDArray[np.int64]
Flags = NDArray[np.bool_]

DISTANCE = 4  # default number of bits of 64 in which the hashes of images that look alike may differ
_SET_SHOWN = 10  # images of a set of copies that are named; the rest is counted
# Of images with one hash, split and class, only so many are compared: a placeholder may occur a million times.
_MOST_OF_ONE_HASH = 16
_CHUNK = 1 << 20  # pairs of images that are compared at once


@dataclass(frozen=True)
class ImageColumns:
    """Of N images: label (UNLABELLED where none), number of the group, index into SPLIT_NAMES; int64 [N] each."""

    label: Integers
    group: Integers
    split: Integers

    @staticmethod
    def of(dataset: ImageDataset) -> ImageColumns:
        """The columns of a data set."""
        return ImageColumns(dataset.targets(), dataset.groups(), dataset.splits().astype(np.int64))


@dataclass(frozen=True)
class Copies:
    """`count` files with the same bytes: the first `indices`, one of each split and class before any second."""

    indices: tuple[int, ...]
    count: int
    across_splits: bool
    contradicting: bool


@dataclass(frozen=True)
class NearPair:
    """Two images that look alike. distance: bits of 64 in which their hashes differ."""

    indices: tuple[int, int]
    distance: int
    across_splits: bool
    contradicting: bool


@dataclass(frozen=True)
class CopyCounts:
    """sets: of equal files. superfluous: files that repeat another. within_group: sets inside one group and split with
    one label, which are not listed. listed: the others, contradictions first, then those across splits."""

    sets: int
    superfluous: int
    across_splits: int
    contradicting: int
    within_group: int
    listed: tuple[Copies, ...]


@dataclass(frozen=True)
class NearCounts:
    """pairs: of images of different groups or splits that look alike; images of one group, split, class and hash count
    once. within_group: pairs inside one group and split, which are not listed, since frames of one video look alike.
    complete: whether all were compared; otherwise the counts are lower bounds."""

    distance: int
    pairs: int
    across_splits: int
    contradicting: int
    within_group: int
    complete: bool
    listed: tuple[NearPair, ...]


def find_copies(columns: ImageColumns, scan: Scan, limit: int) -> CopyCounts:
    """Equal files; the first `limit` sets are listed. Sets in several splits leak, with several labels contradict."""
    indices = np.flatnonzero(scan.readable)
    content, label, split = scan.content[indices], columns.label[indices], columns.split[indices]
    size = int(content.max(initial=-1)) + 1
    counts = np.bincount(content, minlength=size)
    across = _varied(content[split > 0], split[split > 0], size)
    contradicting = _varied(content[label >= 0], label[label >= 0], size)
    spread = _varied(content, columns.group[indices] * len(SPLIT_NAMES) + split, size)
    repeated = counts > 1
    told = np.flatnonzero(repeated & (spread | contradicting))
    told = told[np.lexsort((told, ~across[told], ~contradicting[told]))][:limit]
    turn = ordinal((content * len(SPLIT_NAMES) + split) * (int(label.max(initial=0)) + 2) + label + 1)
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


def find_near(columns: ImageColumns, scan: Scan, distance: int, limit: int) -> NearCounts:
    """Images that look alike and are not equal files; the first `limit` pairs are listed, contradictions first.

    Their hashes of 64 bits differ in at most `distance` bits, and those of 256 bits in at most FINE_LIMIT. Flat images
    are left out. Raises ValueError for a distance that `near_pairs` does not accept.
    """
    nodes = _Nodes.of(columns, scan)
    pairs = across = contradicting = 0
    within = int((nodes.weight * (nodes.weight - 1) // 2).sum())
    best: list[NearPair] = []
    for left, right in _node_pairs(nodes, distance):
        first, second = nodes.image[left], nodes.image[right]
        alike = hamming(scan.fine[first], scan.fine[second]).sum(1, dtype=np.int64) <= FINE_LIMIT
        inside = (columns.group[first] == columns.group[second]) & (
            columns.split[first] == columns.split[second]
        )
        within += int((nodes.weight[left] * nodes.weight[right])[alike & inside].sum())
        told = alike & ~inside & (scan.content[first] != scan.content[second])
        first, second = np.minimum(first, second)[told], np.maximum(first, second)[told]
        bits = hamming(scan.coarse[first], scan.coarse[second])
        leaks = _differ(columns.split, first, second, 1)
        contradicts = _differ(columns.label, first, second, 0)
        pairs += len(first)
        across += int(leaks.sum())
        contradicting += int(contradicts.sum())
        order = np.lexsort((second, first, bits, ~leaks, ~contradicts))[:limit]
        found = zip(
            *(column[order].tolist() for column in (first, second, bits, leaks, contradicts)), strict=True
        )
        best += [NearPair((one, other), *rest) for one, other, *rest in found]
        best = sorted(best, key=_importance)[:limit]
    return NearCounts(distance, pairs, across, contradicting, within, nodes.complete, tuple(best))


@dataclass(frozen=True)
class Elsewhere:
    """Which of N images have a copy in another split; bool [N] each. equal: an equal file. alike: only an image that
    looks alike."""

    equal: Flags
    alike: Flags

    @property
    def any(self) -> Flags:
        """Either of them [N]."""
        return self.equal | self.alike

    def at(self, indices: Integers) -> Elsewhere:
        """Of some of the images."""
        return Elsewhere(self.equal[indices], self.alike[indices])


def copies_elsewhere(
    dataset: ImageDataset,
    *,
    runner: Runner | None = None,
    progress: Callable[[int], None] = lambda count: None,
) -> Elsewhere:
    """`find_elsewhere` of a data set's images. Hashes are kept in the cache: only new and changed images are opened.

    runner: opens the images; this thread by default. progress: called with the number of newly done images.
    """
    cache = ScanCache(dataset.root)
    scan = scan_images(dataset, runner=runner, progress=progress, cache=cache, fresh=False)
    cache.save()
    return find_elsewhere(ImageColumns.of(dataset), scan)


def find_elsewhere(columns: ImageColumns, scan: Scan, distance: int = DISTANCE) -> Elsewhere:
    """Which images have a copy in another split, by the limits of `find_near`. Images in no split are ignored.

    Of images of one split with equal 64 bits, the first sixteen with different 256 bits are compared; later ones share
    the result of the sixteenth. Raises ValueError for a distance that `near_pairs` does not accept.
    """
    count = len(columns.split)
    equal, alike = np.zeros(count, np.bool_), np.zeros(count, np.bool_)
    read = np.flatnonzero(scan.readable & (columns.split > 0))
    content = scan.content[read]
    equal[read] = _varied(content, columns.split[read], int(content.max(initial=-1)) + 1)[content]
    indices = np.flatnonzero(scan.hashed & (columns.split > 0))
    hashes, code = np.unique(scan.coarse[indices], return_inverse=True)
    place = code.reshape(-1) * len(SPLIT_NAMES) + columns.split[indices]
    own = np.column_stack([place.astype(np.uint64), scan.fine[indices]])
    _, first, node = np.unique(own, axis=0, return_index=True, return_inverse=True)
    # rows are sorted by place, so that those beyond the sixteenth of a place follow it directly
    stands = np.arange(len(first))
    stands -= np.maximum(ordinal(place[first]) - _MOST_OF_ONE_HASH + 1, 0)
    kept = np.unique(stands)
    image, found = indices[first[kept]], np.zeros(len(first), np.bool_)
    nodes = _Nodes(image, np.ones(len(kept), np.int64), place[first[kept]] // len(SPLIT_NAMES), hashes, True)
    for left, right in _node_pairs(nodes, distance):
        one, other = image[left], image[right]
        same = hamming(scan.fine[one], scan.fine[other]).sum(1, dtype=np.int64) <= FINE_LIMIT
        same &= columns.split[one] != columns.split[other]
        found[kept[left[same]]] = found[kept[right[same]]] = True
    alike[indices] = found[stands][node.reshape(-1)]
    return Elsewhere(equal, alike & ~equal)


@dataclass(frozen=True)
class _Nodes:
    """Images to compare, sorted by hash: `image` [M] are indices, each representing `weight` different images of one
    group, split, class and hash; `hash` [M] are indices into `hashes` [U]."""

    image: Integers
    weight: Integers
    hash: Integers
    hashes: NDArray[np.uint64]
    complete: bool

    @staticmethod
    def of(columns: ImageColumns, scan: Scan) -> _Nodes:
        indices = np.flatnonzero(scan.hashed)
        hashes, code = np.unique(scan.coarse[indices], return_inverse=True)
        label, group, split = (
            column[indices] for column in (columns.label + 1, columns.group, columns.split)
        )
        key = code.astype(np.int64) * (int(group.max(initial=0)) + 1) + group
        key = (key * len(SPLIT_NAMES) + split) * (int(label.max(initial=0)) + 1) + label
        _, first, node = np.unique(key, return_index=True, return_inverse=True)
        # equal files are reported separately
        content = scan.content[indices]
        distinct = np.unique(node * (int(content.max(initial=0)) + 1) + content)
        weight = np.bincount(distinct // (int(content.max(initial=0)) + 1), minlength=len(first))
        place = (code[first] * len(SPLIT_NAMES) + split[first]) * (int(label.max(initial=0)) + 1)
        kept = ordinal(place + label[first]) < _MOST_OF_ONE_HASH
        return _Nodes(indices[first[kept]], weight[kept], code[first[kept]], hashes, bool(kept.all()))


def _differ(column: Integers, first: Integers, second: Integers, least: int) -> Flags:
    """Which pairs of images have different values, both of at least `least` (known)."""
    one, other = column[first], column[second]
    return np.asarray((one != other) & (one >= least) & (other >= least))


def _importance(pair: NearPair) -> tuple[bool, bool, int, tuple[int, int]]:
    return not pair.contradicting, not pair.across_splits, pair.distance, pair.indices


def _node_pairs(nodes: _Nodes, distance: int) -> Iterator[tuple[Integers, Integers]]:
    """Each pair of nodes whose hashes are near, once; in chunks [P], [P]."""
    counts = np.bincount(nodes.hash, minlength=len(nodes.hashes))
    starts = np.cumsum(counts) - counts
    pairs = near_pairs(nodes.hashes, distance)
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
    """Whether the values of each owner, 0 to size - 1, differ [size]."""
    width = int(value.max(initial=0)) + 1
    return np.asarray(np.bincount(np.unique(owner * width + value) // width, minlength=size) > 1)


def ordinal(keys: Integers) -> Integers:
    """How many equal keys come before each [N]."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    ordinal = np.empty(len(keys), np.int64)
    ordinal[order] = np.arange(len(keys)) - np.searchsorted(ordered, ordered)
    return ordinal
