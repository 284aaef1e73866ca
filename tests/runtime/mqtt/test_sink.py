"""When results are published, and of whom: changes at once but not too often, now and then without one."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
from fake_clock import Clock

from edgefel.data.labels import EXPRESSIONS_7
from edgefel.errors import EdgefelError
from edgefel.runtime.alignment import FaceBox
from edgefel.runtime.mqtt.sink import HEARTBEAT, Audience, MqttSink
from edgefel.runtime.results import LabelledFace
from edgefel.runtime.stream.frames import Frame, FrameResult, TrackedFace


def person(track: int, label: str = "happiness", side: int = 100, confidence: float = 0.5) -> TrackedFace:
    probabilities = {name: 0.7 if name == label else 0.05 for name in EXPRESSIONS_7}
    face = LabelledFace(FaceBox(0, 0, side, 1.0), label, label, confidence, probabilities, probabilities)
    return TrackedFace(track, face, True, 1.0, face)


def result(time: float, *people: TrackedFace, cut: bool = False, source: str = "clip.mp4") -> FrameResult:
    frame = Frame(round(30 * time), time, np.zeros((2, 2, 3), np.uint8), time, cut=cut)
    return FrameResult(frame, people, 0.01, 30.0, source)


class Board:
    """A publisher that takes messages while it is `open`."""

    def __init__(self) -> None:
        self.open, self.asked, self.messages = True, False, []

    def ready(self, topic: str) -> bool:
        return self.open

    def publish(self, topic: str, payload: bytes) -> bool:
        assert topic == "home/state"
        if self.open:
            self.messages.append(json.loads(payload))
        return self.open

    def asked_again(self) -> bool:
        asked, self.asked = self.asked, False
        return asked

    def labels(self) -> list[list[str]]:
        return [[face["label"] for face in message["faces"]] for message in self.messages]


class Run:
    """A sink whose frames come at the times of its clock."""

    def __init__(self, every: float = 1.0) -> None:
        self.board, self.clock = Board(), Clock()
        self.sink = MqttSink(self.board, "home/state", every, self.clock.monotonic)

    def at(self, time: float, *people: TrackedFace, **options: object) -> None:
        self.clock.now = time
        self.sink.write(result(time, *people, **options))


@pytest.fixture
def run() -> Run:
    return Run()


def test_a_message_is_a_line_of_run_json(run):
    frame = result(0.5, person(1), person(2, "anger", side=50))
    run.sink.write(frame)
    assert run.board.messages == [json.loads(json.dumps(frame.to_dict()))]


def test_nothing_new_is_published_now_and_then(run):
    times = np.arange(0, 70, 0.1)
    for time in times:
        run.at(float(time), person(1))
    assert [message["time"] for message in run.board.messages] == [0, HEARTBEAT, 2 * HEARTBEAT]


def test_changes_come_at_most_once_a_second_and_the_last_one_always(run):
    labels = ("happiness", "anger", "fear", "sadness")
    run.at(0, person(1))
    for frame in range(1, 30):
        run.at(frame / 10, person(1, labels[frame % 3] if frame < 29 else "sadness"))
    assert [round(message["time"], 1) for message in run.board.messages] == [0, 1, 2]
    run.sink.close()
    assert run.board.labels()[-1] == ["sadness"]


def test_a_change_that_is_over_before_its_turn_is_not_published(run):
    run.at(0, person(1))
    run.at(0.2, person(1, "anger"))
    run.at(0.4, person(1))
    run.at(1.5, person(1))
    run.sink.close()
    assert run.board.labels() == [["happiness"]]


def test_confidence_is_news_only_when_it_moves_far(run):
    for time, confidence in ((0, 0.5), (2, 0.58), (4, 0.61), (6, 0.53), (8, 0.5)):
        run.at(time, person(1, confidence=confidence))
    assert [message["faces"][0]["confidence"] for message in run.board.messages] == [0.5, 0.61, 0.5]


def test_a_person_who_is_missed_for_a_moment_stays(run):
    run.at(0, person(1))
    for frame in range(1, 31):
        run.at(frame / 10, *([person(1)] if frame % 5 == 0 else []))
    assert run.board.labels() == [["happiness"]]
    for frame in range(31, 45):
        run.at(frame / 10)
    assert run.board.labels() == [["happiness"], []]
    assert run.board.messages[-1]["time"] == pytest.approx(4.0)


def test_after_a_cut_nobody_stays(run):
    run.at(0, person(1))
    run.at(2, person(1))
    run.at(2.1, person(2, "fear"), cut=True)
    assert run.board.labels() == [["happiness"], ["fear"]]


def test_the_most_prominent_person_comes_first():
    audience = Audience()

    def tracks(time: float, *sides: int) -> list[int]:
        people = [person(track, side=side) for track, side in enumerate(sides, 1)]
        return [face.track for face in audience.update(result(time, *people))]

    assert tracks(0, 80, 100, 60) == [2, 1, 3]
    # as long as nobody is much larger
    assert tracks(1, 110, 100, 60) == [2, 1, 3]
    assert tracks(2, 121, 100, 60) == [1, 2, 3]
    assert tracks(3, 121, 130, 60) == [1, 2, 3]
    assert [face.track for face in audience.update(result(9, person(3, side=10)))] == [3]


def test_another_order_is_news(run):
    run.at(0, person(1, side=100), person(2, "anger", side=90))
    run.at(2, person(1, side=50), person(2, "anger", side=90))
    assert run.board.labels() == [["happiness", "anger"], ["anger", "happiness"]]


def test_while_the_broker_is_away_the_newest_waits(run):
    run.at(0, person(1))
    run.board.open = False
    for time, label in ((2, "anger"), (3, "fear"), (4, "sadness")):
        run.at(time, person(1, label))
    run.board.open = True
    run.at(4.1, person(1, "sadness"))
    run.at(4.2, person(1, "sadness"))
    assert run.board.labels() == [["happiness"], ["sadness"]]


def test_who_asks_hears_the_state_at_once(run):
    run.at(0, person(1))
    run.board.asked = True
    run.board.open = False
    run.at(0.1, person(1))
    run.board.open = True
    run.at(0.2, person(1))
    run.at(0.3, person(1))
    assert [message["time"] for message in run.board.messages] == [0, 0.2]


def test_a_source_whose_name_is_not_utf_8(run):
    run.at(0, source=os.fsdecode(b"caf\xe9.mp4"))
    assert run.board.messages[0]["source"] == os.fsdecode(b"caf\xe9.mp4")


@pytest.mark.parametrize("every", [-1, 31, float("nan")])
def test_seconds_out_of_range(every):
    with pytest.raises(EdgefelError, match="give seconds from 0 to 30"):
        MqttSink(Board(), "home/state", every)
