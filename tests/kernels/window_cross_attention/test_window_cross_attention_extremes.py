"""Scores that are huge or -inf, views with odd strides, and frozen inputs, against the reference in float64."""

from __future__ import annotations

from itertools import product

import pytest
import torch
import triton
import triton.language as tl
from attention_problems import Problem, attend, results, tensors

from edgefel.kernels.window_cross_attention import launches
from edgefel.kernels.window_cross_attention.kernel import tile_offsets
from edgefel.kernels.window_cross_attention.op import window_cross_attention
from edgefel.kernels.window_cross_attention.reference import window_cross_attention as reference

NAMES = ("out", "q", "kv", "bias_table")


@pytest.fixture(params=["rows", "dense"])
def path(request, monkeypatch):
    """Each of the two forward kernels, whatever the batch; what needs gradients is dense."""
    monkeypatch.setattr(launches, "DENSE_FROM", 1 if request.param == "dense" else 1 << 30)
    return request.param


def offsets(window):
    """Row and column offset of each row of the table."""
    side = range(1 - window, window)
    return list(product(side, side))


def compare(path, problem, inputs, assert_close, dtype=torch.float32):
    """The result, and on the dense path the gradients too."""
    wide = tuple(x.double() for x in inputs)
    if path == "rows":
        out = attend(window_cross_attention, *inputs[:3], problem)
        assert_close(out, attend(reference, *wide[:3], problem), "out", dtype)
        return
    expected, found = results(reference, problem, wide), results(window_cross_attention, problem, inputs)
    for name, out, truth in zip(NAMES, found, expected, strict=True):
        assert_close(out, truth, name, dtype)


MASKS = {
    "a causal window": lambda dr, dc: dr < 0,
    "rows at most 3 apart": lambda dr, dc: abs(dr) > 3,
    "the row itself": lambda dr, dc: dr != 0,
    "the position itself": lambda dr, dc: (dr, dc) != (0, 0),
}


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
def test_an_infinite_table_masks_whole_tiles(mask, path, device, assert_close):
    dtype = torch.float16 if mask is MASKS["a causal window"] else torch.float32
    problem = Problem(1, 1, 1, 11, 16)
    q_map, kv, table, grad = tensors(problem, device, dtype)
    table[[index for index, pair in enumerate(offsets(11)) if mask(*pair)]] = -float("inf")
    if mask is MASKS["the position itself"]:
        out = attend(window_cross_attention, q_map, kv, table, problem)
        assert torch.equal(out, kv[:, :, 1].flatten(2))
        # a probability of 1 has no slope: gradients of q and k are rounding errors
        _, _, grad_kv, _ = results(window_cross_attention, problem, (q_map, kv, table, grad))
        assert torch.equal(grad_kv[:, :, 1].flatten(2), grad)
    else:
        compare(path, problem, (q_map, kv, table, grad), assert_close, dtype)


def test_a_query_without_keys_gets_nan_as_in_pytorch(path, device):
    problem = Problem(2, 1, 1, 3, 16)
    q_map, kv, table, _ = tensors(problem, device, torch.float32)
    table.fill_(-float("inf"))
    table[[0, 1, 2]] = 1.0  # the first queries look up by two rows: there is nothing
    out = attend(window_cross_attention, q_map, kv, table, problem)
    expected = attend(reference, q_map, kv, table, problem)
    assert torch.equal(out.isnan(), expected.isnan())
    assert 0 < int(out.isnan().sum()) < out.numel()


def test_a_huge_table_in_half_precision_stays_finite(path, device, assert_close):
    problem = Problem(1, 2, 1, 5, 16)
    q_map, kv, table, grad = tensors(problem, device, torch.float16)
    table[[index for index, (dr, _) in enumerate(offsets(5)) if dr > 0]] = -60000.0
    wide = table.float()
    wide[0] = -1e9
    compare(path, problem, (q_map, kv, wide, grad), assert_close, torch.float16)


@pytest.mark.parametrize("size", [3e3, 1e6, 3e10])
def test_large_scores_lose_no_probability(size, device):
    problem = Problem(1, 2, 1, 9, 16)
    q_map, kv, table, grad = tensors(problem, device, torch.float32)
    inputs = (size * q_map, kv, table, grad)
    expected = results(reference, problem, tuple(x.double() for x in inputs))
    found = results(window_cross_attention, problem, inputs)
    plain = results(reference, problem, inputs)
    for pick in (lambda all_: all_[0], lambda all_: all_[2][:, :, 1]):  # the result, and the gradient of v
        out, fp32, truth = (pick(all_).double().detach() for all_ in (found, plain, expected))
        # two scores that nearly tie differ by an error of FP32, in plain PyTorch too
        assert (out - truth).norm() < 2 * (fp32 - truth).norm() + 1e-5 * truth.norm()
    # hardly any probability lies between 0 and 1, so that the other gradients are nearly 0
    factors = (kv[:, :, 0].abs().max(), size * q_map.abs().max(), torch.ones(()))
    others = zip(
        (found[1], found[2][:, :, 0], found[3]), (expected[1], expected[2][:, :, 0], expected[3]), strict=True
    )
    for (out, truth), factor in zip(others, factors, strict=True):
        largest = factor * grad.abs().max() * kv[:, :, 1].abs().max()
        assert torch.isfinite(out).all()
        assert (out - truth).abs().max() < 1e-3 * largest


def test_large_scores_of_half_precision(path, device, assert_close):
    problem = Problem(1, 2, 1, 9, 16)
    q_map, kv, table, _ = tensors(problem, device, torch.float16)
    q_map, kv = 700 * q_map, torch.stack((700 * kv[:, :, 0], kv[:, :, 1]), 2)
    expected = attend(reference, q_map.double(), kv.double(), table.double(), problem)
    assert_close(attend(window_cross_attention, q_map, kv, table, problem), expected, "out", torch.float16)


@pytest.mark.parametrize("scale", [-0.3, 0.0, 1e-30, 7.0])
def test_any_scale(scale, path, device, assert_close):
    problem = Problem(1, 2, 1, 5, 16)
    q_map, kv, table, _ = tensors(problem, device, torch.float32)
    k, v = (x.transpose(1, 2) for x in kv.unbind(2))
    inputs = (q_map.transpose(1, 2), k, v, table)
    expected = reference(*(x.double() for x in inputs), 5, scale)
    assert_close(window_cross_attention(*inputs, 5, scale), expected, "out")


def test_views_with_odd_strides(path, device, assert_close):
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(*shape, generator=generator).to(device)

    q = draw(2 * 2 * 25 * 16 + 7)[7:].view(2, 2, 25, 16)
    k = draw(4, 2, 25, 40)[..., 3:35:2]
    v = draw(25, 2, 4, 16).permute(2, 1, 0, 3)
    table = draw(3, 200)[:2, 11:92].t()
    inputs = [x.detach().requires_grad_() for x in (q, k, v, table)]
    wide = [x.detach().double().requires_grad_() for x in (q, k, v, table)]
    out, expected = window_cross_attention(*inputs, 5, 0.25), reference(*wide, 5, 0.25)
    assert_close(out, expected, "out")
    grad = draw(*out.shape)
    found, truth = torch.autograd.grad(out, inputs, grad), torch.autograd.grad(expected, wide, grad.double())
    for name, one, other in zip(("q", "k", "v", "bias_table"), found, truth, strict=True):
        assert_close(one, other, name)
    repeated = q[:1].expand(4, -1, -1, -1)
    assert_close(
        window_cross_attention(repeated, k, v, table, 5, 0.25),
        reference(repeated.double(), k.double(), v.double(), table.double(), 5, 0.25),
        "out",
    )


@triton.jit
def store_offsets(out_ptr, strides, batch, head, token):
    side = tl.arange(0, 16)
    offsets = tile_offsets(strides, batch, head, token + side, 16)
    tl.store(out_ptr + side[:, None] * 16 + side[None, :], offsets)


def test_addresses_leave_32_bits(device):
    strides, batch, head, token = (2**30, 2**29 + 1, 2**28 + 3, 2**27), 7, 11, 50
    out = torch.empty((16, 16), dtype=torch.int64, device=device)
    store_offsets[(1,)](out, strides, batch, head, token)
    steps = torch.arange(16, device=device)
    start = batch * strides[0] + head * strides[1]
    assert torch.equal(out, start + (token + steps)[:, None] * strides[2] + steps * strides[3])


KERNELS = {
    "q": {"delta_kernel", "bias_kernel", "backward_q_kernel"},
    "k": {"delta_kernel", "bias_kernel", "backward_kv_kernel"},
    "v": {"bias_kernel", "backward_kv_kernel"},
    "bias_table": {"delta_kernel", "bias_kernel", "backward_table_kernel", "sum_offsets_kernel"},
}
LEAVES = list(KERNELS)


@pytest.mark.parametrize(
    "needed",
    [{"q"}, {"k"}, {"v"}, {"bias_table"}, {"k", "v", "bias_table"}, {"q", "v"}],
    ids=lambda needed: " ".join(sorted(needed)),
)
def test_only_needed_gradients_are_computed(needed, device, assert_close, launched):
    problem = Problem(1, 2, 1, 5, 16)
    q_map, kv, table, grad = tensors(problem, device, torch.float32)
    k, v = (x.transpose(1, 2) for x in kv.unbind(2))
    inputs = dict(zip(LEAVES, (q_map.transpose(1, 2), k, v, table), strict=True))
    leaves = {name: x.detach().requires_grad_(name in needed) for name, x in inputs.items()}
    wide = {name: x.detach().double().requires_grad_(name in needed) for name, x in inputs.items()}
    out = window_cross_attention(*leaves.values(), 5, 0.25)
    if launched is not None:
        launched.clear()
    out.backward(grad)
    reference(*wide.values(), 5, 0.25).backward(grad.double())
    for name in LEAVES:
        if name in needed:
            assert_close(leaves[name].grad, wide[name].grad, name)
        else:
            assert leaves[name].grad is None
    if launched is not None:
        assert sorted(launched) == sorted(set().union(*(KERNELS[name] for name in needed)))
