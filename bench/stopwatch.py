"""Clocks of the timer: CPU time by `perf_counter`, GPU time by CUDA events."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

Clock = Callable[[], int]

# larger than any last-level cache, so that every run finds its inputs in memory
FLUSH_BYTES = 256 << 20


class Stopwatch(Protocol):
    """Measures one call."""

    def time(self, fn: Callable[[], Any]) -> int:
        """Nanoseconds that `fn()` takes until its work is done."""
        ...


class CpuStopwatch:
    """`perf_counter`; flush: writes over the caches before each call, outside the measured time."""

    def __init__(self, clock: Clock = time.perf_counter_ns, *, flush: bool = False) -> None:
        self._clock = clock
        self._flush = np.zeros(FLUSH_BYTES // 8, np.int64) if flush else None

    def time(self, fn: Callable[[], Any]) -> int:
        if self._flush is not None:
            self._flush += 1
        start = self._clock()
        fn()
        return self._clock() - start


class CudaStopwatch:
    """CUDA events of torch's current stream, on which `fn` must queue its work.

    flush: writes over the cache before each call. That also keeps the GPU busy while Python prepares the
    launch, so that only the GPU's time is measured.
    """

    def __init__(self, *, flush: bool = True) -> None:
        import torch

        self._torch = torch
        self._flush = torch.empty(FLUSH_BYTES, dtype=torch.int8, device="cuda") if flush else None

    def time(self, fn: Callable[[], Any]) -> int:
        start, end = (self._torch.cuda.Event(enable_timing=True) for _ in range(2))
        if self._flush is not None:
            self._flush.zero_()
        start.record()
        fn()
        end.record()
        end.synchronize()
        return round(1e6 * start.elapsed_time(end))
