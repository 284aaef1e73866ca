"""Chains of Transpose and Reshape, tried on numbered elements."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from edgefel.export.onnx.axes import Step, shuffle

BATCHES = (1, 2, 6)


def run(values: np.ndarray, steps: list[Step]) -> np.ndarray:
    for kind, arguments in steps:
        values = values.transpose(arguments) if kind == "Transpose" else values.reshape(arguments)
    return values


def numbered(shape: list[int | None], batch: int) -> np.ndarray:
    sides = [batch if side is None else side for side in shape]
    return np.arange(np.prod(sides)).reshape(sides)


def check_equal(shape: list[int | None], steps: list[Step], shorter: list[Step]) -> None:
    for batch in BATCHES:
        values = numbered(shape, batch)
        expected, actual = run(values, steps), run(values, shorter)
        assert actual.shape == expected.shape
        np.testing.assert_array_equal(actual, expected)


# name -> shape, chain, nodes that are left
KNOWN: dict[str, tuple[list[int | None], list[Step], int]] = {
    "pair that cancels": ([None, 3, 4], [("Transpose", [0, 2, 1]), ("Transpose", [0, 2, 1])], 0),
    "reshape there and back": ([None, 12], [("Reshape", [-1, 3, 4]), ("Reshape", [-1, 12])], 0),
    "axis of size one": ([None, 49, 1, 8], [("Transpose", [0, 2, 1, 3])], 1),
    "heads out of a whole map": (
        [None, 64, 7, 7],
        [("Transpose", [0, 2, 3, 1]), ("Reshape", [-1, 49, 2, 32]), ("Transpose", [0, 2, 1, 3])],
        2,
    ),
    "windows, and heads out of them": (
        [None, 16, 4, 4],
        [
            ("Transpose", [0, 2, 3, 1]),
            ("Reshape", [-1, 2, 2, 2, 2, 16]),
            ("Transpose", [0, 1, 3, 2, 4, 5]),
            ("Reshape", [-1, 4, 2, 8]),
            ("Transpose", [0, 2, 1, 3]),
        ],
        3,
    ),
    "windows and back": (
        [None, 4, 4, 3],
        [
            ("Reshape", [-1, 2, 2, 2, 2, 3]),
            ("Transpose", [0, 1, 3, 2, 4, 5]),
            ("Reshape", [-1, 4, 3]),
            ("Reshape", [-1, 2, 2, 2, 2, 3]),
            ("Transpose", [0, 1, 3, 2, 4, 5]),
            ("Reshape", [-1, 4, 4, 3]),
        ],
        0,
    ),
    "windows alone are as short as can be": (
        [None, 4, 4, 3],
        [("Reshape", [-1, 2, 2, 2, 2, 3]), ("Transpose", [0, 1, 3, 2, 4, 5]), ("Reshape", [-1, 4, 3])],
        3,
    ),
    "flatten behind a transpose": ([None, 3, 4], [("Transpose", [0, 2, 1]), ("Reshape", [-1, 12])], 2),
}


@pytest.mark.parametrize("name", KNOWN)
def test_known_chains(name):
    shape, steps, length = KNOWN[name]
    shorter = shuffle(shape, steps)
    assert shorter is not None
    assert len(shorter) == length
    check_equal(shape, steps, shorter)


def test_factors_that_do_not_fit_are_left_alone():
    crossing: list[Step] = [
        ("Reshape", [-1, 2, 3]),
        ("Transpose", [0, 2, 1]),
        ("Reshape", [-1, 2, 3]),
        ("Transpose", [0, 2, 1]),
    ]
    assert shuffle([None, 6], crossing) is None


def test_a_second_unknown_size_is_left_alone():
    assert shuffle([None, None, 4], [("Transpose", [0, 2, 1]), ("Transpose", [0, 2, 1])]) is None


def random_chain(rng: np.random.Generator) -> tuple[list[int | None], list[Step]]:
    """Factors 2, 3, 1 and 5 dealt to axes, moved and regrouped a few times."""
    factors = [int(f) for f in rng.choice([1, 2, 2, 3, 5], rng.integers(2, 5))]
    cuts = sorted(rng.choice(np.arange(len(factors) + 1), rng.integers(1, 3)))
    groups = [factors[a:b] for a, b in itertools.pairwise([0, *cuts, len(factors)])]
    shape: list[int | None] = [None, *(int(np.prod(group)) for group in groups)]
    sides, steps = [*shape[1:]], []
    for _ in range(rng.integers(1, 5)):
        if rng.random() < 0.5:
            perm = [int(i) for i in rng.permutation(len(sides))]
            steps.append(("Transpose", [0, *(i + 1 for i in perm)]))
            sides = [sides[i] for i in perm]
        else:
            total = int(np.prod(sides))
            first = int(rng.choice([d for d in range(1, total + 1) if total % d == 0]))
            sides = [first, total // first]
            steps.append(("Reshape", [-1, *sides]))
    return shape, steps


def test_random_chains():
    rng = np.random.default_rng(0)
    shortened = 0
    for _ in range(600):
        shape, steps = random_chain(rng)
        shorter = shuffle(shape, steps)
        if shorter is None:
            continue
        assert len(shorter) <= 3
        shortened += len(shorter) < len(steps)
        check_equal(shape, steps, shorter)
    assert shortened > 100
