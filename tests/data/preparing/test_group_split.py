"""Dealing groups to splits: no group in two, shares by class, against the best of all ways."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from edgefel.data.preparing.group_split import deal_groups
from edgefel.errors import EdgefelError

SHARES = (0.6, 0.2, 0.2)


def random_set(seed, groups, largest=30, classes=4):
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(groups), rng.integers(2, largest, groups))
    return rng.permutation(group), rng.integers(0, classes, len(group))


def cost(labels, split, shares):
    total = 0.0
    for code, share in enumerate(shares):
        for label in np.unique(labels):
            count = (labels == label).sum()
            total += (((split == code) & (labels == label)).sum() - share * count) ** 2 / share / count**2
    return total


@pytest.mark.parametrize("seed", range(4))
def test_few_groups_are_dealt_as_well_as_can_be(seed):
    groups, labels = random_set(seed, 7)
    ways = (np.array(way)[groups] for way in product(range(3), repeat=7) if len(set(way)) == 3)
    best = min(cost(labels, split, SHARES) for split in ways)
    assert cost(labels, deal_groups(groups, labels, SHARES, seed), SHARES) == pytest.approx(best)


@pytest.mark.parametrize(("count", "largest"), [(60, 40), (900, 9), (3000, 3)])
def test_no_group_is_in_two_splits_and_every_class_has_its_shares(count, largest):
    groups, labels = random_set(5, count, largest, classes=7)
    split = deal_groups(groups, labels, (0.8, 0.1, 0.1))
    for group in np.unique(groups):
        assert len(set(split[groups == group].tolist())) == 1
    for label in range(7):
        shares = np.bincount(split[labels == label], minlength=3) / (labels == label).sum()
        np.testing.assert_allclose(shares, (0.8, 0.1, 0.1), atol=0.025)


def test_groups_of_one_image_fill_what_the_large_ones_leave():
    """One group has all of class 0 that there is in groups; class 1 is images of nobody."""
    groups = np.concatenate([np.zeros(50, np.int64), np.arange(1, 151)])
    labels = np.concatenate([np.zeros(50, np.int64), np.zeros(50, np.int64), np.ones(100, np.int64)])
    split = deal_groups(groups, labels, (0.5, 0.25, 0.25))
    assert np.bincount(split[labels == 0]).tolist() == [50, 25, 25]
    assert np.bincount(split[labels == 1]).tolist() == [50, 25, 25]


def test_every_share_above_0_gets_a_group_and_none_at_0():
    groups, labels = np.repeat([4, 7, 9], [400, 2, 2]), np.zeros(404, np.int64)
    split = deal_groups(groups, labels, (0.4, 0.3, 0.3))
    assert sorted(np.bincount(split).tolist()) == [2, 2, 400]
    assert set(deal_groups(groups, labels, (0.5, 0.0, 0.5)).tolist()) == {0, 2}
    singles = np.arange(3)
    assert sorted(deal_groups(singles, np.zeros(3, np.int64), (0.98, 0.01, 0.01)).tolist()) == [0, 1, 2]
    assert set(deal_groups(groups, labels, (1.0, 0.0, 0.0)).tolist()) == {0}


def test_the_seed_decides():
    groups, labels = random_set(3, 200)
    first = deal_groups(groups, labels, SHARES, 1)
    np.testing.assert_array_equal(first, deal_groups(groups, labels, SHARES, 1))
    assert (first != deal_groups(groups, labels, SHARES, 2)).any()


def test_the_numbers_of_groups_and_classes_do_not_matter():
    groups, labels = random_set(4, 30)
    split = deal_groups(groups, labels, SHARES)
    np.testing.assert_array_equal(split, deal_groups(groups * 10 + 1000, labels + 3, SHARES))


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ((0.8, 0.2), "give three shares"),
        ((0.8, 0.1, 0.2), "add up to 1"),
        ((1.2, -0.1, -0.1), "at least 0"),
        ((float("nan"), 0.5, 0.5), "add up to 1"),
        ((0.0, 0.5, 0.5), "nothing is left to train on"),
    ],
)
def test_impossible_shares(shares, message):
    with pytest.raises(EdgefelError, match=message):
        deal_groups(np.arange(9), np.zeros(9, np.int64), shares)


def test_fewer_groups_than_splits():
    with pytest.raises(EdgefelError, match="2 groups cannot be dealt to 3 splits"):
        deal_groups(np.array([0, 0, 1]), np.zeros(3, np.int64), SHARES)
    assert sorted(deal_groups(np.array([0, 0, 1]), np.zeros(3, np.int64), (0.5, 0.5, 0.0))) == [0, 0, 1]
