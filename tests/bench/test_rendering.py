"""The rendering bench counts what it renders."""

from __future__ import annotations

import cv2

from edgefel.bench import rendering


def test_the_row_says_what_was_timed(monkeypatch):
    monkeypatch.setattr(rendering, "FACES", 3)
    threads = cv2.getNumThreads()
    row = rendering.rendering_speed(size=64, rounds=2)
    assert (row["faces_per_round"], row["rounds"], row["size"]) == (3, 2, 64)
    assert 0 < row["faces_per_second_median"] <= row["faces_per_second_best"]
    assert cv2.getNumThreads() == threads
