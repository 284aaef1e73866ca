"""The reference against ranks counted in plain Python, and its properties."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgefel.kernels.token_pooling.reference import (
    best_tokens,
    patch_scores,
    pool_patches,
    pool_tokens,
    token_scores,
)

# few different values, so that ties are the rule
SCORES = st.lists(
    st.sampled_from([-math.inf, -2.0, -0.0, 0.0, 1.5, math.inf, math.nan]), min_size=1, max_size=12
)


def counted(scores: list[float], keep: int) -> list[int]:
    """Indices that fewer than `keep` others are ahead of."""

    def ahead(j: int, i: int) -> bool:
        a, b = scores[j], scores[i]
        same = a == b or (math.isnan(a) and math.isnan(b))
        return j < i if same else math.isnan(a) or a > b

    return [i for i in range(len(scores)) if sum(ahead(j, i) for j in range(len(scores))) < keep]


@settings(max_examples=100, deadline=None)
@given(SCORES, st.data())
def test_the_best_are_those_that_few_are_ahead_of(scores, data):
    keep = data.draw(st.integers(1, len(scores)))
    assert best_tokens(torch.tensor([scores]), keep)[0].tolist() == counted(scores, keep)


def test_pooled_patches_carry_their_positions():
    rng = np.random.default_rng(0)
    patches, positions = rng.normal(size=(3, 9, 5)), 100 * rng.normal(size=(9, 5))
    best = np.sort(np.argsort(-np.abs(patches).sum(-1), axis=1)[:, :4], axis=1)
    expected = [[patches[b, n] + positions[n] for n in best[b]] for b in range(3)]
    for given_positions in (torch.from_numpy(positions), torch.from_numpy(positions)[None]):
        out = pool_patches(torch.from_numpy(patches), given_positions, 4)
        np.testing.assert_array_equal(out.numpy(), expected)


def test_the_class_token_always_stays():
    rng = np.random.default_rng(0)
    tokens, products = rng.normal(size=(3, 10, 5)), rng.normal(size=(3, 4, 10, 10))
    products[:, :, 0, 0] = -100
    best = np.sort(np.argsort(-products[:, :, 0, 1:].sum(1), axis=1)[:, :4], axis=1)
    out = pool_tokens(torch.from_numpy(tokens), torch.from_numpy(products), 4).numpy()
    np.testing.assert_array_equal(out[:, 0], tokens[:, 0])
    np.testing.assert_array_equal(out[:, 1:], [tokens[b, 1 + best[b]] for b in range(3)])


def test_half_precision_is_scored_in_fp32():
    patches = torch.ones(1, 2, 768, dtype=torch.float16)
    patches[0, 1, 0] = 1.0625  # 768.0625, which FP16 rounds to 768
    assert patch_scores(patches).tolist() == [[768.0, 768.0625]]
    assert pool_patches(patches, torch.zeros(2, 768).half(), 1)[0, 0, 0] == 1.0625
    products = torch.full((1, 2, 3, 3), 1024.0, dtype=torch.float16)
    products[0, 1, 0, 2] = 1025
    assert token_scores(products).tolist() == [[2048.0, 2049.0]]


def test_gradients_match_finite_differences():
    generator = torch.Generator().manual_seed(0)
    patches, positions, tokens = (
        torch.randn(*shape, generator=generator, dtype=torch.float64, requires_grad=True)
        for shape in ((2, 6, 3), (6, 3), (2, 7, 3))
    )
    products = torch.randn(2, 2, 7, 7, generator=generator, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, p: pool_patches(x, p, 4), (patches, positions))
    assert torch.autograd.gradcheck(lambda x: pool_tokens(x, products, 4), (tokens,))
    out = pool_tokens(tokens, products, 4).sum()
    assert torch.autograd.grad(out, products, allow_unused=True) == (None,)


@pytest.mark.parametrize(
    ("argument", "patches", "positions", "keep"),
    [
        ("patches", (4, 3), (4, 3), 1),
        ("positions", (2, 4, 3), (5, 3), 1),
        ("positions", (2, 4, 3), (2, 4, 3), 1),
        ("keep", (2, 4, 3), (4, 3), 0),
        ("keep", (2, 4, 3), (1, 4, 3), 5),
    ],
)
def test_patches_that_do_not_fit_are_named(argument, patches, positions, keep):
    with pytest.raises(ValueError, match=f"^{argument}: expected .*got"):
        pool_patches(torch.zeros(patches), torch.zeros(positions), keep)


@pytest.mark.parametrize(
    ("argument", "tokens", "products", "keep"),
    [
        ("tokens", (5, 3), (2, 1, 5, 5), 1),
        ("products", (2, 5, 3), (2, 5, 5), 1),
        ("products", (2, 5, 3), (3, 1, 5, 5), 1),
        ("products", (2, 5, 3), (2, 1, 4, 5), 1),
        ("keep", (2, 5, 3), (2, 1, 5, 5), 5),
        ("keep", (2, 1, 3), (2, 1, 1, 1), 1),
    ],
)
def test_tokens_that_do_not_fit_are_named(argument, tokens, products, keep):
    with pytest.raises(ValueError, match=f"^{argument}: expected .*got"):
        pool_tokens(torch.zeros(tokens), torch.zeros(products), keep)
