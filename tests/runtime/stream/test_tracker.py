"""Tracks: one number per person through movement, gaps, crossings and chance finds."""

from __future__ import annotations

import numpy as np
import pytest

from edgefel.errors import EdgefelError
from edgefel.runtime.faces import FaceBox
from edgefel.runtime.stream.tracker import Tracker, TrackerOptions


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
