"""Framing as a contract: whatever found a face, its eyes come out where the training images have them."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest

from edgefel.data.framing import Framing
from edgefel.data.preprocessing import Preprocessing
from edgefel.runtime.alignment import (
    HAAR_BOX,
    MOST_APART,
    MOST_SHRINKING,
    YUNET_BOX,
    BoxLayout,
    FaceBox,
    align,
    frame_face,
    misframed,
)

FRAMING = Framing(0.39, 0.36, 0.03, 0.03, 100)
LAYOUTS = pytest.mark.parametrize(
    "layout", [YUNET_BOX, HAAR_BOX, BoxLayout(0.5, 0.3)], ids=["yunet", "haar", "other"]
)


def face(
    middle: tuple[float, float], apart: float, degrees: float, layout: BoxLayout, eyes: bool = True
) -> FaceBox:
    """The box that a detector of this layout draws for a face whose eyes' middle, distance and roll these are."""
    side = apart / layout.eyes_apart
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    up = (0.5 - layout.eyes_down) * side  # from the box's centre to the eyes, when upright
    centre = (middle[0] - sin * up, middle[1] + cos * up)
    x, y = apart / 2 * cos, apart / 2 * sin
    points = ((middle[0] - x, middle[1] - y), (middle[0] + x, middle[1] + y))
    corner = (round(value + 0.5 - side / 2) for value in centre)
    return FaceBox(*corner, round(side), eyes=points if eyes else None, layout=layout)


def ramps(height: int = 260, width: int = 300) -> np.ndarray:
    """Bilinear interpolation is exact on it: red and green are half the place that a pixel was taken from."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([columns // 2, rows // 2, rows * 0], axis=2).astype(np.uint8)


def eyes_in(crop: np.ndarray) -> np.ndarray:
    """Where red and green dots are in a crop, as shares of its side [2, 2]: (x, y) of each."""
    rows, columns = np.mgrid[: crop.shape[0], : crop.shape[1]] + 0.5
    weights = [crop[:, :, channel].astype(np.float64) for channel in (0, 1)]
    return np.array([((w * columns).sum() / w.sum(), (w * rows).sum() / w.sum()) for w in weights]) / len(
        crop
    )


def drawn(box: FaceBox, eyes: tuple[tuple[float, float], ...]) -> np.ndarray:
    image = np.zeros((400, 420, 3), np.uint8)
    for channel, (x, y) in enumerate(eyes):
        dot = np.zeros(image.shape[:2], np.uint8)
        cv2.circle(dot, (round(16 * x), round(16 * y)), 16 * 4, 255, -1, cv2.LINE_AA, 4)
        image[:, :, channel] = dot
    return image


@LAYOUTS
@pytest.mark.parametrize("degrees", [0.0, -13.0, 31.0, 60.0])
@pytest.mark.parametrize(("apart", "size"), [(41.0, None), (67.3, 128), (67.3, 97), (30.5, 112)])
def test_eyes_come_out_where_the_framing_has_them(layout, degrees, apart, size):
    box = face((203.4, 190.7), apart, degrees, layout)
    crop = align(drawn(box, box.eyes), box, size, FRAMING)
    side = frame_face(box, FRAMING).side
    kept = size is None or side > MOST_SHRINKING * size  # pixels of a much larger face
    assert crop.shape == ((round(side),) * 2 if kept else (size,) * 2) + (3,)
    half = FRAMING.eyes_apart / 2
    expected = ((0.5 - half, FRAMING.eyes_down), (0.5 + half, FRAMING.eyes_down))
    # boxes are whole pixels: half a pixel of a crop's 40 to 70
    assert np.abs(eyes_in(crop) - expected).max() < 0.012


@pytest.mark.parametrize("eyes", [True, False], ids=["eyes", "no eyes"])
@pytest.mark.parametrize("apart", [33.0, 50.6])
def test_the_same_face_by_any_detector_is_the_same_crop(eyes, apart):
    """On ramps, pixels are places: two crops differ nowhere by more than rounding of the boxes brings."""
    image = ramps()
    shown = [
        align(image, face((141.2, 130.6), apart, 0.0, layout, eyes), 96, FRAMING).astype(int)
        for layout in (YUNET_BOX, HAAR_BOX)
    ]
    assert np.abs(shown[0] - shown[1]).max() <= 2


def test_a_face_given_as_a_crop_is_the_crop_of_the_face_that_is_found():
    """A training crop pasted into an image comes out as it went in, at another size."""
    rng = np.random.default_rng(3)
    noise = cv2.resize(
        rng.integers(0, 256, (12, 12, 3), dtype=np.uint8), (96, 96), interpolation=cv2.INTER_CUBIC
    )
    image = np.zeros((400, 420, 3), np.uint8)
    large = cv2.resize(noise, (192, 192), interpolation=cv2.INTER_LINEAR)
    image[101:293, 88:280] = large
    middle = (88 + 96 - 0.5, 101 + FRAMING.eyes_down * 192 - 0.5)
    for layout in (YUNET_BOX, HAAR_BOX):
        box = face(middle, FRAMING.eyes_apart * 192, 0.0, layout)
        crop = Preprocessing(96, 96).resize_image(align(image, box, 96, FRAMING))
        expected = cv2.resize(large, (96, 96), interpolation=cv2.INTER_AREA)
        difference = crop.astype(int) - expected
        assert np.abs(difference).mean() < 4


def test_a_box_without_a_layout_is_a_crop_already():
    image = ramps()
    box = FaceBox(11, 7, 90, layout=None)
    assert np.array_equal(align(image, box, 64, FRAMING), box.crop(image))
    assert misframed(image, box, FRAMING) is None


def test_without_a_framing_layouts_change_nothing():
    image = ramps()
    for eyes in (None, ((40.0, 50.0), (75.0, 60.0))):
        for size in (None, 64):
            shown = [
                align(image, FaceBox(20, 20, 80, eyes=eyes, layout=one), size)
                for one in (YUNET_BOX, HAAR_BOX)
            ]
            assert np.array_equal(*shown)


def test_in_profile_the_box_holds_the_size():
    """The eyes of a head turned aside come together; by them alone the frame would shrink as much."""
    whole = face((150.0, 120.0), 50.0, 0.0, YUNET_BOX)
    narrow = FaceBox(whole.x, whole.y, whole.side, eyes=((133.0, 120.0), (167.0, 120.0)), layout=YUNET_BOX)
    ratio = frame_face(narrow, FRAMING).side / frame_face(whole, FRAMING).side
    assert ratio == pytest.approx((34 / 50) ** 0.5, abs=0.01)


def test_eyes_that_do_not_fit_are_left_aside():
    image = ramps()
    whole = face((150.0, 120.0), 50.0, 0.0, YUNET_BOX, eyes=False)
    expected = frame_face(whole, FRAMING)
    far = 50 * (MOST_APART + 0.1) / 2
    for eyes in (
        ((150 - far, 120.0), (150 + far, 120.0)),
        ((125.0, 190.0), (175.0, 190.0)),
        ((149.0, 120.0),) * 2,
    ):
        box = FaceBox(whole.x, whole.y, whole.side, eyes=eyes, layout=YUNET_BOX)
        frame = frame_face(box, FRAMING)
        assert (frame.x, frame.y, frame.side, frame.degrees) == (expected.x, expected.y, expected.side, 0.0)
        assert not frame.eyes_fit
        assert misframed(image, box, FRAMING) == "eyes that do not fit its box"


def test_a_frame_far_beyond_the_image_is_named():
    image = ramps()
    inside, edge, corner = (face(place, 50.0, 0.0, YUNET_BOX) for place in ((150, 120), (60, 120), (10, 20)))
    assert misframed(image, inside, FRAMING) is None
    assert misframed(image, edge, FRAMING) is None
    assert misframed(image, corner, FRAMING) == "a frame that reaches far beyond the image"
    assert align(image, corner, 128, FRAMING).shape == (128, 128, 3)
    outside = FaceBox(900, 900, 40, layout=YUNET_BOX)
    assert align(image, outside, 64, FRAMING).shape[2] == 3
