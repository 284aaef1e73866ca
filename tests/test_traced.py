"""Traces that tests share give what an own trace gives."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import torch
from exported import run_onnx
from onnx import numpy_helper
from torch import nn
from traced import structure, traced

from edgefel.export.onnx import trace as tracing
from edgefel.runtime.manifest import OUTPUT_NAMES


class Small(nn.Module):
    """With what the exporter folds: a BatchNorm, a transposed weight, and a buffer that is not saved."""

    def __init__(self, seed: int, factor: float = 2.0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.conv, self.norm, self.linear = nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.Linear(4, 7)
        for tensor in (*self.norm.parameters(), self.norm.running_mean, self.norm.running_var):
            nn.init.uniform_(tensor, 0.5, 2.0)
        self.register_buffer("fixed", torch.full((7,), factor), persistent=False)

    def forward(self, x):
        x = self.linear(self.norm(self.conv(x)).mean((2, 3))) * self.fixed
        return x, x + 1, x.softmax(1), x.amax(1), x - 1


@pytest.fixture
def trace():
    """The trace itself, which counts its calls."""
    own = inspect.unwrap(tracing._trace)

    def counted(*arguments):
        counted.calls += 1
        return own(*arguments)

    counted.calls = 0
    return counted


def test_weights_are_put_into_a_trace_of_others(trace, tmp_path):
    graphs = [traced(trace, Small(seed).eval(), 8, 20, tmp_path) for seed in (0, 1)]
    assert trace.calls == 1
    own = trace(Small(1).eval(), 8, 20)
    assert [node.op_type for node in graphs[1].graph.node] == [node.op_type for node in own.graph.node]
    ours, theirs = ([numpy_helper.to_array(one) for one in g.graph.initializer] for g in (graphs[1], own))
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(one, other)
    images = np.random.default_rng(0).standard_normal((3, 3, 8, 8), dtype=np.float32)
    for name, values in run_onnx(own, images).items():
        np.testing.assert_array_equal(run_onnx(graphs[1], images)[name], values)
    assert tuple(output.name for output in graphs[1].graph.output) == OUTPUT_NAMES
    traced(trace, Small(1).eval(), 8, 20, tmp_path)
    assert trace.calls == 2  # the one above


def test_another_structure_is_traced_anew():
    def changed(change) -> str:
        model = Small(0).eval()
        change(model)
        return structure(model)

    usual = structure(Small(0).eval())
    assert structure(Small(1).eval()) == usual
    assert structure(Small(0, factor=3.0).eval()) != usual
    assert changed(lambda model: setattr(model.norm, "eps", 1e-3)) != usual
    assert changed(lambda model: setattr(model, "linear", nn.Linear(4, 7, bias=False))) != usual
    assert changed(lambda model: model.train()) != usual
    # what cannot be compared is not shared
    assert " at 0x" in changed(lambda model: setattr(model, "forward", lambda x: x))
