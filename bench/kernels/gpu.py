"""Timing and ceilings on a CUDA device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from edgefel import __version__
from edgefel.bench.environment import commit
from edgefel.bench.kernels.problems import Work
from edgefel.bench.timer import TimingPlan, cuda_stopwatch, measure


@dataclass(frozen=True)
class Ceilings:
    """What the device reaches in this run: bytes, FP operations of matrix products and exponentials per second."""

    bytes_per_s: float
    flops_per_s: float
    exponentials_per_s: float

    def floor_ms(self, work: Work) -> float:
        """Lower bound on the time of `work`: the slowest of its three parts."""
        return 1e3 * max(
            work.bytes / self.bytes_per_s,
            work.flops / self.flops_per_s,
            work.exponentials / self.exponentials_per_s,
        )


def extra_memory(fn: Callable[[], Any]) -> int:
    """Peak bytes that `fn` allocates, its results included."""
    fn()
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    result = fn()
    torch.cuda.synchronize()
    del result
    return torch.cuda.max_memory_allocated() - before


def measure_ceilings(dtype: torch.dtype) -> Ceilings:
    """Bandwidth by a large copy, products by a large matrix product in `dtype`, exponentials in registers."""
    from edgefel.bench.kernels.exponentials import exponentials_kernel

    source = torch.empty(1 << 29, dtype=torch.int8, device="cuda")
    target = torch.empty_like(source)
    side = 8192
    a, b = (torch.randn(side, side, device="cuda", dtype=dtype) for _ in range(2))
    programs, width, rounds = 32 * torch.cuda.get_device_properties(0).multi_processor_count, 1024, 512
    out = torch.empty(programs * width, dtype=torch.float32, device="cuda")
    calls: dict[str, Callable[[], Any]] = {
        "copy": lambda: target.copy_(source),
        "product": lambda: a @ b,
        "exponentials": lambda: exponentials_kernel[(programs,)](out, ROUNDS=rounds, WIDTH=width),
    }
    timings = measure(calls, TimingPlan.exactly(20), cuda_stopwatch())
    work = {"copy": 2 * source.numel(), "product": 2 * side**3, "exponentials": programs * width * rounds}
    return Ceilings(*(count / (timings[name].p50 * 1e-3) for name, count in work.items()))


def describe_device() -> dict[str, Any]:
    """Device and versions; the commit is None outside a checkout."""
    import triton

    properties = torch.cuda.get_device_properties(0)
    return {
        "device": properties.name,
        "capability": f"{properties.major}.{properties.minor}",
        "multiprocessors": properties.multi_processor_count,
        "memory_gib": round(properties.total_memory / 2**30, 1),
        "torch": torch.__version__,
        "triton": triton.__version__,
        "cuda": torch.version.cuda,
        "edgefel": __version__,
        "commit": commit(),
    }
