"""JSON of faces."""

from __future__ import annotations

import json

import pytest
from streams import RED, ListSource, SquareDetector, scene

from edgefel.runtime.alignment import FaceBox
from edgefel.runtime.labelling import labelled_face
from edgefel.runtime.stream.pipeline import Stream
from edgefel.serve.answers import face_dict, live_dict, stages_dict


def test_eyes_are_points_of_one_decimal():
    box = FaceBox(1, 2, 30, 0.5, ((10.123, 11), (20.0, 12.56)))
    face = labelled_face(box, ("a", "b"), [0.25, 0.75], [0.5, 0.5], 0.1)
    document = face_dict(face)
    assert document["eyes"] == [[10.1, 11], [20.0, 12.6]]
    assert {key: document[key] for key in face.to_dict()} == face.to_dict()


def test_a_live_frame_has_the_form_of_a_stream(session):
    *_, result = Stream(ListSource([scene([(20, 20, 60, RED)])] * 3), SquareDetector(), session)
    document = json.loads(json.dumps(live_dict(result, {"total": 0.0123456}, 7), allow_nan=False))
    assert (document["frame"], document["dropped"], document["width"], document["height"]) == (2, 7, 320, 240)
    assert document["stages_ms"] == {"total": 12.35}
    assert document["faces"][0]["track"] == 1


@pytest.mark.parametrize(("seconds", "expected"), [(1e-3, 1.0), (-1e-9, 0.0)])
def test_clocks_that_disagree_give_no_negative_time(seconds, expected):
    assert stages_dict({"wait": seconds}) == {"wait": expected}
