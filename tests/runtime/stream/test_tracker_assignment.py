"""The assignment of least cost, against trying all of them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgefel.runtime.stream.tracker import assign


def best(costs: np.ndarray) -> tuple[int, float]:
    """Most allowed pairs, and the least cost of so many, by trying every assignment."""
    if costs.shape[0] > costs.shape[1]:
        costs = costs.T
    rows, columns = costs.shape
    tried = []
    for chosen in itertools.permutations(range(columns), rows):
        values = [costs[row, column] for row, column in enumerate(chosen) if np.isfinite(costs[row, column])]
        tried.append((-len(values), sum(values)))
    pairs, cost = min(tried)
    return -pairs, cost


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 5), st.integers(1, 5), st.integers(0, 10**6), st.floats(0, 0.9))
def test_it_is_the_best_there_is(rows, columns, seed, forbidden):
    rng = np.random.default_rng(seed)
    costs = rng.uniform(-3, 3, (rows, columns)).round(1)  # rounded, so that ties occur
    costs[rng.random(costs.shape) < forbidden] = np.inf
    pairs = assign(costs.tolist())
    assert len({row for row, _ in pairs}) == len({column for _, column in pairs}) == len(pairs)
    assert pairs == sorted(pairs)
    cost = sum(costs[pair] for pair in pairs)
    assert (len(pairs), cost) == pytest.approx(best(costs))


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0)])
def test_nothing_to_assign(shape):
    assert assign(np.empty(shape).tolist()) == []


def test_all_forbidden():
    assert assign(np.full((2, 3), np.inf).tolist()) == []


def test_forty_faces_in_any_order():
    order = np.random.default_rng(0).permutation(40)
    costs = np.full((40, 40), 1.0)
    costs[np.arange(40), order] = 0.2
    assert assign(costs.tolist()) == list(enumerate(order))


def test_costs_that_make_no_sense():
    with pytest.raises(ValueError, match="costs with NaN"):
        assign([[1.0, float("nan")]])
