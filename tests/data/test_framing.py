"""The framing of a data set: measured on drawn dots with a detector that finds them, stored, checked."""

from __future__ import annotations

import math
from dataclasses import replace

import cv2
import numpy as np
import pytest

from edgefel.data.framing import LEAST_FACES, Framing, for_images_like, measure_framing
from edgefel.data.open import open_dataset
from edgefel.data.preprocessing import Preprocessing
from edgefel.errors import EdgefelError
from edgefel.runtime.alignment import FaceBox

GOOD = Framing(0.38, 0.36, 0.02, 0.03, 200)


def dotted(size: tuple[int, int], down: float, apart: float, degrees: float = 0.0) -> np.ndarray:
    """RGB of this (height, width) on black, the left eye red and the right one green; shares of height and width."""
    height, width = size
    image = np.zeros((height, width, 3), np.uint8)
    x, y = (apart / 2 * f(math.radians(degrees)) for f in (math.cos, math.sin))
    for way, channel in ((-1, 0), (1, 1)):
        # OpenCV counts from the middle of the first pixel, in 16ths here
        place = ((0.5 + way * x) * width - 0.5, (down + way * y) * height - 0.5)
        dot = np.zeros((height, width), np.uint8)
        cv2.circle(dot, tuple(round(16 * value) for value in place), 16 * 4, 255, -1, cv2.LINE_AA, 4)
        image[:, :, channel] = dot
    return image


def find_dots(image: np.ndarray) -> list[FaceBox]:
    """A face in the middle whose eyes are the centres of red and green; and another, off the middle."""
    weights = np.clip(image[:, :, :2].astype(float) - 140, 0, None)  # the margin is grey
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]]
    eyes = tuple(
        ((w * columns).sum() / w.sum(), (w * rows).sum() / w.sum())
        for w in (weights[:, :, 0], weights[:, :, 1])
    )
    side = image.shape[0] // 2
    corner = (image.shape[0] - side) // 2
    away = FaceBox(0, 0, 9, eyes=((0, 0), (5, 0)))
    return [away, FaceBox(corner, corner, side, eyes=eyes)]


def written(folder, images, split: str = "train"):
    for number, image in enumerate(images):
        path = folder / split / "happiness" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), image[:, :, ::-1])
    other = folder / split / "anger"
    other.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(other / "x.png"), images[0][:, :, ::-1])
    return open_dataset(folder)


@pytest.mark.parametrize("size", [(101, 101), (64, 64), (97, 131), (223, 223)])
@pytest.mark.parametrize(("down", "apart"), [(0.38, 0.36), (0.5, 0.25)])
def test_it_is_where_the_eyes_are_in_the_square_that_the_network_sees(tmp_path, size, down, apart):
    images = [dotted(size, down, apart, degrees) for degrees in np.linspace(-6, 6, 12)]
    found = measure_framing(written(tmp_path, images), find_dots)
    assert (found.images, found.faces) == (13, 13)
    assert found.framing.eyes_down == pytest.approx(down, abs=0.004)
    assert found.framing.eyes_apart == pytest.approx(apart, abs=0.006)
    assert max(found.framing.down_spread, found.framing.apart_spread) < 0.01
    assert f"{found.framing.eyes_down:.3f} of the height" in found.summary


def test_spread_is_a_standard_deviation_that_outliers_leave_alone(tmp_path):
    rng = np.random.default_rng(0)
    downs = np.concatenate([rng.normal(0.4, 0.03, 90), np.full(6, 0.75)])
    found = measure_framing(written(tmp_path, [dotted((96, 96), down, 0.36) for down in downs]), find_dots)
    assert found.framing.down_spread == pytest.approx(0.03, rel=0.3)
    assert found.framing.eyes_down == pytest.approx(0.4, abs=0.01)


def test_turned_faces_other_splits_and_unreadable_files_are_left_out(tmp_path):
    written(tmp_path, [dotted((96, 96), 0.6, 0.36)] * 12, "test")
    turned = [dotted((96, 96), 0.4, 0.36, 15)] * 5
    dataset = written(tmp_path, [dotted((96, 96), 0.4, 0.36)] * 10 + turned)
    (tmp_path / "train" / "happiness" / "0.png").write_bytes(b"no image")
    found = measure_framing(dataset, find_dots)
    assert (found.images, found.faces) == (15, 10)
    assert found.framing.eyes_down == pytest.approx(0.4, abs=0.005)


def test_without_enough_faces_or_with_scattered_ones_it_is_not_known(tmp_path):
    few = measure_framing(
        written(tmp_path / "a", [dotted((96, 96), 0.4, 0.36)] * (LEAST_FACES - 2)), find_dots
    )
    assert few.framing is None
    assert f"at least {LEAST_FACES}" in few.summary
    mixed = [dotted((96, 96), down, 0.36) for down in np.linspace(0.15, 0.75, 30)]
    found = measure_framing(written(tmp_path / "b", mixed), find_dots)
    assert found.framing is None
    assert "not framed alike" in found.summary
    assert measure_framing(written(tmp_path / "c", mixed), lambda image: []).faces == 0
    assert found.to_dict()["framing"] is None


def test_it_measures_a_sample_that_the_seed_fixes(tmp_path):
    dataset = written(tmp_path, [dotted((96, 96), down, 0.36) for down in np.linspace(0.36, 0.44, 60)])
    first, same = (measure_framing(dataset, find_dots, most=20) for _ in range(2))
    assert first == same
    assert first.images == 20
    assert measure_framing(dataset, find_dots, most=20, seed=1) != first


def test_it_is_stored_as_plain_values():
    assert Framing.from_dict(GOOD.to_dict()) == GOOD


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("eyes_down", 0.05),
        ("eyes_down", 0.9),
        ("eyes_apart", 0.0),
        ("eyes_apart", 2),
        ("eyes_apart", float("nan")),
        ("eyes_apart", "0.36"),
        ("down_spread", -0.1),
        ("apart_spread", True),
        ("faces", 0),
        ("faces", 2.5),
        ("faces", True),
    ],
)
def test_impossible_values_are_refused(field, value):
    with pytest.raises(EdgefelError, match=rf"framing: {field} is"):
        replace(GOOD, **{field: value})
    with pytest.raises(EdgefelError, match=rf"framing: {field} is"):
        Framing.from_dict(GOOD.to_dict() | {field: value})


def test_missing_and_unknown_entries_are_refused():
    values = GOOD.to_dict()
    for wrong in (
        {**values, "chin": 1},
        {name: v for name, v in values.items() if name != "faces"},
        [1],
        None,
    ):
        with pytest.raises(EdgefelError, match="framing: "):
            Framing.from_dict(wrong)


def test_detail_is_the_side_that_hardly_an_image_exceeds(tmp_path):
    sizes = [(40, 48)] * 30 + [(48, 60)] * 30 + [(300, 300)]
    images = [np.zeros((*size, 3), np.uint8) for size in sizes]
    grey = written(tmp_path / "grey", images)
    assert for_images_like(Preprocessing(128, 112), grey) == Preprocessing(128, 112, detail=48, colour="grey")
    images[3][5, 5, 1] = 9
    coloured = written(tmp_path / "coloured", images)
    # what another data set had is not that of this one
    before = Preprocessing(48, 48, detail=20, colour="grey")
    assert for_images_like(before, coloured) == Preprocessing(48, 48)
