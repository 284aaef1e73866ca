from __future__ import annotations

import hashlib
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np
import pytest

from edgefel.data.synthetic import FaceOptions, SyntheticFaces, class_shares
from edgefel.data.synthetic.identity import Identity

SMALL = FaceOptions(count=4000, size=64, classes=8, seed=3)


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


def people_of(options: FaceOptions) -> list[tuple[int, Identity]]:
    """Class and person of every face."""
    faces = SyntheticFaces(options)
    return [(plan.true_label, faces.identity(plan.subject)) for plan in map(faces.plan, range(len(faces)))]


@pytest.fixture(scope="module")
def unbiased() -> list[tuple[int, Identity]]:
    return people_of(FaceOptions(count=1500))


@pytest.mark.parametrize(
    ("attribute", "has"),
    [
        ("glasses", lambda person: person.glasses != "none"),
        ("skin", lambda person: person.tone > 0.5),
        ("hair", lambda person: person.light_hair),
    ],
)
def test_group_bias_makes_the_attribute_predict_the_class(
    unbiased: list[tuple[int, Identity]], attribute: str, has: Callable[[Identity], bool]
) -> None:
    def gap(people: list[tuple[int, Identity]]) -> float:
        even, odd = ([has(who) for label, who in people if label % 2 == side] for side in (0, 1))
        return float(np.mean(odd) - np.mean(even))

    assert abs(gap(unbiased)) < 0.08
    assert gap(people_of(FaceOptions(count=600, group_bias=0.8, bias_attribute=attribute))) > 0.6


def test_splits_do_not_share_subjects_and_have_the_right_sizes() -> None:
    faces = SyntheticFaces(FaceOptions(count=4000, subjects=60))
    plans = [faces.plan(i) for i in range(4000)]
    subjects = {split: {p.subject for p in plans if p.split == split} for split in ("train", "val", "test")}
    assert {split: len(found) for split, found in subjects.items()} == {"train": 42, "val": 9, "test": 9}
    assert len(set.union(*subjects.values())) == 60
    few = SyntheticFaces(FaceOptions(count=200, subjects=4))
    assert {few.plan(i).split for i in range(200)} == {"train", "val", "test"}
