"""Each part of the quality answers to what it is named after, and to nothing else."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest

from edgefel.data.preprocessing import Image
from edgefel.errors import EdgefelError
from edgefel.runtime.alignment import FaceBox
from edgefel.runtime.eyes import Point
from edgefel.runtime.quality import NOSE, SIDE, Quality, check_least, face_quality, yaw

SIZE = 112


def texture(side: int, seed: int = 0) -> Image:
    """Grey noise of five octaves, with as much of the finest as a photograph of a face has; mean 128."""
    rng = np.random.default_rng(seed)
    image = np.zeros((side, side))
    for cells, deviation in ((3, 30), (6, 30), (12, 25), (24, 12), (48, 4)):
        octave = rng.normal(0, deviation, (cells, cells))
        image += cv2.resize(octave, (side, side), interpolation=cv2.INTER_CUBIC)
    return coloured(image + 128)


def coloured(grey: np.ndarray) -> Image:
    return np.repeat(np.rint(grey).clip(0, 255).astype(np.uint8)[..., None], 3, 2)


def judged(crop: Image, side: int | None = None, **box) -> Quality:
    return face_quality(crop, FaceBox(0, 0, side or len(crop), **box), SIZE)


@pytest.mark.parametrize("seed", range(10))
def test_nothing_is_wrong_with_a_good_face(seed):
    quality = judged(texture(SIZE, seed))
    assert quality.overall == 1
    assert quality.to_dict() == {
        name: None if name == "pose" else 1
        for name in ("size", "pose", "contrast", "sharpness", "noise", "exposure")
    }


def test_the_least_part_is_the_overall_quality():
    quality = Quality(size=0.9, pose=0.4, contrast=0.8, sharpness=0.5, noise=1, exposure=1)
    assert (quality.overall, quality.worst) == (0.4, "pose")
    assert Quality(0.9, None, 0.8, 0.5, 1, 1).worst == "sharpness"


@pytest.mark.parametrize(("side", "share"), [(8, 0), (5, 0), (21, 0.496), (28, 0.644), (56, 1), (500, 1)])
def test_the_size_is_counted_in_octaves(side, share):
    """Of the box in the image, whatever size the crop was brought to."""
    assert judged(texture(SIZE), side).size == pytest.approx(share, abs=1e-3)


def change(name: str, amount: float, image: Image) -> Image:
    values = image.astype(np.float64)
    if name == "contrast":
        return coloured(((values - 128) * amount + 128)[..., 0])
    if name == "exposure":
        return coloured((values * amount)[..., 0])
    if name == "sharpness":
        return np.asarray(cv2.GaussianBlur(image, (0, 0), amount), np.uint8)
    return coloured(
        (values + np.random.default_rng(1).normal(0, amount, values.shape[:2])[..., None])[..., 0]
    )


@pytest.mark.parametrize(
    ("part", "amounts"),
    [
        ("contrast", (1, 0.3, 0.15, 0.03)),
        ("exposure", (1, 0.3, 0.1, 0.02)),
        ("exposure", (1, 2, 4, 100)),
        ("sharpness", (0.1, 1, 2, 6)),
        ("noise", (0, 30, 60, 200)),
    ],
)
def test_a_part_falls_with_its_fault(part, amounts):
    image = texture(SIDE)
    found = [judged(change(part, amount, image)) for amount in amounts]
    values = [getattr(one, part) for one in found]
    assert values[0] == 1
    assert values == sorted(values, reverse=True)
    assert values[-1] < 0.1
    if part != "exposure":  # which takes the contrast along
        assert found[2].worst == part


@pytest.mark.parametrize("factor", [1, 2, 3.7, 8])
@pytest.mark.parametrize("blur", [0.1, 0.8, 1.5])
def test_the_size_of_the_crop_changes_no_part(factor, blur):
    """A face twice as large with a blur twice as wide shows the same."""
    side = round(factor * SIDE)
    small = texture(SIDE)
    image = cv2.resize(change("sharpness", blur, small), (side, side), interpolation=cv2.INTER_CUBIC)
    one, other = judged(change("sharpness", blur, small), 96), judged(np.asarray(image, np.uint8), 96)
    for part in ("contrast", "sharpness", "noise", "exposure"):
        assert getattr(other, part) == pytest.approx(getattr(one, part), abs=0.12)


def test_a_small_face_that_was_enlarged_is_small_and_not_blurred():
    small = cv2.resize(texture(SIDE), (16, 16), interpolation=cv2.INTER_AREA)
    quality = judged(np.asarray(cv2.resize(small, (128, 128)), np.uint8), 16)
    assert quality.worst == "size"
    assert quality.sharpness == 1


@pytest.mark.parametrize("shape", [(1, 1), (3, 200), (200, 3), (8, 8), (9, 31), (500, 400)])
@pytest.mark.parametrize("value", [0, 255, None])
def test_any_crop_has_a_quality(shape, value):
    crop = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    crop = crop if value is None else np.full_like(crop, value)
    for side in (1, 20, 1000):
        quality = judged(crop, side)
        assert all(0 <= part <= 1 for part in quality.to_dict().values() if part is not None)
        assert value is None or quality.overall == 0


def head(yaw: float, pitch: float = 0, roll: float = 0, scale: float = 40, mouth: float = 0) -> list[Point]:
    """Eyes, tip of the nose, corners of the mouth, turned by degrees. mouth: how far it lies before the eyes."""
    points = np.array([(-0.5, 0, 0), (0.5, 0, 0), (0, 0.6, NOSE), (-0.4, 1.1, mouth), (0.4, 1.1, mouth)])
    y, p, r = np.radians([yaw, pitch, roll])
    turn = np.array([[math.cos(y), 0, math.sin(y)], [0, 1, 0], [-math.sin(y), 0, math.cos(y)]])
    nod = np.array([[1, 0, 0], [0, math.cos(p), -math.sin(p)], [0, math.sin(p), math.cos(p)]])
    tilt = np.array([[math.cos(r), -math.sin(r), 0], [math.sin(r), math.cos(r), 0], [0, 0, 1]])
    return [(scale * x + 70, scale * y + 30) for x, y, _ in points @ turn.T @ nod.T @ tilt.T]


@pytest.mark.parametrize("degrees", [-70, -30, -10, 0, 5, 45, 65])
@pytest.mark.parametrize("pitch", [-30, 0, 25])
@pytest.mark.parametrize("roll", [-40, 0, 70])
@pytest.mark.parametrize("scale", [3, 90])
def test_the_yaw_of_a_turned_head(degrees, pitch, roll, scale):
    assert yaw(head(degrees, pitch, roll, scale)) == pytest.approx(degrees, abs=1e-6)
    assert yaw(head(degrees, pitch, roll, scale, mouth=0.1)) == pytest.approx(degrees, abs=6)


def test_the_pose_falls_from_15_to_60_degrees():
    poses = [judged(texture(SIZE), landmarks=tuple(head(degrees))).pose for degrees in (10, 37.5, -37.5, 70)]
    assert poses == pytest.approx([1, 0.5, 0.5, 0])
    assert yaw([(1, 1), (1, 1), (2, 2), (0, 3), (1, 3)]) == 90  # the eyes at one point


@pytest.mark.parametrize("least", [-0.1, 1.1, math.nan])
def test_a_threshold_outside_0_and_1_is_refused(least):
    with pytest.raises(EdgefelError, match="min_quality"):
        check_least(least)
