"""Rows of the kernel bench."""

from __future__ import annotations

import pytest

from edgefel.bench.kernels.competitors import OURS
from edgefel.bench.kernels.suite import KernelRow


@pytest.fixture
def rows() -> list[KernelRow]:
    """Two problems by three implementations, one of which was not timed."""
    times = {("level 1", 1): (1.0, 2.0, 3.0), ("level 1", 8): (2.0, 1.0, None)}
    return [
        KernelRow(
            "window_cross_attention", problem, batch, "fp16", "forward", name, ms_p50=ms, ms_p90=ms, note="x"
        )
        for (problem, batch), group in times.items()
        for name, ms in zip((OURS, "eager", "flex"), group, strict=True)
    ]
