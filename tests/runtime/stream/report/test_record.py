"""What is kept of a whole stream, and how much."""

from __future__ import annotations

import pytest
from seen_people import LABELS, played, result_at, tracked

from edgefel.runtime.stream.report import record as record_module
from edgefel.runtime.stream.report.record import StreamRecord


def recorded(results, **how) -> StreamRecord:
    record = StreamRecord(LABELS, **how)
    for result in results:
        record.add(result)
    record.close()
    return record


def test_people_cuts_and_frames():
    scripts = [[(0, 3, "anger")], [(1, 6, "neutral")], [(3, 6, "anger")]]
    record = recorded(played(scripts, 6, cuts=[3.0]))
    found = [(person.number, round(person.began, 6), round(person.last, 6)) for person in record.people]
    assert found == [(1, 0, 3), (2, 1, 3), (2, 3, 6), (3, 3, 6)]  # 2 by mistake, as no tracker would
    assert record.cuts == [3.0]
    assert (record.cut_count, record.frames, record.lost, record.together) == (1, 60, 0, 2)
    assert (record.began, record.ended) == (0.0, pytest.approx(6.0))
    assert record.all.seconds == pytest.approx(3 + 2 + 3 + 3)


def test_what_is_seen_lasts_until_the_next_frame_that_came():
    """Frames 1 to 4 were dropped; the last frame lasts as long as the one before."""
    record = recorded([result_at(index, index / 10, [tracked(1, "anger")]) for index in (0, 5, 6)])
    (person,) = record.people
    assert record.lost == 4
    assert person.seconds == pytest.approx(0.7)
    assert record.ended == pytest.approx(0.7)


def test_who_leaves_a_frame_is_not_seen_any_more():
    scripts = [[(0, 1, "anger"), (1.5, 2, "neutral")]]
    (person,) = recorded(played(scripts, 3)).people
    assert person.seconds == pytest.approx(1.5)
    assert [(one.label, round(one.begin, 6)) for one in person.segments] == [("anger", 0), ("neutral", 1.5)]


def test_who_has_gone_is_told_at_once_and_of_all_the_longest_stay(monkeypatch):
    monkeypatch.setattr(record_module, "MOST_PEOPLE", 3)
    told: list[tuple[int, float]] = []
    record = StreamRecord(LABELS, gone=lambda person: told.append((person.number, now)))
    scripts = [[(5 * number, 5 * number + 0.5 + number % 4, "unsure")] for number in range(8)]
    for result in played(scripts, 40):
        now = result.time
        record.add(result)
    assert [number for number, _ in told] == list(range(1, 8))
    for number, time in told:
        assert 5 * (number - 1) + 0.5 < time < 5 * number + 3
    record.close()
    assert len(told) == 8
    assert [person.number for person in record.people] == [3, 4, 8]
    assert (record.all.people, record.others.people) == (8, 5)
    assert record.all.seconds == record.all.unsure == pytest.approx(2 * (0.5 + 1.5 + 2.5 + 3.5))
    assert record.others.seconds == pytest.approx(0.5 + 1.5 + 0.5 + 1.5 + 2.5)


def test_a_stream_of_hours_takes_no_more_memory_than_a_short_one():
    """Two hours of someone whose label changes in every frame, while 1,600 others pass."""
    from edgefel.runtime.stream.report.timeline import MOST_BINS, MOST_SEGMENTS

    record = StreamRecord(LABELS)
    for index in range(8_000):
        record.add(result_at(index, 0.9 * index, [tracked(1, LABELS[index % 3])]))
        if index % 5 == 4:
            record.add(result_at(index, 0.9 * index, [tracked(2 + index, "anger")], cut=False))
    record.close()
    assert len(record.people) == record_module.MOST_PEOPLE
    assert record.all.people == 1601
    longest = max(record.people, key=lambda person: person.seconds)
    assert len(longest.segments) <= MOST_SEGMENTS
    assert len(longest.averages()[0]) <= MOST_BINS + 1
    assert longest.seconds == pytest.approx(0.9 * 8_000, rel=0.21)
    assert len(record._there) == 0


def test_cuts_are_counted_beyond_those_that_are_kept(monkeypatch):
    monkeypatch.setattr(record_module, "MOST_CUTS", 2)
    record = recorded(played([], 3, cuts=[1, 1.5, 2]))
    assert (record.cuts, record.cut_count) == ([1.0, 1.5], 3)
    assert not record.people


def test_nothing_was_seen():
    record = recorded([])
    assert (record.frames, record.people, record.all.people) == (0, [], 0)
