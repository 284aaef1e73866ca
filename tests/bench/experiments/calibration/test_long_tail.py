"""The long tail has the promised ratio, whatever the data gives."""

from __future__ import annotations

from collections import Counter

import pytest
from labelled_items import Images, Item

from edgefel.bench.experiments.calibration.long_tail import long_tail
from edgefel.errors import EdgefelError

LABELS = ("a", "b", "c", "d", "e", "f", "g")


def images(*counts):
    items = [Item(label, str(i)) for label, count in enumerate(counts) for i in range(count)]
    return Images(LABELS[: len(counts)], tuple(items))


def cut(data, imbalance, rotation=0, seed=0):
    return long_tail(data, imbalance, rotation, seed, among=range(len(data.samples)))


def test_the_ratio_is_the_promised_one_and_the_profile_exponential():
    data = images(*[410] * 7)
    pool = cut(data, 50)
    counts = Counter(LABELS[data.samples[i].label] for i in pool.indices)
    assert counts == pool.counts
    assert pool.counts == {"a": 400, "b": 208, "c": 109, "d": 57, "e": 29, "f": 15, "g": 8}
    assert pool.counts[pool.order[0]] == 50 * pool.counts[pool.order[-1]]
    assert pool.order == LABELS
    assert pool.tail == ("f", "g")


def test_over_as_many_rotations_as_classes_every_class_stands_everywhere_once():
    orders = [cut(images(*[100] * 7), 10, rotation).order for rotation in range(7)]
    for place in range(7):
        assert {order[place] for order in orders} == set(LABELS)
    for rotation in (1, 8):
        assert cut(images(*[100] * 7), 10, rotation).order == (*LABELS[1:], "a")


def test_the_scarcest_class_sets_the_size_and_keeps_the_ratio():
    pool = cut(images(1000, 60, 1000), 25)
    # b is to have a fifth of a and five times c
    assert pool.counts == {"a": 300, "b": 60, "c": 12}


def test_which_images_stay_depends_on_the_seed_alone():
    data = images(*[100] * 7)
    assert cut(data, 10, seed=1) == cut(data, 10, seed=1)
    assert cut(data, 10, seed=1).indices != cut(data, 10, seed=2).indices
    assert cut(data, 10, seed=1).counts == cut(data, 10, seed=2).counts


def test_only_the_given_indices_are_kept():
    data = images(50, 50)
    pool = long_tail(data, 5, 0, 0, among=range(20, 80))
    assert pool.counts == {"a": 30, "b": 6}
    assert set(pool.indices) <= set(range(20, 80))


def test_imbalance_one_leaves_the_data_as_it_is():
    pool = cut(images(5, 90, 30), 1, rotation=2)
    assert pool.counts == {"a": 5, "b": 90, "c": 30}
    assert pool.order == ("b", "c", "a")
    assert pool.tail == ("a",)


@pytest.mark.parametrize(
    ("counts", "imbalance", "message"),
    [
        ((5, 90), 0.5, "imbalance 0.5"),
        ((5, 90), float("nan"), "imbalance nan"),
        ((5, 0, 3), 2, "no images of b"),
        ((49, 90), 50, "imbalance 50: needs 50 images of a and there are 49; .*smaller --imbalance"),
    ],
)
def test_what_cannot_be_is_refused(counts, imbalance, message):
    with pytest.raises(EdgefelError, match=message):
        cut(images(*counts), imbalance)
