"""Attention for training on a CPU: the reference's bits, and gradients of what needs them, in less memory."""

from __future__ import annotations

import pytest
import torch

from edgefel.kernels.window_cross_attention import blocked
from edgefel.kernels.window_cross_attention.reference import window_cross_attention as reference
from edgefel.models.encoder import WindowCrossAttention


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Several blocks, the last one shorter, for small problems."""
    monkeypatch.setattr(blocked, "BLOCK_SCORES", 2 * 2 * 25**2)


def problem(windows=5, shared=1, heads=2, window=5, width=4, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    m = window * window
    q = torch.randn(windows, heads, m, width, generator=generator, dtype=dtype)
    k, v = torch.randn(2, windows * shared, heads, m, width, generator=generator, dtype=dtype)
    table = torch.randn((2 * window - 1) ** 2, heads, generator=generator, dtype=dtype)
    return [x.requires_grad_() for x in (q, k, v, table)]


def results(attend, inputs, window=5):
    """The result, and the gradients of those inputs that need one."""
    out = attend(*inputs, window, 0.5)
    needed = [x for x in inputs if x.requires_grad]
    of_out = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view(out.shape)
    return [out.detach(), *torch.autograd.grad(out, needed, of_out)]


@pytest.mark.parametrize("shared", [1, 3])
@pytest.mark.parametrize("window", [5, 7])
def test_equals_the_reference(shared, window):
    inputs = problem(shared=shared, window=window)
    blocks = results(blocked.window_cross_attention, inputs, window)
    for got, expected in zip(blocks, results(reference, inputs, window), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)


def test_gradients_are_those_of_finite_differences():
    inputs = problem(windows=3, window=3, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda *x: blocked.window_cross_attention(*x, 3, 0.5), inputs)


@pytest.mark.parametrize("frozen", range(4))
@pytest.mark.parametrize("only", [False, True])
def test_frozen_inputs(frozen, only):
    """One input without a gradient, or with the only one."""
    inputs = problem()
    for i, x in enumerate(inputs):
        x.requires_grad_((i != frozen) != only)
    for got, expected in zip(
        results(blocked.window_cross_attention, inputs), results(reference, inputs), strict=True
    ):
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)


def test_what_autocast_computes_in_bfloat16():
    inputs = problem()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got, expected = results(blocked.window_cross_attention, inputs), results(reference, inputs)
    exact = results(reference, [x.detach().double().requires_grad_() for x in inputs])
    assert got[0].dtype == expected[0].dtype == torch.bfloat16
    for a, b, c in zip(got, expected, exact, strict=True):
        assert (a - c).norm() <= 1.2 * (b - c).norm()


def test_entries_of_minus_infinity_get_no_weight():
    inputs = problem()
    with torch.no_grad():
        inputs[3][::3] = -torch.inf
    for got, expected in zip(
        results(blocked.window_cross_attention, inputs), results(reference, inputs), strict=True
    ):
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)


def test_a_shape_that_does_not_fit_is_named():
    q, k, v, table = problem()
    with pytest.raises(ValueError, match="bias_table"):
        blocked.window_cross_attention(q, k, v, table[1:], 5, 0.5)


@pytest.mark.parametrize(
    ("training", "windows", "taken"), [(True, 8, True), (True, 1, False), (False, 8, False)]
)
def test_training_of_large_batches_takes_blocks(monkeypatch, training, windows, taken):
    calls = []

    def attend(*arguments):
        calls.append(arguments)
        return reference(*arguments)

    monkeypatch.setattr(blocked, "WORTHWHILE_SCORES", 8 * 2 * 25**2)
    monkeypatch.setattr(blocked, "window_cross_attention", attend)
    layer = WindowCrossAttention(8, 2, 5, query_projection=False).train(training)
    layer(torch.randn(windows, 25, 8), torch.randn(windows, 25, 8))
    assert bool(calls) == taken


def test_no_scores_of_all_windows_are_kept():
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.numel()) or x, lambda x: x):
        blocked.window_cross_attention(*problem(windows=40), 5, 0.5)
    assert max(kept) < 40 * 2 * 25**2
