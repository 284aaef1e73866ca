"""Smoothed probabilities: their formula, independence of the frame rate, and what confidence does."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgefel.errors import EdgefelError
from edgefel.runtime.stream.smoothing import LEAST_WEIGHT, Smoothed, Smoother

HAPPY = [0.05, 0.9, 0.05]
SAD = [0.05, 0.05, 0.9]
TORN = [0.4, 0.3, 0.3]


def test_the_formula():
    smoother = Smoother(0.4)
    smoother.update(1.0, HAPPY, TORN, 0.5)
    smoothed = smoother.update(1.1, SAD, HAPPY, 0.25)
    happy, sad, torn = (np.array(values) for values in (HAPPY, SAD, TORN))
    weight = 1 - np.exp(-0.1 / 0.4 * (LEAST_WEIGHT + (1 - LEAST_WEIGHT) * 0.25))
    assert smoothed.probabilities == pytest.approx(happy + weight * (sad - happy), rel=1e-9)
    assert smoothed.primary == pytest.approx(torn + weight * (happy - torn), rel=1e-9)
    entropy = -sum(value * np.log(value) for value in smoothed.probabilities)
    assert smoothed.confidence == pytest.approx(1 - entropy / np.log(3), abs=1e-9)


def label(smoothed: Smoothed) -> int:
    return smoothed.probabilities.index(max(smoothed.probabilities))


def change_after(fps: float, confidence: float, seconds: float = 0.25) -> float:
    """Seconds from a change of face to the change of label."""
    smoother = Smoother(seconds)
    for frame in range(round(2 * fps)):
        smoother.update(frame / fps - 2, HAPPY, HAPPY, confidence)
    for frame in range(round(20 * fps)):
        if label(smoother.update(frame / fps, SAD, SAD, confidence)) == 2:
            return frame / fps
    raise AssertionError("the label never changed")


def test_frame_rate_makes_no_difference_beyond_a_frame():
    assert change_after(200, 0.9) == pytest.approx(change_after(10, 0.9), abs=0.11)


def test_a_sure_face_changes_its_label_in_time():
    assert change_after(30, 0.9) == pytest.approx(0.7 * 0.25 / 0.92, abs=1.5 / 30)


def test_confidence_decides_how_much_a_frame_counts():
    assert change_after(100, 0.0) == pytest.approx(change_after(100, 1.0) / LEAST_WEIGHT, abs=0.1)


def test_a_single_odd_frame_does_not_change_the_label():
    smoother = Smoother(0.25)
    labels = [
        label(smoother.update(frame / 30, *(2 * [SAD if frame == 20 else HAPPY]), 0.9)) for frame in range(40)
    ]
    assert set(labels) == {1}


def test_without_smoothing_each_frame_is_taken_as_it_is():
    smoother = Smoother(0)
    smoother.update(0, HAPPY, HAPPY, 0.9)
    assert smoother.update(0, SAD, SAD, 0.0).probabilities == pytest.approx(SAD)


@pytest.mark.parametrize("seconds", [-0.1, float("nan"), float("inf")])
def test_impossible_time_constants(seconds):
    with pytest.raises(EdgefelError, match="smoothing of"):
        Smoother(seconds)


def test_a_confidence_that_rounding_brought_above_1_counts_as_1():
    averages = []
    for confidence in (1.0, 1.5):
        smoother = Smoother(0.2)
        smoother.update(0, HAPPY, HAPPY, confidence)
        averages.append(smoother.update(0.1, SAD, SAD, confidence).probabilities)
    assert averages[0] == averages[1]


def test_where_time_falls_the_average_stays():
    smoother = Smoother(0.2)
    smoother.update(10, HAPPY, HAPPY, 0.9)
    assert smoother.update(3, SAD, SAD, 0.9).probabilities == pytest.approx(HAPPY)
    assert smoother.update(3.2, SAD, SAD, 0.9).probabilities[2] > 0.5


@pytest.mark.parametrize("confidence", [0.0, 1.0])
def test_the_quality_is_averaged_whatever_the_confidence(confidence):
    smoother = Smoother(0.4)
    assert smoother.update(1.0, HAPPY, HAPPY, confidence, 0.9).quality == 0.9
    smoothed = smoother.update(1.1, HAPPY, HAPPY, confidence, 0.1)
    assert smoothed.quality == pytest.approx(0.9 + (1 - math.exp(-0.25)) * (0.1 - 0.9))
    assert Smoother(0).update(0, HAPPY, HAPPY, confidence, 0.3).quality == 0.3
