"""Which row is recommended, and in what words."""

from __future__ import annotations

import dataclasses

from bench_rows import compared, row

from edgefel.bench.report.headline import choose


def contender(model: str, ms: float, accuracy: float | None = None, *, stable: bool = True, batch: int = 1):
    metrics = compared(ms, accuracy=accuracy)
    metrics["latency_ms"] |= {"stable": stable}
    return row(subject={"model": model, "batch": batch}, metrics=metrics)


def test_recommended_is_the_fastest_stable_one_that_is_accurate_enough():
    best = contender("best", 10, 0.921)
    rows = [
        contender("slow", 20, 0.930),
        best,
        contender("unstable", 5, 0.930, stable=False),
        contender("inaccurate", 4, 0.919),
        contender("unjudged", 3),
        contender("batched", 2, 0.930, batch=8),
    ]
    found = choose(rows)
    assert found.best is best
    assert found.text.startswith("Run best: 10.0 ms an image (95 % interval ")
    assert (
        "accuracy 92.1 %, 0.9 points below the most accurate, 14.5× as fast as poster-v2 fp32 pytorch."
        in found.text
    )
    assert choose(rows, most_drop=1.1).best is rows[3]
    assert choose(rows, most_drop=0.5).best is rows[0]


def test_nothing_is_recommended_without_accuracy_or_stability():
    assert "No accuracy was measured" in choose([contender("a", 5)]).text
    found = choose([contender("a", 5, 0.9, stable=False)])
    assert found.best is None
    assert "stable" in found.text
    assert choose([row("train", {"model": "a"}, {"images_per_s": 3})]).best is None


def test_a_file_that_failed_its_comparison_is_never_recommended():
    fast, slow = contender("a", 5.0, 0.9), contender("b", 9.0, 0.9)
    refused = dataclasses.replace(fast, metrics={**fast.metrics, "verdict": "fail"})
    passed = dataclasses.replace(fast, metrics={**fast.metrics, "verdict": "pass"})
    assert choose([passed, slow]).best == passed
    assert choose([refused, slow]).best == slow
    assert choose([refused]).best is None
