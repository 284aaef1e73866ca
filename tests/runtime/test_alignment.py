"""Crops with level eyes: against the rotation written out, and on drawn faces."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest

from edgefel.data.synthetic.options import VideoOptions
from edgefel.data.synthetic.video import SyntheticVideo
from edgefel.runtime.alignment import LEAST_ROLL, FaceBox, align
from edgefel.runtime.eyes import roll
from edgefel.runtime.faces import HaarDetector, crops


def eyes_at(middle: tuple[float, float], apart: float, degrees: float):
    """Two eyes `apart` pixels from each other; the line through them falls to the right by `degrees`."""
    x, y = (apart / 2 * f(math.radians(degrees)) for f in (math.cos, math.sin))
    return (middle[0] - x, middle[1] - y), (middle[0] + x, middle[1] + y)


def noise(height: int = 90, width: int = 120) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("box", [FaceBox(20, 10, 50), FaceBox(-9, 60, 41)], ids=["inside", "beyond"])
def test_without_eyes_and_with_level_ones_it_is_the_crop(box):
    image = noise()
    level = eyes_at((box.x + 25, box.y + 20), 18, 0.9 * LEAST_ROLL)
    for same in (box, FaceBox(box.x, box.y, box.side, eyes=level)):
        np.testing.assert_array_equal(align(image, same), box.crop(image))


@pytest.mark.parametrize("degrees", [-27.0, -5.0, 2.5, 14.0])
@pytest.mark.parametrize("place", [(30, 20), (-15, -8), (70, 45)], ids=["inside", "top left", "bottom right"])
def test_every_pixel_is_the_image_at_the_turned_place(degrees, place):
    """On ramps bilinear interpolation is exact, so each pixel says where it was taken from."""
    height, width, side = 100, 120, 61
    rows, columns = np.mgrid[0:height, 0:width]
    image = np.stack([2 * columns, 2 * rows, columns + rows], axis=2).astype(np.uint8)
    middle = (place[0] + 31.5, place[1] + 23.0)
    crop = align(image, FaceBox(*place, side, eyes=eyes_at(middle, 22, degrees)))
    down, across = np.mgrid[0:side, 0:side].astype(np.float64)
    x, y = across + place[0] - middle[0], down + place[1] - middle[1]
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    from_x = np.clip(cos * x - sin * y + middle[0], 0, width - 1)
    from_y = np.clip(sin * x + cos * y + middle[1], 0, height - 1)
    expected = np.stack([2 * from_x, 2 * from_y, from_x + from_y], axis=2)
    assert crop.shape == (side, side, 3)
    assert crop.dtype == np.uint8
    # OpenCV takes places in 32nds of a pixel
    assert np.abs(crop - expected).max() <= 0.5 + 2 * 2 / 32


def test_the_eyes_come_out_level_and_where_their_middle_was():
    image = np.zeros((200, 240, 3), np.uint8)
    box = FaceBox(50, 40, 120, eyes=eyes_at((111.0, 87.0), 44, 17))
    for x, y in box.eyes:
        cv2.circle(image, (round(x * 16), round(y * 16)), 4 * 16, (255, 255, 255), -1, cv2.LINE_AA, 4)
    crop = align(image, box)[:, :, 0].astype(np.float64)
    rows, columns = np.mgrid[0:120, 0:120]
    halves = [crop * (columns < 61), crop * (columns >= 61)]
    (x0, y0), (x1, y1) = [((h * columns).sum() / h.sum(), (h * rows).sum() / h.sum()) for h in halves]
    assert y0 == pytest.approx(y1, abs=0.3)
    assert x1 - x0 == pytest.approx(44, abs=0.4)
    assert ((x0 + x1) / 2, (y0 + y1) / 2) == pytest.approx((61, 47), abs=0.3)


def test_a_view_is_as_good_as_a_copy_and_outside_the_border_is_repeated():
    view = noise()[::-1, :, ::-1]
    box = FaceBox(20, 10, 50, eyes=eyes_at((45, 30), 18, 20))
    np.testing.assert_array_equal(align(view, box), align(view.copy(), box))
    outside = FaceBox(500, 10, 50, eyes=eyes_at((525, 30), 18, 20))
    np.testing.assert_array_equal(align(view, outside), outside.crop(view))


@pytest.fixture(scope="module")
def drawn():
    """One drawn face in the middle of a frame, and what is known of it."""
    video = SyntheticVideo(VideoOptions(seconds=0.1, faces=1, changes=0, pose=0, labels=("happiness",)))
    return video.frame(0), video.faces(0)[0]


@pytest.mark.parametrize("degrees", [-15, 0, 15])
def test_the_eyes_of_a_drawn_face_are_found_and_levelled(drawn, degrees):
    image, face = drawn
    matrix = cv2.getRotationMatrix2D(tuple(face["centre"]), -degrees, 1.0)  # clockwise
    turned = cv2.warpAffine(image, matrix, (640, 480), borderMode=cv2.BORDER_REPLICATE)
    true = np.asarray(face["eyes"]) @ matrix[:, :2].T + matrix[:, 2]
    (box,) = HaarDetector(0.2)(turned)
    assert np.abs(np.asarray(box.eyes) - true).max() < 0.05 * face["side"]
    assert roll(box.eyes) == pytest.approx(degrees, abs=4)
    (near,) = HaarDetector(0.2).near(turned, [box.moved(6, -9)])
    assert np.abs(np.asarray(near.eyes) - true).max() < 0.05 * face["side"]
    (crop,) = crops(turned, [box])
    (again,) = HaarDetector(0.5, eyes=True)(np.pad(crop, ((40, 40), (40, 40), (0, 0)), mode="edge"))
    assert abs(roll(again.eyes)) < 4
    assert HaarDetector(0.2, eyes=False)(turned)[0].eyes is None


@pytest.mark.parametrize("degrees", [0.0, 12.0, -7.0])
@pytest.mark.parametrize(("side", "size"), [(100, 80), (60, 96), (96, 64)])
def test_a_face_in_the_wanted_size_is_sampled_where_it_should_be(degrees, side, size):
    """On a ramp bilinear sampling is exact: a pixel's value says where in the image it was taken."""
    rows, columns = np.mgrid[:200, :240]
    ramp = np.stack([columns, rows, np.zeros_like(rows)], axis=2).astype(np.uint8)
    angle = math.radians(degrees)
    cos, sin = math.cos(angle), math.sin(angle)
    centre, half = (118.0, 92.0), 0.2 * side
    eyes = tuple((centre[0] + way * half * cos, centre[1] + way * half * sin) for way in (-1, 1))
    box = FaceBox(80, 60, side, 1.0, eyes)
    crop = align(ramp, box, size)
    assert crop.shape == (size, size, 3)
    v, u = (index[4:-4, 4:-4] for index in np.mgrid[:size, :size])
    # in pixels of the box: the middle of a pixel of the crop lies in the middle of what it stands for
    x = 80 + (u + 0.5) * side / size - 0.5 - centre[0]
    y = 60 + (v + 0.5) * side / size - 0.5 - centre[1]
    wanted = np.stack([centre[0] + cos * x - sin * y, centre[1] + sin * x + cos * y], axis=2)
    assert np.abs(crop[4:-4, 4:-4, :2] - wanted).max() < 0.6


def test_a_much_larger_face_keeps_its_pixels():
    image = np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)
    level = FaceBox(20, 20, 200, 1.0, ((80.0, 90.0), (160.0, 90.0)))
    assert np.array_equal(align(image, level, 100), level.crop(image))
    turned = FaceBox(20, 20, 200, 1.0, ((80.0, 80.0), (160.0, 100.0)))
    assert np.array_equal(align(image, turned, 100), align(image, turned))


def test_without_eyes_the_size_changes_nothing():
    image = np.random.default_rng(1).integers(0, 256, (100, 100, 3), dtype=np.uint8)
    box = FaceBox(10, 10, 60, 1.0)
    assert np.array_equal(align(image, box, 64), box.crop(image))
