"""Clocks of the timer."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch

from edgefel.bench.timer import FLUSH_BYTES, cpu_stopwatch, cuda_stopwatch


def test_a_call_takes_what_the_clock_says():
    now = iter([100, 350])
    ran = []
    assert cpu_stopwatch(lambda: next(now))(lambda: ran.append(1)) == 250
    assert ran == [1]


def test_the_real_clock_counts_nanoseconds():
    assert 5e6 <= cpu_stopwatch()(lambda: time.sleep(0.005)) < 5e9


def test_flushing_writes_over_more_than_any_cache_and_is_not_timed(monkeypatch):
    """Before each call every byte of the buffer was written, and the clock was not running meanwhile."""
    events = []

    class Spy(np.ndarray):
        def __iadd__(self, other):
            events.append(f"write {self.nbytes}")
            return super().__iadd__(other)

    zeros = np.zeros
    monkeypatch.setattr(np, "zeros", lambda *arguments: zeros(*arguments).view(Spy))

    def clock() -> int:
        events.append("clock")
        return len(events)

    watch = cpu_stopwatch(clock, flush=True)
    for _ in range(2):
        watch(lambda: events.append("call"))
    assert events == [f"write {FLUSH_BYTES}", "clock", "call", "clock"] * 2
    assert FLUSH_BYTES >= 200e6


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("flush", [False, True])
def test_a_gpu_is_timed_by_its_own_events(flush):
    a = torch.randn(2048, 2048, device="cuda")
    watch = cuda_stopwatch(flush=flush)
    watch(lambda: a @ a)
    one = min(watch(lambda: a @ a) for _ in range(5))
    ten = min(watch(lambda: [a @ a for _ in range(10)]) for _ in range(5))
    assert 3 * one < ten
