"""Every launch of every op is compiled with the options that ahead-of-time compilation uses."""

from __future__ import annotations

import pytest
import torch

from edgefel.kernels.anchor_softmax.op import anchor_softmax
from edgefel.kernels.backend import interpreting
from edgefel.kernels.compile_options import COMPILE_OPTIONS
from edgefel.kernels.reliability_balance.op import reliability_balance
from edgefel.kernels.token_pooling.op import pool_patches, pool_tokens
from edgefel.kernels.window_cross_attention.op import window_cross_attention


def attention(windows):
    q, k, v = (torch.randn(windows, 1, 9, 16, requires_grad=True) for _ in range(3))
    table = torch.randn(25, 1, requires_grad=True)
    window_cross_attention(q, k, v, table, 3, 0.25).sum().backward()


def anchors():
    e, anchors = torch.randn(2, 8, requires_grad=True), torch.randn(3, 2, 8, requires_grad=True)
    anchor_softmax(e, anchors, 1.0).sum().backward()


def balance():
    reliability_balance(torch.randn(2, 3), torch.randn(2, 8), torch.randn(3, 2, 8), torch.randn(2, 3), 1.0)


def patches():
    x, positions = torch.randn(1, 9, 8, requires_grad=True), torch.randn(9, 8, requires_grad=True)
    pool_patches(x, positions, 4).sum().backward()


def tokens():
    pool_tokens(torch.randn(1, 10, 8, requires_grad=True), torch.randn(1, 2, 10, 10), 4).sum().backward()


@pytest.mark.skipif(not interpreting(), reason="the interpreter alone shows what a launch was given")
@pytest.mark.parametrize(
    ("run", "least"),
    [
        (lambda: attention(1), 4),
        (lambda: attention(64), 4),
        (anchors, 3),
        (balance, 1),
        (patches, 3),
        (tokens, 2),
    ],
    ids=["attention of a window", "attention of a batch", "anchors", "balance", "patches", "tokens"],
)
def test_products_and_sums_are_fused(run, least, monkeypatch):
    from triton.runtime.interpreter import GridExecutor

    call, given = GridExecutor.__call__, []

    def recorded(self, *args, **kwargs):
        given.append(kwargs.get("enable_fp_fusion"))
        return call(self, *args, **kwargs)

    monkeypatch.setattr(GridExecutor, "__call__", recorded)
    run()
    assert len(given) >= least
    assert set(given) == {COMPILE_OPTIONS["enable_fp_fusion"]} == {True}
