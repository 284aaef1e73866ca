"""Buckets of tokens."""

from __future__ import annotations

from edgefel.serve import rates
from edgefel.serve.rates import Rates


def test_a_burst_then_the_rate():
    now = [100.0]
    bucket = Rates(2.0, 3, lambda: now[0])
    assert [bucket.take("a") for _ in range(4)] == [0, 0, 0, 0.5]
    assert bucket.take("b") == 0
    now[0] += 0.5
    assert [bucket.take("a") for _ in range(2)] == [0, 0.5]
    now[0] += 1000
    assert [bucket.take("a") for _ in range(4)] == [0, 0, 0, 0.5]


def test_no_rate_is_no_limit_and_no_memory():
    bucket = Rates(0, 1)
    assert not any(bucket.take(str(number)) for number in range(100))
    assert not bucket._buckets


def test_memory_is_bounded(monkeypatch):
    monkeypatch.setattr(rates, "_MOST_CLIENTS", 5)
    bucket = Rates(1.0, 2)
    for number in range(50):
        bucket.take(str(number))
    assert list(bucket._buckets) == ["45", "46", "47", "48", "49"]
