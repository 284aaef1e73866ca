"""The renderer as a whole: what a face shows follows from its person, expression and light."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from edgefel.data.synthetic import FaceOptions, SyntheticFaces
from edgefel.data.synthetic.canvas import Canvas, Image
from edgefel.data.synthetic.expressions import UNIT_ROW, UNITS, Expression
from edgefel.data.synthetic.geometry import Rest, build_face
from edgefel.data.synthetic.identity import draw_identity
from edgefel.data.synthetic.portrait import paint_portrait
from edgefel.data.synthetic.relief import Light
from edgefel.data.synthetic.scene import EYES_APART, EYES_Y, Pose, take_image

LIGHT = Light((0.2, -0.4, 0.89), (0.6, 0.6, 0.6), (0.6, 0.6, 0.6), 0.1)


def portrait(units: dict[int, float], subject: int = 0, size: int = 128) -> Image:
    """A face with the given units on both sides, looking straight ahead, nothing else varied."""
    values = np.zeros((len(UNITS), 2))
    for unit, value in units.items():
        values[UNIT_ROW[unit]] = value
    # nothing that moves or hides the mouth or the brows
    identity = replace(draw_identity(5, subject), glasses="none", beard="none", hair_style="bald")
    canvas = Canvas(160)
    depth = paint_portrait(canvas, build_face(identity, Expression(values, np.eye(8)[0]), Rest()), LIGHT)
    return take_image(canvas, depth, Pose(0, 0, 0, 1, (0, 0)), size)


def changed(units: dict[int, float]) -> np.ndarray:  # type: ignore[type-arg]
    """Mean absolute change by row of the image, against the same face at rest."""
    difference = np.abs(portrait(units).astype(int) - portrait({}).astype(int))
    return np.asarray(difference.mean((1, 2)))


def rows(low: float, high: float) -> slice:
    """Rows of a 128-pixel image between two heights in face units."""
    return slice(round((EYES_Y + EYES_APART * low) * 128), round((EYES_Y + EYES_APART * high) * 128))


BROWS, LIDS, NOSE, MOUTH, CHIN = (
    rows(-0.6, -0.2),
    rows(-0.15, 0.1),
    rows(0, 0.8),
    rows(0.9, 1.3),
    rows(1.3, 1.65),
)


@pytest.mark.parametrize(
    ("unit", "where", "elsewhere"),
    [
        (1, BROWS, MOUTH),
        (2, BROWS, MOUTH),
        (4, BROWS, MOUTH),
        (5, LIDS, MOUTH),
        (6, LIDS, CHIN),
        (7, LIDS, MOUTH),
        (9, NOSE, CHIN),
        (12, MOUTH, BROWS),
        (14, MOUTH, BROWS),
        (15, MOUTH, BROWS),
        (16, MOUTH, BROWS),
        (17, MOUTH, BROWS),
        (20, MOUTH, BROWS),
        (23, MOUTH, BROWS),
        (25, MOUTH, BROWS),
        (26, CHIN, BROWS),
    ],
)
def test_each_action_unit_moves_its_part_of_the_face(unit: int, where: slice, elsewhere: slice) -> None:
    change = changed({unit: 1.0})
    assert change[where].mean() > 1.0
    assert change[where].mean() > 4 * change[elsewhere].mean()


def test_a_smile_lifts_the_corners_and_a_frown_lowers_them() -> None:
    identity = draw_identity(0, 0)
    corner = {}
    for name, unit in (("rest", None), ("smile", 12), ("frown", 15)):
        values = np.zeros((len(UNITS), 2))
        if unit:
            values[UNIT_ROW[unit]] = 1
        mouth = build_face(identity, Expression(values, np.eye(8)[0]), Rest()).mouth
        corner[name] = mouth.top[-1]
    assert corner["smile"][1] < corner["rest"][1] - 0.05 < corner["frown"][1] - 0.1
    assert corner["smile"][0] > corner["rest"][0] + 0.05


def test_a_face_is_a_symmetric_function_of_its_sides() -> None:
    values = np.zeros((len(UNITS), 2))
    values[UNIT_ROW[12], 0] = 0.8
    identity = replace(draw_identity(0, 0), asymmetry=0.0)
    left = build_face(identity, Expression(values, np.eye(8)[0]), Rest()).mouth.top
    right = build_face(identity, Expression(values[:, ::-1], np.eye(8)[0]), Rest()).mouth.top
    np.testing.assert_allclose(left, right[::-1] * (-1, 1), atol=1e-12)


def test_people_differ() -> None:
    people = [draw_identity(0, subject) for subject in range(60)]
    assert len({person.hair_style for person in people}) >= 7
    brightness = [sum(person.skin) / 3 for person in people]
    assert max(brightness) > 200
    assert min(brightness) < 70
    assert 5 < sum(person.glasses != "none" for person in people) < 40


def test_opencvs_face_detector_finds_the_faces() -> None:
    """The layout is that of the detector's boxes, so that a trained model can label detected faces."""
    detector = cv2.CascadeClassifier(cv2.data.haarcascades + "haarcascade_frontalface_default.xml")
    faces = SyntheticFaces(FaceOptions(count=60, size=120))
    found, boxes = 0, []
    for index in range(60):
        grey = cv2.cvtColor(faces.sample(index).image, cv2.COLOR_RGB2GRAY)
        padded = cv2.copyMakeBorder(grey, 40, 40, 40, 40, cv2.BORDER_REPLICATE)
        hits = detector.detectMultiScale(padded, 1.1, 5, minSize=(70, 70))
        found += len(hits) > 0
        boxes += [(np.array(hit) - (40, 40, 0, 0)) / 120 for hit in hits[:1]]
    assert found >= 48
    x, y, width, _ = np.median(boxes, 0)
    assert abs(x) < 0.06
    assert abs(y) < 0.06
    assert 0.88 < width < 1.06
