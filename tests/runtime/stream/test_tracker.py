"""Tracks: one number per person through movement, gaps, crossings and chance finds."""

from __future__ import annotations

import numpy as np
import pytest

from edgefel.errors import EdgefelError
from edgefel.runtime.alignment import FaceBox
from edgefel.runtime.stream.tracker import Square, Tracker, TrackerOptions


def box(x: float, y: float = 100, side: float = 80) -> FaceBox:
    return FaceBox(round(x), round(y), round(side))


def embedding(kind: int) -> np.ndarray:
    return np.eye(4, dtype=np.float32)[kind] + 0.05


def numbers(tracker: Tracker, time: float, boxes: list[FaceBox], kinds: list[int] | None = None) -> list[int]:
    rows = None if kinds is None else np.stack([embedding(kind) for kind in kinds])
    return [track.number for track in tracker.update(time, boxes, rows)]


def test_two_people_keep_their_numbers_whatever_the_order_of_the_boxes():
    tracker = Tracker()
    numbers(tracker, 0, [box(100), box(400)])
    for frame in range(1, 60):
        boxes = [box(100 + 2 * frame), box(400 - 2 * frame)]
        found = numbers(tracker, frame / 30, boxes if frame % 2 else boxes[::-1])
        assert found == ([1, 2] if frame % 2 else [2, 1])
    assert tracker.count == 2


def test_a_chance_find_never_gets_a_number():
    tracker = Tracker()
    assert numbers(tracker, 0.0, [box(0), box(300)]) == [0, 0]
    assert numbers(tracker, 0.1, [box(0)]) == [1]
    assert numbers(tracker, 0.2, [box(0), box(300)]) == [1, 0]
    assert tracker.count == 1


def test_a_face_that_moves_fast_is_expected_where_it_goes():
    """60 pixels a frame is three quarters of the box: without its speed it would overlap nothing."""
    tracker = Tracker(TrackerOptions(reach=0))
    x, speed, found = 0.0, 0.0, []
    for frame in range(30):
        found.append(numbers(tracker, frame / 30, [box(x)])[0])
        speed = min(60, speed + 5)
        x += speed
    assert set(found[1:]) == {1}


def test_a_face_out_of_sight_for_a_while_is_known_again():
    tracker = Tracker(TrackerOptions(patience=1))
    for frame in range(10):
        numbers(tracker, frame / 30, [box(100)], [0])
    assert numbers(tracker, 1.2, [box(170)], [0]) == [1]


def test_after_its_patience_it_is_somebody_new():
    tracker = Tracker(TrackerOptions(patience=0.5))
    for frame in range(10):
        numbers(tracker, frame / 30, [box(100)])
    numbers(tracker, 1.2, [box(100)])
    assert numbers(tracker, 1.3, [box(100)]) == [2]


def test_who_comes_where_another_went_is_told_by_the_embedding():
    """Out of reach of the overlap, a likeness is needed; without it the place alone does not make a track."""
    for kind, expected in ((0, 1), (1, 2)):
        tracker = Tracker()
        for frame in range(10):
            numbers(tracker, frame / 30, [box(100)], [0])
        numbers(tracker, 0.6, [box(175)], [kind])
        assert numbers(tracker, 0.65, [box(175)], [kind]) == [expected]


def test_the_embedding_decides_between_two_faces_that_overlap_alike():
    tracker = Tracker()
    for frame in range(5):
        numbers(tracker, frame / 30, [box(100), box(140)], [0, 1])
    # both boxes lie in the middle between the two tracks
    assert numbers(tracker, 5 / 30, [box(121), box(119)], [0, 1]) == [1, 2]
    tracker = Tracker()
    for frame in range(5):
        numbers(tracker, frame / 30, [box(100), box(140)])
    assert numbers(tracker, 5 / 30, [box(121), box(119)]) == [2, 1]


def test_forty_faces():
    tracker = Tracker()
    places = [(100 * (number % 8), 100 * (number // 8)) for number in range(40)]
    for frame in range(4):
        found = numbers(tracker, frame / 30, [box(x + frame, y, 60) for x, y in places])
    assert found == list(range(1, 41))


def test_nobody_and_reset():
    tracker = Tracker(TrackerOptions(confirm=1))
    assert numbers(tracker, 0, []) == []
    assert numbers(tracker, 0.1, [box(0)]) == [1]
    tracker.reset()
    assert numbers(tracker, 0.2, [box(0)]) == [2]


def test_what_is_gone_is_forgotten():
    tracker = Tracker(TrackerOptions(confirm=1))
    for frame in range(500):
        tracker.update(frame / 10, [box(1000 * frame)])
    assert len(tracker.tracks) <= 11


@pytest.mark.parametrize("changes", [{"confirm": 0}, {"patience": -1}, {"reach": float("nan")}])
def test_options_that_make_no_sense(changes):
    with pytest.raises(EdgefelError, match="tracker: "):
        TrackerOptions(**changes)


@pytest.mark.parametrize("gap", [1, 3, 10])
def test_a_moving_face_that_is_not_found_for_some_frames(gap):
    tracker = Tracker()
    found = [
        numbers(tracker, frame / 30, [box(4 * frame)]) for frame in range(60) if not 20 <= frame < 20 + gap
    ]
    assert found[1:] == [[1]] * (59 - gap)


def test_two_frames_that_come_at_once_say_nothing_of_the_speed():
    """A camera hands out what it held back; from 6 pixels in a millisecond comes no speed of 6 pixels a millisecond."""
    tracker = Tracker()
    for frame in range(10):
        numbers(tracker, frame / 30, [box(100)])
    numbers(tracker, 9 / 30 + 0.001, [box(106)])
    (track,) = tracker.tracks
    assert track.expected(10 / 30)[0] == pytest.approx(106 + 40, abs=5)
    assert numbers(tracker, 10 / 30, [box(106)]) == [1]


@pytest.mark.parametrize("fps", [5, 30, 120])
def test_the_speed_is_learnt_in_the_same_time_at_any_rate(fps):
    tracker = Tracker()
    for frame in range(fps // 5 + 1):
        tracker.update(frame / fps, [FaceBox(round(1000 * frame / fps), 100, 800)])
    (track,) = tracker.tracks
    speed = (track.expected(0.3).x - track.expected(0.2).x) / 0.1
    assert speed == pytest.approx(1000 * (1 - np.exp(-0.2 / 0.1)), rel=0.02)


def test_out_of_sight_a_face_keeps_about_its_size():
    tracker = Tracker()
    for frame in range(12):
        tracker.update(frame / 30, [box(100, 100, 200 - 12 * frame)])
    (track,) = tracker.tracks
    assert track.square[2] == 68
    assert track.expected(2.0)[2] == pytest.approx(68 / 1.5)


def test_a_clock_that_is_set_back_loses_nobody_and_keeps_nobody_for_ever():
    tracker = Tracker(TrackerOptions(patience=0.5))
    for frame in range(10):
        numbers(tracker, 1000 + frame / 30, [box(100 + 3 * frame), box(400)])
    assert numbers(tracker, 5.0, [box(130)]) == [1]
    assert tracker.tracks[0].began == 5.0
    numbers(tracker, 5.6, [box(130)])
    assert len(tracker.tracks) == 1


def test_an_embedding_that_is_missing_or_not_finite_is_ignored():
    tracker = Tracker()
    for frame in range(10):
        numbers(tracker, frame / 30, [box(100)], [0])
    tracker.update(10 / 30, [box(100)], np.full((1, 4), np.nan, np.float32))
    numbers(tracker, 11 / 30, [box(100)])
    # beyond the overlap: known by what was learnt before
    assert numbers(tracker, 0.8, [box(175)], [0]) == [1]


def test_out_of_sight_a_face_moves_on_for_half_a_second():
    tracker = Tracker()
    for frame in range(30):
        numbers(tracker, frame / 30, [box(3 * frame)])
    (track,) = tracker.tracks
    moved = [track.expected(29 / 30 + seconds)[0] - track.square[0] for seconds in (0.25, 0.5, 5)]
    assert moved == pytest.approx([22.5, 45, 45], abs=1)


def test_it_is_kept_for_its_whole_patience():
    for seconds, number in ((1.0, 1), (1.01, 2)):
        tracker = Tracker(TrackerOptions(patience=1, confirm=1))
        numbers(tracker, 0, [box(100)])
        assert numbers(tracker, seconds, [box(100)]) == [number]


@pytest.mark.parametrize(
    ("found", "number"),
    [(box(170, 100, 80), 1), (box(185, 100, 80), 2), (box(130, 130, 20), 2), (box(160, 100, 121), 2)],
    ids=["in reach", "too far", "too small", "too large"],
)
def test_beyond_the_overlap_a_likeness_counts_for_faces_of_like_size_in_reach(found, number):
    tracker = Tracker(TrackerOptions(confirm=1, least_overlap=0.3))
    for frame in range(3):
        numbers(tracker, frame / 30, [box(100)], [0])
    assert numbers(tracker, 0.5, [found], [0]) == [number]


def test_one_odd_frame_does_not_change_what_a_person_looks_like():
    tracker = Tracker(TrackerOptions(confirm=1))
    for frame in range(5):
        numbers(tracker, frame / 30, [box(100)], [1 if frame == 4 else 0])
    assert numbers(tracker, 0.5, [box(175)], [0]) == [1]


def test_overlaps_are_those_of_the_pixels():
    boxes = [box(10, 20, 30), box(25, 10, 40), box(12, 22, 10), box(80, 80, 20), box(10, 20, 30)]
    masks = np.zeros((len(boxes), 120, 120), bool)
    for mask, one in zip(masks, boxes, strict=True):
        mask[one.y : one.y + one.side, one.x : one.x + one.side] = True
    expected = [[(a & b).sum() / (a | b).sum() for b in masks] for a in masks]
    squares = [Square.of(one) for one in boxes]
    np.testing.assert_allclose([[a.overlap(b) for b in squares] for a in squares], expected)
