"""Which implementations an op has, and that each computes it."""

from __future__ import annotations

import pytest
import torch

from edgefel.bench.kernels import competitors
from edgefel.bench.kernels.problems import AttentionProblem, HeadProblem, PoolingProblem

ATTENTION = AttentionProblem(3, 3, 2, 16, 2, torch.float32)
CPU = torch.device("cpu")


def test_attention_has_more_competitors_than_the_other_ops():
    common = (competitors.OURS, "eager", "compile")
    assert competitors.names(HeadProblem()) == common
    assert competitors.names(PoolingProblem(9, 5, 24, 0, 2, torch.float32)) == common
    assert competitors.names(ATTENTION)[:3] == common
    assert {"sdpa-math", "sdpa-flash", "flex"} < set(competitors.names(ATTENTION))


def test_an_unknown_implementation_lists_the_known_ones():
    with pytest.raises(ValueError, match="expected one of edgefel, eager, compile, got 'sdpa-math'"):
        competitors.implementation("sdpa-math", HeadProblem(), {}, backward=False)


def test_backward_gives_the_gradient_of_every_leaf():
    """The bias of SDPA is built inside the call, so that the gradient reaches the table."""
    inputs = ATTENTION.inputs(CPU)
    leaves = tuple(inputs[name] for name in ATTENTION.leaves)

    def results(name: str) -> tuple[torch.Tensor, ...]:
        call = competitors.implementation(name, ATTENTION, inputs, backward=True)
        return competitors.run(call, leaves, inputs["grad"])()

    expected, found = results("eager"), results("sdpa-math")
    assert len(found) == 1 + len(ATTENTION.leaves)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
