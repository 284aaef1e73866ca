"""A face and the faces of an image as text, JSON and rows of a table."""

from __future__ import annotations

import copy
import csv
import io
import json
import pickle
from dataclasses import replace

import numpy as np
import pytest

from edgefel.errors import EdgefelError
from edgefel.runtime.alignment import FaceBox
from edgefel.runtime.quality import Quality
from edgefel.runtime.results import Faces, LabelledFace
from edgefel.runtime.stream.frames import Frame, FrameResult, TrackedFace

BOX = FaceBox(3, -4, 20, 0.9, eyes=((8.5, 4.0), (17.25, 4.5)))
PARTS = Quality(0.5, None, 1.0, 0.75, 1.0, 1.0)
FACE = LabelledFace(
    BOX,
    "fear",
    "anger",
    0.25,
    {"anger": 0.2, "fear": 0.8},
    {"anger": 0.6, "fear": 0.4},
    PARTS.overall,
    PARTS,
)
UNSURE = LabelledFace(
    FaceBox(0, 0, 9), *("anger", "anger"), 0.1, *({"anger": 0.5, "fear": 0.5},) * 2, sure=False
)
WHOLE = replace(FACE, box=FaceBox(5, 0, 90), quality_parts=Quality(1.0, *(0.5,) * 5), size=(100, 90))


def test_a_face_that_is_not_sure_keeps_its_top_label():
    assert (FACE.label, FACE.top_label, FACE.probability) == ("fear", "fear", 0.8)
    assert (UNSURE.label, UNSURE.top_label, UNSURE.probability) == ("unsure", "anger", 0.5)
    assert (FACE.eyes, UNSURE.eyes) == (((8.5, 4.0), (17.25, 4.5)), None)


def test_the_text_of_an_image():
    faces = Faces("photo.jpg", (FACE, UNSURE))
    assert str(faces) == (
        "photo.jpg: 2 faces\n"
        "  fear 80.0%  confidence 0.25, quality 0.50  20x20 at 3,-4\n"
        "  unsure: anger 50.0%  confidence 0.10  9x9 at 0,0"
    )
    assert repr(faces) == "<Faces photo.jpg: 2 faces fear 80.0%, unsure: anger 50.0%>"
    assert repr(FACE) == "<LabelledFace fear 80.0%  confidence 0.25, quality 0.50  20x20 at 3,-4>"
    assert str(WHOLE).endswith("100x90 at 0,0")


@pytest.mark.parametrize(
    ("faces", "text"),
    [
        (Faces(None, ()), "image: 0 faces"),
        (Faces("a\x1b[2J\nb.png", ()), "a\\x1b[2J\\nb.png: 0 faces"),
        (Faces("clip.mp4", (), 3, 0.12), "clip.mp4 #3: 0 faces"),
        (Faces("b.jpg", (), error=EdgefelError("b.jpg: is cut off")), "b.jpg: not read"),
    ],
)
def test_the_text_of_an_image_without_faces(faces, text):
    assert str(faces) == text
    assert repr(faces) == f"<Faces {text}>"


def test_faces_are_a_sequence():
    faces = Faces("a.png", (FACE, UNSURE))
    assert (len(faces), list(faces), faces[-1], faces[:1]) == (2, [FACE, UNSURE], UNSURE, (FACE,))
    assert FACE in faces
    assert not Faces("a.png", ())
    assert faces == Faces("a.png", (FACE, UNSURE)) != Faces("b.png", (FACE, UNSURE))
    with pytest.raises(IndexError):
        faces[2]


def test_results_are_copied_and_pickled():
    """They may be handed to another process."""
    faces = Faces("a.png", (FACE, UNSURE), 3, 0.5)
    assert copy.deepcopy(faces) == pickle.loads(pickle.dumps(faces)) == faces


def test_rows_are_flat_and_have_the_same_columns():
    rows = Faces("a.png", (FACE, WHOLE)).to_dicts()
    assert rows[0] == {
        "source": "a.png",
        "detection_score": 0.9,
        "label": "fear",
        "top_label": "fear",
        "probability": 0.8,
        "confidence": 0.25,
        "quality": 0.5,
        "primary_label": "anger",
        "x": 3,
        "y": -4,
        "width": 20,
        "height": 20,
        "left_eye_x": 8.5,
        "left_eye_y": 4.0,
        "right_eye_x": 17.25,
        "right_eye_y": 4.5,
        "quality_size": 0.5,
        "quality_pose": None,
        "quality_contrast": 1.0,
        "quality_sharpness": 0.75,
        "quality_noise": 1.0,
        "quality_exposure": 1.0,
        "p_anger": 0.2,
        "p_fear": 0.8,
        "primary_anger": 0.6,
        "primary_fear": 0.4,
    }
    assert list(rows[0]) == list(rows[1])
    assert (rows[1]["width"], rows[1]["height"], rows[1]["left_eye_x"], rows[1]["quality_pose"]) == (
        *(100, 90),
        *(None, 0.5),
    )
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0])
    writer.writeheader()
    writer.writerows(rows)
    assert text.getvalue().count("\n") == 3


def test_rows_of_a_video_have_frame_and_time():
    (row,) = Faces("clip.mp4", (FACE,), 3, 0.12).to_dicts()
    assert (row["source"], row["frame"], row["time"]) == ("clip.mp4", 3, 0.12)
    assert Faces("clip.mp4", (), 3, 0.12).to_dicts() == []


def test_rows_of_a_stream_are_those_of_a_face_and_of_the_frame():
    frame = Frame(12, 0.5, np.zeros((4, 4, 3), np.uint8), 0.0)
    tracked = TrackedFace(7, FACE, False, 1.25, UNSURE)
    result = FrameResult(frame, (tracked,), 0.0123456, 30.0, "camera 0")
    (row,) = result.to_dicts()
    (said,) = result.to_dict()["faces"]
    assert (
        row.items()
        >= {"source": "camera 0", "frame": 12, "track": 7, "label": "unsure", "p_fear": 0.8}.items()
    )
    assert {name: value for name, value in row.items() if name in said} == {
        name: value for name, value in said.items() if not isinstance(value, dict)
    }
    json.dumps(row, allow_nan=False)
    assert repr(result) == "<FrameResult camera 0 #12 at 0.50 s: person 7 unsure: fear 80.0%>"
    assert repr(tracked) == "<TrackedFace person 7: unsure: fear 80.0%>"
    assert (result.image, result.index, result.time) == (frame.image, 12, 0.5)


def test_a_tracked_face_has_the_attributes_of_a_face():
    face = replace(FACE, misframed="eyes that do not fit its box")
    tracked = TrackedFace(7, face, True, 1.25, UNSURE)
    names = {name for name in vars(FACE) if name not in ("sure", "size")}
    names |= {name for name, value in vars(LabelledFace).items() if isinstance(value, property)}
    assert {"label", "probability", "eyes", "box", "quality_parts", "misframed"} <= names
    assert {name: getattr(tracked, name) for name in names} == {name: getattr(face, name) for name in names}
