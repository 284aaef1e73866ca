"""Triton's interpreter in the tests: what it replaces in `triton.language`, it replaces once for each launch."""

from __future__ import annotations

import os

import pytest
import torch
import triton
import triton.language as tl
from triton.runtime import interpreter

pytestmark = pytest.mark.skipif(
    os.environ.get("TRITON_INTERPRET") != "1", reason="kernels are compiled for the GPU that is here"
)


@triton.jit
def double(x):
    return tl.sum(x, axis=1) * 2


@triton.jit
def kernel(x_ptr, out_ptr, times: tl.constexpr):
    rows = tl.arange(0, 4)
    x = tl.load(x_ptr + rows[:, None] * 8 + tl.arange(0, 8)[None, :])
    total = tl.zeros((4,), tl.float32)
    for _ in range(times):
        total += double(x)
    tl.store(out_ptr + rows, total)


@pytest.mark.parametrize("times", [1, 20])
def test_device_functions_find_the_language_replaced(times, monkeypatch):
    replaced = []
    original = interpreter._patch_builtin

    def counted(package, *arguments):
        replaced.append(package)
        return original(package, *arguments)

    monkeypatch.setattr(interpreter, "_patch_builtin", counted)
    x, out = torch.randn(4, 8), torch.full((4,), float("nan"))
    for _ in range(2):
        kernel[(1,)](x, out, times)
        torch.testing.assert_close(out, 2 * times * x.sum(1))
        # for the next launch everything is as it was
        assert tl.core.is_builtin(tl.load)
    assert replaced.count(tl) == 2
