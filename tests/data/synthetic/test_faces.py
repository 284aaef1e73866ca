from __future__ import annotations

import hashlib
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import cv2
import numpy as np
import pytest

from edgefel.data.synthetic import FaceOptions, SyntheticFaces, class_shares
from edgefel.data.synthetic.canvas import Canvas, Image
from edgefel.data.synthetic.expressions import UNIT_ROW, UNITS, Expression
from edgefel.data.synthetic.geometry import Rest, build_face
from edgefel.data.synthetic.identity import draw_identity
from edgefel.data.synthetic.portrait import paint_portrait
from edgefel.data.synthetic.relief import Light
from edgefel.data.synthetic.scene import EYES_APART, EYES_Y, Pose, take_image

SMALL = FaceOptions(count=4000, size=64, classes=8, seed=3)
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


def test_neutral_has_no_action_units() -> None:
    faces = SyntheticFaces(FaceOptions(count=200, blend=0.0))
    neutral = [plan for plan in map(faces.plan, range(200)) if plan.true_label == 0]
    assert neutral
    assert all(plan.action_units == {} and plan.soft[0] == 1 for plan in neutral)
    others = [plan for plan in map(faces.plan, range(200)) if plan.true_label != 0]
    assert all(plan.action_units for plan in others)


def digest(faces: SyntheticFaces, index: int) -> str:
    return hashlib.sha256(faces.sample(index).image.tobytes()).hexdigest()


def test_same_index_same_image_in_any_order_and_any_set_size() -> None:
    faces = SyntheticFaces(SMALL)
    forwards = [digest(faces, index) for index in range(12)]
    backwards = [digest(SyntheticFaces(replace(SMALL, count=12)), index) for index in reversed(range(12))]
    assert forwards == backwards[::-1]
    assert len(set(forwards)) == 12
    assert digest(SyntheticFaces(replace(SMALL, seed=4)), 0) != forwards[0]


def test_same_image_in_another_process_with_other_thread_counts() -> None:
    code = (
        "import cv2, hashlib; cv2.setNumThreads(1)\n"
        "from edgefel.data.synthetic import FaceOptions, SyntheticFaces\n"
        "faces = SyntheticFaces(FaceOptions(count=4000, size=64, classes=8, seed=3))\n"
        "print(*(hashlib.sha256(faces.sample(i).image.tobytes()).hexdigest() for i in (7, 2, 11)))"
    )
    environment = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True
    )
    faces = SyntheticFaces(SMALL)
    before = cv2.getNumThreads()
    cv2.setNumThreads(4)
    try:
        assert done.stdout.split() == [digest(faces, index) for index in (7, 2, 11)]
    finally:
        cv2.setNumThreads(before)


def test_sample_shape_and_fields() -> None:
    face = SyntheticFaces(replace(SMALL, size=97)).sample(5)
    assert face.image.shape == (97, 97, 3)
    assert face.image.dtype == np.uint8
    assert face.image.std() > 10
    assert face.soft.shape == (8,)
    assert face.soft.sum() == pytest.approx(1)
    assert face.label == face.true_label == int(face.soft.argmax())
    assert face.split in ("train", "val", "test")
    with pytest.raises(IndexError):
        SyntheticFaces(SMALL).sample(4000)


@pytest.mark.parametrize("ratio", [1.0, 20.0])
def test_class_counts_follow_the_long_tail(ratio: float) -> None:
    options = FaceOptions(count=3000, classes=7, long_tail=ratio)
    faces = SyntheticFaces(options)
    counts = np.bincount([faces.plan(i).true_label for i in range(3000)], minlength=7)
    shares = class_shares(options)
    assert shares.max() / shares.min() == pytest.approx(ratio)
    assert np.abs(counts - 3000 * shares).max() <= 4


def test_label_noise_rate() -> None:
    faces = SyntheticFaces(FaceOptions(count=3000, label_noise=0.25))
    plans = [faces.plan(i) for i in range(3000)]
    wrong = [plan for plan in plans if plan.label != plan.true_label]
    assert abs(len(wrong) / 3000 - 0.25) < 0.03
    assert set(Counter(plan.label for plan in wrong)) == set(range(7))
    clean = SyntheticFaces(FaceOptions(count=300))
    assert all(plan.label == plan.true_label for plan in map(clean.plan, range(300)))


@pytest.mark.parametrize("attribute", ["glasses", "skin", "hair"])
def test_group_bias_makes_the_attribute_predict_the_class(attribute: str) -> None:
    def gap(bias: float) -> float:
        options = FaceOptions(count=1500, group_bias=bias, bias_attribute=attribute)
        faces = SyntheticFaces(options)
        plans = [faces.plan(i) for i in range(1500)]
        people = {plan.subject: draw_identity(0, plan.subject) for plan in plans}
        has = {
            subject: {"glasses": p.glasses != "none", "skin": p.tone > 0.5, "hair": p.light_hair}[attribute]
            for subject, p in people.items()
        }
        odd = np.mean([has[plan.subject] for plan in plans if plan.true_label % 2])
        even = np.mean([has[plan.subject] for plan in plans if plan.true_label % 2 == 0])
        return float(odd - even)

    assert abs(gap(0.0)) < 0.08
    assert gap(0.8) > 0.6


def test_splits_do_not_share_subjects_and_have_the_right_sizes() -> None:
    faces = SyntheticFaces(FaceOptions(count=4000, subjects=60))
    plans = [faces.plan(i) for i in range(4000)]
    subjects = {split: {p.subject for p in plans if p.split == split} for split in ("train", "val", "test")}
    assert {split: len(found) for split, found in subjects.items()} == {"train": 42, "val": 9, "test": 9}
    assert len(set.union(*subjects.values())) == 60
    few = SyntheticFaces(FaceOptions(count=200, subjects=4))
    assert {few.plan(i).split for i in range(200)} == {"train", "val", "test"}


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
