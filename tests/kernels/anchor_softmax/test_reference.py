"""The reference op against plain NumPy, and its properties."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgefel.kernels.anchor_softmax.reference import anchor_distances, anchor_softmax


def draw(batch: int, classes: int, anchors: int, width: int, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    e = torch.randn(batch, width, generator=generator, dtype=torch.float64)
    return e, torch.randn(classes, anchors, width, generator=generator, dtype=torch.float64)


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 4),
    st.integers(2, 8),
    st.integers(1, 10),
    st.integers(1, 130),
    st.floats(0.1, 10),
    st.integers(0, 9),
)
def test_matches_numpy_and_rows_sum_to_one(batch, classes, anchors, width, delta, seed):
    e, a = draw(batch, classes, anchors, width, seed)
    out = anchor_softmax(e, a, delta).numpy()
    distance = np.linalg.norm(e.numpy()[:, None, None] - a.numpy()[None], axis=-1)
    weights = np.exp(-(distance - distance.min(axis=(1, 2), keepdims=True)) / delta)
    expected = weights.sum(axis=2) / weights.sum(axis=(1, 2))[:, None]
    np.testing.assert_allclose(out, expected, atol=1e-12)
    np.testing.assert_allclose(out.sum(axis=1), 1.0, atol=1e-12)


def test_order_of_the_anchors_of_a_class_does_not_matter():
    e, a = draw(3, 7, 10, 32)
    torch.testing.assert_close(anchor_softmax(e, a[:, torch.randperm(10)], 1.0), anchor_softmax(e, a, 1.0))


def test_gradients_match_finite_differences():
    e, a = draw(2, 3, 2, 5)
    assert torch.autograd.gradcheck(
        lambda x, y: anchor_softmax(x, y, 0.7), (e.requires_grad_(), a.requires_grad_())
    )


def test_gradient_is_finite_when_the_embedding_is_an_anchor():
    e, a = draw(1, 7, 10, 32)
    e = a[3, 4][None].clone().requires_grad_()
    a.requires_grad_()
    anchor_softmax(e, a, 1.0)[0, 3].backward()
    assert anchor_distances(e, a)[0, 3, 4] == 0
    assert torch.isfinite(e.grad).all()
    assert torch.isfinite(a.grad).all()
    assert e.grad.abs().sum() > 0


def test_half_precision_is_computed_in_fp32():
    e, a = draw(2, 7, 10, 768)
    out = anchor_softmax((e * 30).half(), (a * 30).half(), 1.0)  # a sum of squares near 1e6 overflows FP16
    assert out.dtype == torch.float32
    torch.testing.assert_close(out.sum(dim=1), torch.ones(2))


def test_nan_stays_in_its_row():
    e, a = draw(3, 7, 10, 32)
    clean = anchor_softmax(e, a, 1.0)
    e[1, 5] = float("nan")
    out = anchor_softmax(e, a, 1.0)
    assert out[1].isnan().all()
    assert torch.equal(out[[0, 2]], clean[[0, 2]])


def test_wrong_arguments_are_named():
    e, a = draw(2, 7, 10, 32)
    with pytest.raises(ValueError, match="^e: expected"):
        anchor_softmax(e[None], a, 1.0)
    with pytest.raises(ValueError, match="^anchors: expected"):
        anchor_softmax(e, a[..., :31], 1.0)
    with pytest.raises(ValueError, match="^delta: expected"):
        anchor_softmax(e, a, 0.0)
