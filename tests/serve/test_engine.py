"""Images of several clients together: each gets what it would get alone."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from streams import BLUE, GREEN, RED, ListSource, SquareDetector, moving, scene

from edgefel.runtime.model import Model
from edgefel.runtime.stream.pipeline import Stream, StreamOptions
from edgefel.runtime.telemetry.telemetry import Telemetry
from edgefel.serve.engine import Answer, Engine, Work
from edgefel.serve.limits import Limits
from edgefel.serve.problems import Problem


def png(image: np.ndarray) -> bytes:
    return cv2.imencode(".png", np.ascontiguousarray(image[..., ::-1]))[1].tobytes()


ONE, TWO = scene([(20, 20, 60, RED)]), scene([(20, 20, 80, BLUE), (150, 100, 60, GREEN)])


def answers(outcomes: list) -> list[Answer]:
    assert all(isinstance(one, Answer) for one in outcomes), outcomes
    return outcomes


def shares(answer: Answer) -> list[float]:
    return [share for face in answer.faces for share in face.probabilities.values()]


def test_together_is_as_alone(engine):
    works = [Work(png(image)) for image in (ONE, TWO, scene([]), ONE)]
    together = answers(engine.label(works))
    alone = [answers(engine.label([work]))[0] for work in works]
    assert [len(answer.faces) for answer in together] == [1, 2, 0, 1]
    for one, other in zip(together, alone, strict=True):
        assert shares(one) == pytest.approx(shares(other), abs=1e-6)
        assert [face.box for face in one.faces] == [face.box for face in other.faces]


def test_a_follower_sees_what_run_sees(engine, session):
    """The same people, boxes and averages as `Stream` over the same frames."""
    images = [*moving(12), *([scene([(30, 100, 70, BLUE)])] * 6)]
    expected = list(Stream(ListSource(images), SquareDetector(), session, StreamOptions()))
    follower = engine.follow()
    for number, result in enumerate(expected):
        (answer,) = answers(engine.label([Work(png(images[number]), follower, result.frame.time)]))
        assert answer.cut == result.frame.cut
        assert [face.track for face in answer.faces] == [face.track for face in result.faces]
        for one, other in zip(answer.faces, result.faces, strict=True):
            mine, theirs = one.to_dict(), other.to_dict()
            assert mine["probabilities"] == pytest.approx(theirs["probabilities"], abs=1e-6)
            assert (mine["box"], mine["label"], mine["age"]) == (
                theirs["box"],
                theirs["label"],
                theirs["age"],
            )
    assert any(result.frame.cut for result in expected)
    assert expected[-1].faces


def test_streams_and_images_share_a_call_and_not_people(engine):
    first, second = engine.follow(), engine.follow()
    for at in (0.0, 0.1, 0.2):
        one, image, two = answers(
            engine.label([Work(png(TWO), first, at), Work(png(ONE)), Work(png(ONE), second, at)])
        )
        assert len(image.faces) == 1
        assert [len(one.faces), len(two.faces)] == ([0, 0] if at == 0 else [2, 1])
    assert {face.track for face in one.faces} == {1, 2}
    assert {face.track for face in two.faces} == {1}


def test_one_bad_image_costs_no_other(engine):
    outcomes = engine.label([Work(png(ONE)), Work(b"bad"), Work(png(TWO))])
    assert [len(one.faces) if isinstance(one, Answer) else type(one) for one in outcomes] == [1, Problem, 2]


@pytest.mark.parametrize("threshold", ["min_quality", "min_confidence"])
def test_faces_below_a_threshold_are_unsure(session, threshold):
    model = Model(session, SquareDetector)
    engine = Engine(model, StreamOptions(**{"min_quality": 0.0} | {threshold: 1.0}), Limits(), Telemetry())
    assert engine.describe()[threshold] == 1
    (answer,) = answers(engine.label([Work(png(ONE))]))
    assert answer.faces[0].to_dict()["label"] == "unsure"


def test_the_telemetry_counts(engine):
    engine.label([Work(png(ONE)), Work(png(TWO)), Work(b"")])
    snapshot = engine.telemetry.snapshot()
    assert (snapshot.counters["frames"], snapshot.counters["faces"], snapshot.counters["inferences"]) == (
        2,
        3,
        3,
    )
    assert {"decode", "detect", "inference", "total"} <= set(snapshot.stages)
