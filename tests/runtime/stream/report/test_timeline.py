"""One person over time: segments, changes, averages, and that none of it grows without bound."""

from __future__ import annotations

import math

import numpy as np
import pytest
from seen_people import LABELS, tracked

from edgefel.runtime.stream.report import timeline
from edgefel.runtime.stream.report.timeline import HOLD, MOST_BINS, Bins, Person


def watched(labels: list[str], dt: float = 0.1, start: float = 0.0, **how) -> Person:
    """A person with one label in each frame."""
    person = Person(1, LABELS, start)
    for index, label in enumerate(labels):
        person.see(start + index * dt, tracked(1, label, **how))
        person.hold(start + (index + 1) * dt)
    return person


def test_segments_begin_when_the_label_changes_and_end_when_the_next_begins():
    person = watched(["neutral"] * 7 + ["anger"] * 3 + ["neutral"] * 5, start=2.0)
    assert [(one.label, round(one.begin, 6), round(one.end, 6)) for one in person.segments] == [
        ("neutral", 2.0, 2.7),
        ("anger", 2.7, 3.0),
        ("neutral", 3.0, 3.5),
    ]
    assert (person.changes, person.frames) == (2, 15)
    assert person.seconds == pytest.approx(1.5)
    assert [round(share.value, 6) for share in person.shares] == [0.8, 0.0, 0.2, 0.0]
    assert person.top.label == "neutral"


def test_a_segment_has_the_averages_of_its_time():
    person = Person(1, LABELS, 0.0)
    for begin, end, probability, quality in ((0.0, 0.1, 0.9, 1.0), (0.1, 0.4, 0.5, 0.6)):
        person.see(begin, tracked(1, "anger", probability, quality=quality))
        person.hold(end)
    assert person.segments[0].to_dict() == {
        "begin": 0.0,
        "end": 0.4,
        "label": "anger",
        "probability": 0.6,
        "confidence": 0.6,
        "quality": 0.7,
    }
    assert person.quality == 0.7


def test_an_unsure_face_is_a_label_of_its_own():
    person = watched(["anger"] * 4, sure=False)
    assert [one.label for one in person.segments] == ["unsure"]
    assert person.shares[-1].label == "unsure"
    assert person.shares[-1].value == 1
    # the best guess
    assert person.segments[0].to_dict()["probability"] == 0.8


def test_out_of_sight_is_not_seen_but_does_not_end_a_label():
    person = Person(1, LABELS, 0.0)
    person.see(0.0, tracked(1, "anger"))
    person.hold(0.1)
    person.see(0.8, tracked(1, "anger"))
    person.hold(0.9)
    assert person.seconds == pytest.approx(0.2)
    assert [(one.begin, one.end) for one in person.segments] == [(0.0, 0.9)]
    assert person.changes == 0
    edges, averages = person.averages()
    assert len(edges) == len(averages) + 1 == 10
    assert np.isnan(averages[3]).all()
    assert averages[0] == pytest.approx([0.1, 0.1, 0.8, 0.6, 0.9])


def test_a_face_counts_as_seen_for_a_second_at_most():
    """As with a source that was away."""
    person = watched(["anger"])
    person.see(0.2, tracked(1, "anger"))
    person.hold(60.0)
    assert person.last == pytest.approx(0.2 + HOLD)
    assert person.seconds == pytest.approx(0.1 + HOLD)


def test_without_a_quality_there_is_none():
    person = watched(["anger"] * 3, quality=None)
    assert person.quality is None
    assert person.segments[0].to_dict()["quality"] is None
    assert person.confidence == 0.6


def test_bins_double_their_width_and_lose_nothing():
    bins, rng = Bins(2), np.random.default_rng(0)
    time, begin = 37.23, 37.23
    lengths = rng.uniform(0.01, 0.9, 3000)
    values = rng.random((3000, 2))
    for length, value in zip(lengths, values, strict=True):
        bins.add(time, time + length, value)
        time += length
    assert bins.sums.sum(axis=0) == pytest.approx((lengths[:, None] * values).sum(axis=0))
    assert len(bins.sums) <= MOST_BINS
    assert bins.width == 0.1 * 2 ** math.ceil(math.log2((time - begin) / 0.1 / MOST_BINS))
    edges = bins.edges
    assert edges[0] <= begin < edges[1]
    assert edges[-2] < time <= edges[-1] + 1e-9
    # each bin has what belongs to its time
    ends = begin + np.cumsum(lengths)
    for left, right, row in zip(edges[:-1], edges[1:], bins.sums, strict=True):
        overlaps = np.clip(np.minimum(ends, right) - np.maximum(ends - lengths, left), 0, None)
        assert row == pytest.approx(overlaps @ values, abs=1e-9)


def test_averages_can_be_had_in_fewer_bins():
    person = watched(["neutral"] * 30 + ["anger"] * 31)
    edges, fine = person.averages()
    coarse_edges, coarse = person.averages(16)
    assert (len(fine), len(coarse)) == (61, 16)
    assert coarse_edges[[0, -1]] == pytest.approx(edges[[0, -1]])
    assert coarse[0] == pytest.approx(fine[:4].mean(axis=0))


def test_many_segments_are_merged_the_shortest_first(monkeypatch):
    monkeypatch.setattr(timeline, "MOST_SEGMENTS", 40)
    person, time, turns = Person(1, LABELS, 0.0), 0.0, []
    for number in range(200):
        # 1.5 s of one label, then a flicker of 15 frames; then 1.5 s of another label
        long = number % 16 == 0
        label = LABELS[number // 16 % 3] if long else LABELS[number % 2]
        if long:
            turns.append((time, label))
        for _ in range(30 if long else 1):
            person.see(time, tracked(1, label))
            time += 0.05
            person.hold(time)
    assert len(person.segments) <= 40
    assert person.least > 0
    # nothing else is merged: shares and changes are those of every frame
    assert person.changes > 150
    assert sum(share.seconds for share in person.shares) == pytest.approx(time)
    for before, after in zip(person.segments, person.segments[1:], strict=False):
        assert before.end == pytest.approx(after.begin)
    assert person.segments[-1].end == pytest.approx(time)
    for turn, label in turns:
        (shown,) = [one for one in person.segments if one.begin < turn + 0.75 < one.end]
        assert shown.label == label
        assert shown.end - shown.begin >= 1.5
