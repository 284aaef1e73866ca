"""The kernel that measures exponentials, in Triton's interpreter."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("triton")


@pytest.mark.skipif(torch.cuda.is_available(), reason="the interpreter is for machines without a GPU")
def test_every_element_gets_its_rounds_of_exponentials():
    from edgefel.bench.kernels.exponentials import exponentials_kernel

    found = torch.empty(2 * 16)
    exponentials_kernel[(2,)](found, ROUNDS=3, WIDTH=16)
    expected = torch.arange(32, dtype=torch.float32) * 1e-9
    for _ in range(3):
        expected = torch.exp2(-expected)
    torch.testing.assert_close(found, expected)
