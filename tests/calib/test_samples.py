"""Balanced choice of calibration images."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import pytest

from edgefel.calib.samples import balanced_samples
from edgefel.errors import EdgefelError


@dataclass(frozen=True)
class Item:
    label: int
    group: str


@dataclass(frozen=True)
class Images:
    labels: tuple[str, ...]
    samples: tuple[Item, ...]

    def load(self, index):
        raise AssertionError("choosing samples must not open pictures")


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
