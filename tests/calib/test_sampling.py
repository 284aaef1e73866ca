"""Balanced choice of calibration images."""

from __future__ import annotations

import functools
from collections import Counter

import pytest
from labelled_items import Images, Item

from edgefel.calib.sampling import balanced_samples, unbalanced_samples
from edgefel.errors import EdgefelError


def long_tail():
    """60 a, 30 b, 4 c, over 6 groups; group 0 holds half of everything."""
    items = [Item(0, f"g{0 if i % 2 else i % 6}") for i in range(60)]
    items += [Item(1, f"g{0 if i % 2 else i % 6}") for i in range(30)]
    items += [Item(2, f"g{i}") for i in range(4)]
    return Images(("a", "b", "c"), tuple(items))


def test_every_class_gives_the_same_and_a_small_one_is_named():
    choice = balanced_samples(long_tail(), per_class=10, group_cap=100, seed=1)
    assert choice.counts == {"a": 10, "b": 10, "c": 4}
    assert choice.short == ("c",)
    assert len(set(choice.indices)) == 24
    drawn = Counter(long_tail().samples[i].label for i in choice.indices)
    assert drawn == {0: 10, 1: 10, 2: 4}


def test_no_group_exceeds_the_cap():
    images = long_tail()
    choice = balanced_samples(images, per_class=10, group_cap=3, seed=1)
    groups = Counter(images.samples[i].group for i in choice.indices)
    assert max(groups.values()) <= 3
    assert len(choice.indices) > 3


def test_the_choice_depends_on_the_seed_alone():
    first = balanced_samples(long_tail(), 8, 20, seed=3)
    assert first == balanced_samples(long_tail(), 8, 20, seed=3)
    assert first.indices != balanced_samples(long_tail(), 8, 20, seed=4).indices


def test_a_rare_class_is_not_starved_by_a_shared_group():
    items = tuple([Item(0, "video")] * 50 + [Item(1, "video")] * 50)
    choice = balanced_samples(Images(("a", "b"), items), per_class=10, group_cap=6, seed=0)
    assert choice.counts == {"a": 3, "b": 3}


def test_only_the_given_indices_are_drawn():
    choice = balanced_samples(long_tail(), 5, 100, seed=0, among=range(50, 94))
    assert min(choice.indices) >= 50


def test_fewer_images_than_classes_is_an_error():
    images = Images(("a", "b", "c"), (Item(0, "x"), Item(1, "y")))
    with pytest.raises(EdgefelError, match="2 usable images for 3 classes"):
        balanced_samples(images, 5, 5, seed=0)


@pytest.mark.parametrize("counts", [(0, 5), (5, 0)])
def test_counts_below_one_are_refused(counts):
    with pytest.raises(EdgefelError, match="at least 1"):
        balanced_samples(long_tail(), *counts)


def test_unbalanced_samples_follow_the_data_and_not_the_classes():
    images = long_tail()
    totals = Counter()
    for seed in range(40):
        choice = unbalanced_samples(images, 20, 100, seed)
        assert len(set(choice.indices)) == 20 == sum(choice.counts.values())
        totals.update(choice.counts)
    # 60 : 30 : 4 in the data
    assert totals["a"] / 800 == pytest.approx(60 / 94, abs=0.04)
    assert totals["c"] / 800 == pytest.approx(4 / 94, abs=0.02)


def test_samples_of_the_most_frequent_class_show_no_other():
    choice = unbalanced_samples(long_tail(), 20, 100, seed=0, one_class=True)
    assert choice.counts == {"a": 20, "b": 0, "c": 0}
    choice = unbalanced_samples(long_tail(), 20, 100, seed=0, one_class=True, among=range(50, 94))
    assert choice.counts["b"] == 20


@pytest.mark.parametrize("one_class", [False, True])
def test_the_other_draws_keep_to_cap_seed_and_pool(one_class):
    images, draw = long_tail(), functools.partial(unbalanced_samples, one_class=one_class)
    choice = draw(images, 8, 3, seed=1)
    assert max(Counter(images.samples[i].group for i in choice.indices).values()) <= 3
    assert choice == draw(images, 8, 3, seed=1)
    assert choice.indices != draw(images, 8, 3, seed=2).indices
    assert set(draw(images, 8, 100, seed=0, among=range(40)).indices) <= set(range(40))


def test_the_other_draws_refuse_what_they_cannot_give():
    with pytest.raises(EdgefelError, match="3 usable images of a .*10 are wanted"):
        unbalanced_samples(long_tail(), 10, 1, seed=0, one_class=True)
    with pytest.raises(EdgefelError, match="94 usable images .*95 are wanted"):
        unbalanced_samples(long_tail(), 95, 100, seed=0)
    with pytest.raises(EdgefelError, match="at least 1"):
        unbalanced_samples(long_tail(), 0, 100, seed=0)
