"""What the page computes over the frames of a stream, beside the runtime, in Chromium."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from edgefel.runtime.alignment import FaceBox
from edgefel.runtime.stream.smoothing import Smoother
from edgefel.runtime.stream.tracker import Tracker, assign
from edgefel.web.contract import box_dict


@pytest.mark.parametrize("apart", [4, 90], ids=["crossing", "in rows"])
def test_people_are_followed_alike(page, apart):
    """Four people who move, leave and come back, and false detections among them."""
    rng = np.random.default_rng(10)
    names = rng.normal(size=(4, 16)) * 3
    frames = []
    for number in range(90):
        boxes, embeddings = [], []
        for person in range(4):
            if (number // 25) % 4 == person and number % 25 > 15:
                continue  # away for 10 frames
            x = 200 + 150 * math.sin(number / 6 + person) + rng.normal(0, 2)
            boxes.append(
                FaceBox(
                    round(x), 60 + apart * person + round(rng.normal(0, 2)), 70 + int(rng.integers(-4, 4))
                )
            )
            embeddings.append((names[person] + rng.normal(size=16)).tolist())
        if number % 7 == 0:
            boxes.append(FaceBox(int(rng.integers(0, 500)), int(rng.integers(0, 300)), 40))
            embeddings.append(rng.normal(size=16).tolist())
        order = rng.permutation(len(boxes))
        frames.append(
            (
                number / 15 + rng.uniform(0, 0.02),
                [boxes[at] for at in order],
                [embeddings[at] for at in order],
            )
        )
    found = page.evaluate(
        """async (frames) => {
            const { Tracker } = await import("/runtime/tracking.js");
            const tracker = new Tracker();
            return frames.map((frame) => tracker.update(...frame).map((one) => one.number));
        }""",
        [(time, [box_dict(box) for box in boxes], rows) for time, boxes, rows in frames],
    )
    tracker = Tracker()
    expected = [
        [track.number for track in tracker.update(time, boxes, np.array(rows, np.float32))]
        for time, boxes, rows in frames
    ]
    assert found == expected
    assert max(map(max, expected)) >= 4


def test_pairs_have_the_least_cost(page):
    rng = np.random.default_rng(11)
    tables = []
    for _ in range(200):
        costs = rng.uniform(0, 2, rng.integers(1, 6, 2))
        costs[rng.random(costs.shape) < 0.4] = np.inf
        tables.append(costs.tolist())
    tables.append([[]])

    def total(costs: list[list[float]], pairs: list[Any]) -> tuple[int, float]:
        return len(pairs), sum(costs[row][column] for row, column in pairs)

    # JSON has no infinity
    sent = [[[None if cost == math.inf else cost for cost in row] for row in costs] for costs in tables]
    infinite = """async (tables) => {
        const { assign } = await import("/runtime/tracking.js");
        return tables.map((costs) => assign(costs.map((row) => row.map((cost) => cost ?? Infinity))));
    }"""
    for costs, pairs in zip(tables, page.evaluate(infinite, sent), strict=True):
        assert len({row for row, _ in pairs}) == len({column for _, column in pairs}) == len(pairs)
        count, cost = total(costs, assign(costs))
        assert total(costs, pairs) == (count, pytest.approx(cost))


@pytest.mark.parametrize("seconds", [0.0, 0.2, 1.5])
def test_distributions_are_averaged_alike(page, seconds):
    rng = np.random.default_rng(12)
    frames = []
    for number in range(40):
        shares, primary = rng.dirichlet(np.full(5, 0.4), 2)
        frames.append(
            (number / 20 * rng.uniform(0.9, 1.1), shares.tolist(), primary.tolist(), *rng.random(2))
        )
    found = page.evaluate(
        """async ([seconds, frames]) => {
            const { Smoother } = await import("/runtime/smoothing.js");
            const smoother = new Smoother(seconds);
            return frames.map(([time, probabilities, primary, confidence, quality]) =>
                Object.values(smoother.update(time, { probabilities, primary, confidence, quality })));
        }""",
        [seconds, frames],
    )
    smoother = Smoother(seconds)
    for frame, result in zip(frames, found, strict=True):
        for value, expected in zip(result, smoother.update(*frame), strict=True):
            np.testing.assert_allclose(value, expected, atol=1e-12)
