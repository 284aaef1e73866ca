"""Copies and pairs that look alike, on columns made by hand: what is counted, what is listed, and in which order."""

from __future__ import annotations

import dataclasses
from collections import Counter
from itertools import combinations

import numpy as np
import pytest

from edgefel.data.inspection.duplicates import ImageColumns, find_copies, find_elsewhere, find_near
from edgefel.data.inspection.perceptual_hash import FINE_LIMIT, FINE_WORDS
from edgefel.data.inspection.scan import UNKNOWN, Scan

TRAIN, TEST = 1, 3


def columns(label, group, split) -> ImageColumns:
    return ImageColumns(*(np.array(column, np.int64) for column in (label, group, split)))


def scan(coarse, content=None, fine=None) -> Scan:
    """Readable, hashed images; by default each is a file of its own and all have the same 256 bits."""
    count = len(coarse)
    return Scan(
        np.full((count, 2), 112, np.int32),
        np.arange(count) if content is None else np.array(content, np.int64),
        np.array(coarse, np.uint64),
        np.zeros((count, FINE_WORDS), np.uint64) if fine is None else np.array(fine, np.uint64),
        np.zeros(count, np.bool_),
        np.ones(count, np.bool_),
        {},
    )


@pytest.mark.parametrize(("bits", "pairs"), [(FINE_LIMIT, 1), (FINE_LIMIT + 1, 0)])
def test_a_near_pair_is_confirmed_by_256_bits(bits, pairs):
    """The 64 bits alone take faces of different people for copies."""
    fine = [[0] * FINE_WORDS, [(1 << bits - 16) - 1, 0xFF, 0xFF, 0]]
    found = find_near(columns([0, 0], [0, 1], [TRAIN, TEST]), scan([7, 7], fine=fine), 4, 10)
    assert (found.pairs, found.across_splits, found.within_group) == (pairs, pairs, 0)


def test_equal_files_are_no_pair_that_looks_alike():
    where = columns([0, 1, 0], [0, 1, 2], [TRAIN, TEST, TEST])
    found = find_near(where, scan([7, 7, 6], content=[5, 5, 6]), 4, 10)
    assert sorted(pair.indices for pair in found.listed) == [(0, 2), (1, 2)]
    assert find_copies(where, scan([7, 7, 6], content=[5, 5, 6]), 10).listed[0].indices == (0, 1)


def test_no_image_is_a_pair_with_itself():
    """Three images of one hash in three groups: three pairs, and none inside a group."""
    found = find_near(columns([0] * 3, [0, 1, 2], [TRAIN] * 3), scan([7] * 3), 4, 10)
    assert (found.pairs, found.within_group) == (3, 0)
    assert [pair.indices for pair in found.listed] == [(0, 1), (0, 2), (1, 2)]


def test_a_image_that_stands_everywhere_neither_hides_a_leak_nor_takes_for_ever():
    """A placeholder under 3,000 names, each a file of its own in a group of its own: 4.5 million pairs."""
    count = 3000
    split = [TRAIN] * (count - 1) + [TEST]
    where = columns([0] * count, range(count), split)
    found = find_near(where, scan([7] * count), 4, 1)
    assert not found.complete
    assert found.pairs < 1000
    assert found.listed[0].across_splits
    assert found.listed[0].indices[1] == count - 1
    few = find_near(columns([0] * 16, range(16), [TRAIN] * 16), scan([7] * 16), 4, 200)
    assert (few.complete, few.pairs) == (True, 16 * 15 // 2)


def test_frames_count_once_for_each_pair_inside_and_once_for_each_hash_outside():
    """Four frames of one hash and one near it in a video; another video shows the same."""
    where = columns([0] * 6, [0] * 5 + [1], [TRAIN] * 6)
    found = find_near(where, scan([7, 7, 7, 7, 3, 7]), 1, 10)
    assert found.within_group == 4 * 3 // 2 + 4
    assert [pair.indices for pair in found.listed] == [(0, 5), (4, 5)]


def test_unlabelled_images_and_images_without_a_split_contradict_nothing():
    where = columns([-1, 2, 2], [0, 1, 2], [0, TEST, 0])
    found = find_near(where, scan([7, 7, 7]), 4, 10)
    assert (found.pairs, found.across_splits, found.contradicting) == (3, 0, 0)
    copies = find_copies(where, scan([7, 7, 7], content=[0, 0, 0]), 10)
    assert (copies.sets, copies.superfluous, copies.across_splits, copies.contradicting) == (1, 2, 0, 0)


def test_contradictions_come_first_then_leaks_then_the_nearest():
    where = columns([0, 0, 1, 0], [0, 1, 2, 3], [TRAIN, TRAIN, TRAIN, TEST])
    found = find_near(where, scan([0b0000, 0b0001, 0b0011, 0b0111]), 2, 10)
    assert [(pair.indices, pair.distance) for pair in found.listed] == [
        ((2, 3), 1),
        ((1, 2), 1),
        ((0, 2), 2),
        ((1, 3), 2),
        ((0, 1), 1),
    ]
    assert [pair.indices for pair in find_near(where, scan([0, 1, 3, 7]), 2, 2).listed] == [(2, 3), (1, 2)]


def test_copies_name_one_of_each_split_first_and_no_more_than_ten():
    split = [TRAIN] * 15 + [TEST]
    found = find_copies(columns([0] * 16, range(16), split), scan([7] * 16, content=[3] * 16), 10)
    (copies,) = found.listed
    assert (copies.count, len(copies.indices), found.superfluous) == (16, 10, 15)
    assert set(copies.indices[:2]) == {0, 15}


@pytest.mark.parametrize("distance", [0, 3])
def test_counts_agree_with_looking_at_every_pair(distance):
    rng = np.random.default_rng(distance)
    count = 300
    label, group, split = rng.integers(-1, 3, count), rng.integers(0, 40, count), rng.integers(0, 4, count)
    base = rng.integers(0, 2**64, 60, dtype=np.uint64)
    flips = np.uint64(1) << rng.integers(0, 64, (count, 2)).astype(np.uint64)
    coarse = base[rng.integers(0, 60, count)] ^ np.where(
        rng.random(count) < 0.5, flips[:, 0] ^ flips[:, 1], 0
    )
    # alike ones of one place and hash stand for each other: keep one of each, as the count does
    _, kept = np.unique(np.stack([coarse.view(np.int64), label, group, split]), axis=1, return_index=True)
    label, group, split, coarse = label[kept], group[kept], split[kept], coarse[kept]
    expected: Counter[str] = Counter()
    for i, j in combinations(range(len(kept)), 2):
        if (int(coarse[i]) ^ int(coarse[j])).bit_count() > distance:
            continue
        if (group[i], split[i]) == (group[j], split[j]):
            expected["within"] += 1
            continue
        expected["pairs"] += 1
        expected["across"] += bool(split[i] != split[j] and split[i] and split[j])
        expected["contradicting"] += bool(label[i] != label[j] and label[i] >= 0 and label[j] >= 0)
    found = find_near(columns(label, group, split), scan(coarse), distance, 10**6)
    assert found.complete
    assert min(expected.values()) > 0
    assert (found.pairs, found.across_splits, found.contradicting, found.within_group) == tuple(
        expected[name] for name in ("pairs", "across", "contradicting", "within")
    )
    assert len(found.listed) == found.pairs == len({pair.indices for pair in found.listed})


def test_what_cannot_be_read_or_is_flat_is_compared_with_nothing():
    made = scan([7, 7, 7])
    made.content[0] = UNKNOWN
    blind = dataclasses.replace(made, hashed=np.array([False, False, True]))
    where = columns([0, 1, 2], [0, 1, 2], [TRAIN, TEST, TEST])
    assert find_near(where, blind, 4, 10).pairs == 0
    nothing = dataclasses.replace(blind, hashed=np.zeros(3, np.bool_), content=np.full(3, UNKNOWN))
    assert find_near(where, nothing, 4, 10).pairs == find_copies(where, nothing, 10).sets == 0


def test_what_has_a_copy_in_another_split():
    """An equal file, one that looks alike, one of the same split, and one in no split."""
    where = columns([0] * 7, range(7), [TRAIN, TEST, TRAIN, TEST, TRAIN, TRAIN, 0])
    made = scan([7, 7, 0xF00, 0xF01, 0xFF0000, 0xFF0001, 0xFF0000], content=[5, 5, 6, 7, 8, 9, 8])
    found = find_elsewhere(where, made, 2)
    assert found.equal.tolist() == [True, True] + [False] * 5
    assert found.alike.tolist() == [False, False, True, True] + [False] * 3
    assert found.any.sum() == 4
    assert not find_elsewhere(where, made, 0).alike.any()
    far = np.zeros((7, FINE_WORDS), np.uint64)
    far[3, :2] = np.uint64(2**64 - 1)
    assert not find_elsewhere(where, dataclasses.replace(made, fine=far), 2).alike.any()


def test_a_image_that_stands_everywhere_has_its_copies_elsewhere():
    """A placeholder under 3,000 names, each encoded anew, and one of them in test."""
    count = 3000
    fine = np.zeros((count, FINE_WORDS), np.uint64)
    fine[:, 0] = np.arange(count)
    where = columns([0] * count, range(count), [TRAIN] * (count - 1) + [TEST])
    assert find_elsewhere(where, scan([7] * count, fine=fine), 4).alike.all()


def test_nothing_that_can_be_compared_has_no_copies():
    made = scan([7, 7])
    blind = dataclasses.replace(made, content=np.full(2, UNKNOWN), hashed=np.zeros(2, np.bool_))
    assert not find_elsewhere(columns([0, 0], [0, 1], [TRAIN, TEST]), blind).any.any()
    assert not find_elsewhere(columns([0, 0], [0, 1], [0, 0]), made).any.any()


@pytest.mark.parametrize("distance", [0, 3])
def test_copies_elsewhere_agree_with_looking_at_every_pair(distance):
    rng = np.random.default_rng(distance)
    count = 300
    split = rng.integers(0, 4, count)
    base = rng.integers(0, 2**64, 80, dtype=np.uint64)
    flips = np.uint64(1) << rng.integers(0, 64, count).astype(np.uint64)
    coarse = base[rng.integers(0, 80, count)] ^ np.where(rng.random(count) < 0.5, flips, 0)
    content = np.where(rng.random(count) < 0.3, rng.integers(0, 40, count), np.arange(count) + 100)
    equal, alike = np.zeros(count, np.bool_), np.zeros(count, np.bool_)
    for i, j in combinations(range(count), 2):
        if split[i] and split[j] and split[i] != split[j]:
            equal[[i, j]] |= content[i] == content[j]
            alike[[i, j]] |= (int(coarse[i]) ^ int(coarse[j])).bit_count() <= distance
    found = find_elsewhere(columns([0] * count, range(count), split), scan(coarse, content), distance)
    assert found.equal.tolist() == equal.tolist()
    assert found.alike.tolist() == (alike & ~equal).tolist()
    assert min(equal.sum(), (alike & ~equal).sum()) > 0
