"""Clips with known cuts: what they are, and that nearly all cuts are found and little else."""

from __future__ import annotations

import numpy as np
import pytest

from edgefel.bench.experiments.cut_detection import KINDS, judge, score, shots


@pytest.fixture(scope="module")
def counts() -> dict[str, dict[str, int]]:
    return judge(range(4))


def test_hits_and_false_ones():
    assert score([10, 11, 30], [range(8, 12), range(20, 24)]) == (1, 2)
    assert score([], [range(3, 7)]) == (0, 0)


@pytest.mark.parametrize("kind", KINDS)
def test_cuts_lie_within_the_clip(kind):
    frames, cuts = KINDS[kind](shots(5), np.random.default_rng(0))
    assert {(frame.shape, frame.dtype) for frame in frames} == {((144, 256, 3), np.dtype(np.uint8))}
    assert all(0 < cut[0] < len(frames) for cut in cuts)
    assert bool(cuts) == kind.startswith(("cuts", "fades", "dissolves"))


def test_nearly_all_cuts_are_found_and_little_else(counts):
    hard = [count for kind, count in counts.items() if kind.startswith("cuts")]
    calm = [count for count in counts.values() if not count["cuts"]]
    assert counts["cuts"]["found"] >= 0.9 * counts["cuts"]["cuts"]
    assert sum(count["found"] for count in hard) >= 0.85 * sum(count["cuts"] for count in hard)
    assert sum(count["false"] for count in hard) <= 0.05 * sum(count["cuts"] for count in hard)
    assert sum(count["false"] for count in calm) <= 0.05 * sum(count["clips"] for count in calm)
