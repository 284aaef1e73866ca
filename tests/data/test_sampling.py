from __future__ import annotations

import numpy as np
import pytest

from edgefel.data.sampling import BalancedEpoch
from edgefel.errors import EdgefelError


def test_epoch_is_balanced_without_replacement_where_it_can_be() -> None:
    rng = np.random.default_rng(0)
    labels = rng.choice(3, size=2000, p=[0.8, 0.15, 0.05])
    groups = [f"s{i}" for i in rng.integers(0, 20, 2000)]
    indices = BalancedEpoch(labels, groups, per_class=50, per_group=512, seed=1).indices(0)
    assert indices.dtype == np.int64
    assert np.bincount(labels[indices]).tolist() == [50, 50, 50]
    assert np.unique(indices).size == indices.size


def test_small_class_repeats_as_evenly_as_it_can() -> None:
    labels = [0] * 100 + [1] * 7
    indices = BalancedEpoch(labels, list(range(107)), per_class=50, per_group=5).indices(3)
    used = np.bincount(indices, minlength=107)
    assert used[:100].max() == 1
    assert used[100:].sum() == 50
    assert set(used[100:]) == {7, 8}


def test_pool_takes_a_fresh_part_of_a_large_group_each_epoch() -> None:
    # one long video of 900 images and 30 short ones of one image each, one class
    labels = [0] * 930
    groups = ["long"] * 900 + [f"v{i}" for i in range(30)]
    sampler = BalancedEpoch(labels, groups, per_class=40, per_group=10)
    drawn = [sampler.indices(epoch) for epoch in range(3)]
    for indices in drawn:
        assert set(range(900, 930)) <= set(indices)
        assert (indices < 900).sum() == 10
    assert len({tuple(sorted(indices)) for indices in drawn}) == 3


def test_deterministic_in_seed_and_epoch() -> None:
    labels, groups = np.arange(600) % 7, np.arange(600) % 11
    first = BalancedEpoch(labels, groups, 20, 30, seed=5)
    again = BalancedEpoch(labels, groups, 20, 30, seed=5)
    again.indices(0)  # an epoch drawn before another must not change it
    np.testing.assert_array_equal(first.indices(4), again.indices(4))
    assert not np.array_equal(first.indices(4), first.indices(5))
    assert not np.array_equal(first.indices(4), BalancedEpoch(labels, groups, 20, 30, seed=6).indices(4))


def test_order_is_shuffled_and_absent_classes_are_left_out() -> None:
    labels = np.array([0, 4] * 100)
    sampler = BalancedEpoch(labels, np.arange(200), per_class=60)
    drawn = labels[sampler.indices(0)]
    assert len(sampler) == 120 == drawn.size
    assert 20 < np.abs(np.diff(drawn)).sum() / 4 < 100  # runs of one class would give about 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([], []), "data set is empty"),
        (([0, 1], ["a"]), "2 labels but 1 groups"),
        (([0], ["a"], 0), "per_class=0"),
        (([0], ["a"], 1, 0), "per_group=0"),
    ],
)
def test_bad_arguments(arguments: tuple[object, ...], message: str) -> None:
    with pytest.raises(EdgefelError, match=message):
        BalancedEpoch(*arguments)  # type: ignore[arg-type]
