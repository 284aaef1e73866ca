from __future__ import annotations

import os
import subprocess
import sys
import tracemalloc
from typing import Any

import numpy as np
import pytest

from edgefel.data.loading.sampling import BalancedEpoch
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
        (([0, 1], ["a"]), "2 labels but 1 group"),
        (([0], ["a"], 0), "per_class=0"),
        (([0], ["a"], 1, 0), "per_group=0"),
    ],
)
def test_bad_arguments(arguments: tuple[object, ...], message: str) -> None:
    with pytest.raises(EdgefelError, match=message):
        BalancedEpoch(*arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(6))
def test_no_group_and_no_class_dominates(seed: int) -> None:
    """On sets of any shape: groups that lie together or not, with few and many images, numbered with gaps."""
    rng = np.random.default_rng(seed)
    count = int(rng.integers(300, 3000))
    groups = rng.choice(rng.integers(0, 10 ** rng.integers(1, 12), 40), count)
    groups = np.sort(groups) if seed % 2 else groups
    labels = rng.choice(5, count, p=[0.6, 0.25, 0.1, 0.03, 0.02])
    per_group = int(rng.integers(1, 60))
    # so many of each class that all of the pool is in the epoch
    pool = np.unique(BalancedEpoch(labels, groups, count, per_group, seed).indices(2))
    _, sizes = np.unique(groups, return_counts=True)
    _, taken = np.unique(groups[pool], return_counts=True)
    np.testing.assert_array_equal(taken, np.minimum(sizes, per_group))
    drawn = BalancedEpoch(labels, groups, 37, per_group, seed).indices(2)
    classes = np.unique(labels[pool])
    assert np.isin(drawn, pool).all()
    np.testing.assert_array_equal(
        np.bincount(labels[drawn], minlength=5), np.where(np.isin(range(5), classes), 37, 0)
    )


def test_a_group_of_one_too_many_gives_one_less() -> None:
    groups = np.repeat([0, 1, 2], [9, 10, 11])
    drawn = BalancedEpoch(np.zeros(30, np.int64), groups, per_class=30, per_group=10).indices(0)
    assert np.bincount(groups[np.unique(drawn)]).tolist() == [9, 10, 10]


def test_every_image_of_a_group_has_the_same_chance_and_every_subset() -> None:
    """Chi-square of fixed draws, far below the values that chance exceeds once in a thousand times."""
    epochs = range(4000)
    # groups of 60 and of 5 that give 7 and all; then a group of 6 that gives 2, which are 15 pairs
    sampler = BalancedEpoch(np.zeros(65, np.int64), np.arange(65) // 60, per_class=65, per_group=7)
    counts = np.bincount(np.concatenate([np.unique(sampler.indices(epoch)) for epoch in epochs]))
    assert (counts[60:] == len(epochs)).all()
    share = 7 / 60
    deviations = (counts[:60] - len(epochs) * share) ** 2 / (len(epochs) * share * (1 - share))
    assert deviations.sum() * 59 / 60 < 98.3
    sampler = BalancedEpoch(np.zeros(6, np.int64), np.zeros(6, np.int64), per_class=2, per_group=2)
    pairs = [tuple(sorted(sampler.indices(epoch).tolist())) for epoch in epochs]
    counts = np.unique(np.array([7 * low + high for low, high in pairs]), return_counts=True)[1]
    assert counts.size == 15
    assert ((counts - len(epochs) / 15) ** 2 / (len(epochs) / 15)).sum() < 36.1


def test_groups_are_the_same_whatever_names_them() -> None:
    numbers = np.random.default_rng(0).integers(0, 9, 400)
    numbers = np.concatenate([np.arange(9), numbers])  # the order of appearance is that of the numbers
    labels = np.arange(409) % 3
    expected = BalancedEpoch(labels, numbers, 30, 10).indices(1)
    for groups in (
        numbers * 1000 - 5,
        numbers * 10**15,
        numbers.astype(np.int8),
        [f"video {number}" for number in numbers],
        np.array([f"video {number}" for number in numbers]),
    ):
        np.testing.assert_array_equal(BalancedEpoch(labels, groups, 30, 10).indices(1), expected)
    np.testing.assert_array_equal(BalancedEpoch(labels * 50 - 7, numbers, 30, 10).indices(1), expected)


def test_every_process_draws_the_same() -> None:
    """The processes of a run share no generator: each computes the epoch by itself, and takes its part of a batch."""
    code = (
        "import numpy as np; from edgefel.data.loading.sampling import BalancedEpoch;"
        "names = [f'video {i % 23}' for i in range(5000)];"
        "print(*BalancedEpoch(np.arange(5000) % 7, names, 30, 50, seed=3).indices(11))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "1"}
    command = [sys.executable, "-c", code]
    drawn = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    names = [f"video {i % 23}" for i in range(5000)]
    own = BalancedEpoch(np.arange(5000) % 7, names, 30, 50, seed=3).indices(11)
    assert list(map(int, drawn.split())) == own.tolist()
    assert len(own) == 210


def test_millions_of_images_cost_no_sorting_and_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as Aff-Wild2 has, in 550 videos. What an epoch sorts has a few thousand elements."""
    count = 2_600_000
    rng = np.random.default_rng(0)
    labels = rng.choice(8, count, p=[0.3, 0.02, 0.02, 0.01, 0.16, 0.09, 0.05, 0.35])
    groups = np.arange(count) // 4728
    sizes: list[int] = []

    def watch(name: str) -> None:
        original = getattr(np, name)

        def sort(values: Any, *args: Any, **options: Any) -> Any:
            sizes.append(np.size(values))
            return original(values, *args, **options)

        monkeypatch.setattr(np, name, sort)

    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        sampler = BalancedEpoch(labels, groups)
        for name in ("sort", "argsort", "lexsort", "unique"):
            watch(name)
        indices = [sampler.indices(epoch) for epoch in range(3)][-1]
        peak = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    np.testing.assert_array_equal(np.bincount(labels[indices]), np.full(8, 500))
    assert peak < 200e6
    assert max(sizes, default=0) < count / 100
