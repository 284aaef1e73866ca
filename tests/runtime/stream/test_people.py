"""Tracks with their averages, without a stream around them."""

from __future__ import annotations

import numpy as np
import pytest
from streams import BLUE, RED

from edgefel.runtime.alignment import FaceBox
from edgefel.runtime.labelling import FoundFaces, Thresholds, crop_quality
from edgefel.runtime.stream.people import People
from edgefel.runtime.stream.tracker import TrackerOptions

BOX = FaceBox(20, 20, 60)


def step(people: People, session, now: float, colour, reason: str | None = None) -> list:
    crop = np.full((60, 60, 3), colour, np.uint8)
    found = FoundFaces([BOX], [crop], [reason])
    return list(people.update(now, found, session([crop]), [crop_quality(crop, BOX, session)]))


def make(session, smoothing: float = 0.2, **thresholds) -> People:
    return People(session.labels, TrackerOptions(), smoothing, Thresholds(**thresholds))


def test_a_person_has_a_number_from_the_second_frame_on_and_loses_it_at_a_reset(session):
    people = make(session)
    assert step(people, session, 0.0, RED) == []
    (face,) = step(people, session, 0.1, RED)
    assert (face.track, people.count) == (1, 1)
    people.reset()
    assert (step(people, session, 0.2, RED), people.count) == ([], 0)
    (face,) = step(people, session, 0.3, RED)
    assert face.track == 2


@pytest.mark.parametrize(("smoothing", "same"), [(0.0, True), (5.0, False)])
def test_distributions_are_averaged(session, smoothing, same):
    people = make(session, smoothing=smoothing)
    step(people, session, 0.0, RED)
    (face,) = step(people, session, 0.1, BLUE)
    alone = list(face.raw.probabilities.values())
    assert (list(face.face.probabilities.values()) == pytest.approx(alone, abs=1e-6)) is same


@pytest.mark.parametrize("limit", ["min_confidence", "min_quality"])
def test_below_a_limit_nobody_is_sure(session, limit):
    people = make(session, **{limit: 0.9999})
    step(people, session, 0.0, RED)
    (face,) = step(people, session, 0.1, RED)
    assert face.label == "unsure"


def test_why_a_face_is_misframed_is_that_of_its_frame(session):
    people = make(session)
    step(people, session, 0.0, RED, "eyes that do not fit its box")
    for reason in ("eyes that do not fit its box", None):
        (face,) = step(people, session, 0.1, RED, reason)
        assert (face.misframed, face.raw.misframed) == (reason, reason)
