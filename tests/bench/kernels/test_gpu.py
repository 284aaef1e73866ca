"""Ceilings of a device, and the floor that they give."""

from __future__ import annotations

import pytest
import torch

from edgefel.bench.kernels.gpu import Ceilings, describe_device, extra_memory, measure_ceilings
from edgefel.bench.kernels.problems import Work


def test_the_slowest_part_of_the_work_is_the_floor():
    ceilings = Ceilings(bytes_per_s=1e9, flops_per_s=1e12, exponentials_per_s=1e10)
    assert ceilings.floor_ms(Work(bytes=2e9, flops=1e12, exponentials=1e10)) == 2000
    assert ceilings.floor_ms(Work(bytes=1e9, flops=1e12, exponentials=3e10)) == 3000


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_ceilings_and_memory_of_this_gpu():
    ceilings = measure_ceilings(torch.float16)
    assert 1e10 < ceilings.bytes_per_s < 1e14
    assert 1e12 < ceilings.flops_per_s < 1e16
    assert ceilings.exponentials_per_s > 1e11
    assert extra_memory(lambda: torch.empty(1 << 20, device="cuda")) >= 4 << 20
    assert describe_device()["device"]
