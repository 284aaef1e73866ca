"""Faces turned in the image plane are looked at again until their roll is known."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import pytest
from matplotlib import cbook

from edgefel.data.framing import Framing
from edgefel.data.images import read_rgb
from edgefel.data.synthetic.options import VideoOptions
from edgefel.data.synthetic.video import SyntheticVideo
from edgefel.runtime.alignment import FaceBox
from edgefel.runtime.eyes import roll
from edgefel.runtime.faces import HaarDetector, WholeImage, YuNetDetector
from edgefel.runtime.levelling import LEVEL, LEVEL_WINDOWS, MOST_LOOKS, LevelDetector, levelling

SHARED_YUNET = Path(__file__).parents[3] / "shared" / "data" / "yunet.onnx"
APART, SIDE = 40, 110
UP = 0.1 * SIDE  # from the middle of the box to that of the eyes


def marked(degrees: float, middle: tuple[float, float] = (160.0, 150.0)) -> np.ndarray:
    """A red and a green eye of a face that is turned clockwise, its middle below them."""
    image = np.full((320, 340, 3), 30, np.uint8)
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    eyes = (middle[0] + sin * UP, middle[1] - cos * UP)
    for way, colour in ((-1, (255, 30, 30)), (1, (30, 255, 30))):
        place = (eyes[0] + way * APART / 2 * cos, eyes[1] + way * APART / 2 * sin)
        cv2.circle(image, tuple(round(16 * v) for v in place), 16 * 6, colour, -1, cv2.LINE_AA, 4)
    return image


class UnderReading:
    """Finds `marked` faces, and reads `share` of their roll up to `most` degrees; counts its calls."""

    def __init__(self, share: float = 0.5, most: float = 20.0, landmarks: bool = True) -> None:
        self.share, self.most, self.landmarks, self.calls = share, most, landmarks, 0

    def __call__(self, image: np.ndarray) -> list[FaceBox]:
        self.calls += 1
        weights = image[:, :, :2].astype(float) - image[:, :, 2:] - 100
        rows, columns = np.mgrid[: image.shape[0], : image.shape[1]]
        w = weights.clip(0)
        if not w[..., 0].any() or not w[..., 1].any():
            return []
        red, green = (
            np.array(((w[..., c] * columns).sum(), (w[..., c] * rows).sum())) / w[..., c].sum()
            for c in (0, 1)
        )
        true = math.atan2(*(green - red)[::-1])
        self.true = math.degrees(true)
        apart = float(np.hypot(*(green - red)))
        read = math.radians(np.clip(self.share * math.degrees(true), -self.most, self.most))
        middle, side = (red + green) / 2, round(apart * SIDE / APART)
        centre = middle + UP / APART * apart * np.array((-math.sin(true), math.cos(true)))
        half = apart / 2 * np.array((math.cos(read), math.sin(read)))
        eyes = (tuple((middle - half).tolist()), tuple((middle + half).tolist()))
        corner = (round(value + 0.5 - side / 2) for value in centre.tolist())
        return [
            FaceBox(
                *corner, side, 0.9, eyes=eyes, landmarks=(*eyes, eyes[0], *eyes) if self.landmarks else None
            )
        ]


@pytest.mark.parametrize("degrees", [0, -7, 15, -30, 45, 60, -60])
@pytest.mark.parametrize("landmarks", [True, False])
def test_what_a_detector_reads_too_little_of_is_read_to_the_end(degrees, landmarks):
    detector = UnderReading(landmarks=landmarks)
    (box,) = LevelDetector(detector)(marked(degrees))
    rest = (LEVEL if landmarks else LEVEL_WINDOWS) / 0.5  # a rest that is read as less is left
    assert roll(box.eyes) == pytest.approx(degrees, abs=rest)
    assert box.centre == pytest.approx((160, 150), abs=2)
    assert box.side == pytest.approx(SIDE, abs=3)
    assert box.score == 0.9
    assert detector.calls <= 1 + MOST_LOOKS


def test_a_known_turned_face_takes_one_look():
    detector = UnderReading()
    level = LevelDetector(detector)
    (box,) = level(marked(50))
    detector.calls = 0
    (again,) = level.near(marked(52, (164.0, 147.0)), [box])
    assert detector.calls == 1
    assert roll(again.eyes) == pytest.approx(52, abs=LEVEL / 0.5)
    assert again.centre == pytest.approx((164, 147), abs=2)
    assert level.near(np.full((320, 340, 3), 30, np.uint8), [box]) == []


def test_large_level_faces_are_not_looked_at_again():
    image = cv2.resize(marked(3), None, fx=2, fy=2)
    detector = UnderReading()
    found = LevelDetector(detector)(image)
    assert detector.calls == 1
    assert found == UnderReading()(image)


class Frontal(UnderReading):
    """Sees nothing that is turned by more than 35 degrees."""

    def __call__(self, image):
        found = super().__call__(image)
        return [] if found and abs(self.true) > 35 else found


@pytest.mark.parametrize("degrees", [-60, 40, 60])
def test_where_no_face_is_seen_turned_copies_are_searched(degrees):
    image = marked(degrees)[:, 10:]  # not square
    assert LevelDetector(Frontal())(image) == []
    (box,) = LevelDetector(Frontal(), copies=True)(image)
    assert roll(box.eyes) == pytest.approx(degrees, abs=LEVEL / 0.5)
    assert box.centre == pytest.approx((150, 150), abs=3)
    assert box.side == pytest.approx(SIDE, abs=4)
    assert LevelDetector(Frontal(), copies=True)(np.full((320, 340, 3), 30, np.uint8)) == []
    upright = Frontal()
    LevelDetector(upright, copies=True)(cv2.resize(marked(0), None, fx=2, fy=2))
    assert upright.calls == 1


def test_faces_without_eyes_stay_as_they_are():
    class Blind:
        def __call__(self, image):
            return [FaceBox(10, 20, 60), FaceBox(100, 20, 30)]

    image = marked(20)
    assert LevelDetector(Blind())(image) == Blind()(image)


def test_only_a_network_whose_framing_is_known_has_faces_levelled():
    detector, framing = UnderReading(), Framing(0.39, 0.36, 0.03, 0.03, 100)
    assert levelling(detector, None) is detector
    assert isinstance(levelling(WholeImage(), framing), WholeImage)
    assert isinstance(levelling(detector, framing), LevelDetector)


def turned(image: np.ndarray, about: tuple[float, float], degrees: float) -> np.ndarray:
    matrix = cv2.getRotationMatrix2D(about, -degrees, 1.0)
    return cv2.warpAffine(image, matrix, image.shape[1::-1], borderMode=cv2.BORDER_REPLICATE)


@pytest.mark.skipif(not SHARED_YUNET.is_file(), reason="needs YuNet's file, ../shared/data/yunet.onnx")
@pytest.mark.parametrize("side", [110, 212])
def test_a_photographed_face_turned_by_up_to_60_degrees_is_brought_level(side):
    image = read_rgb(Path(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)))
    yunet = YuNetDetector(SHARED_YUNET)
    image = cv2.resize(image, None, fx=side / 212, fy=side / 212, interpolation=cv2.INTER_AREA)
    level = LevelDetector(yunet)
    (upright,) = level(image)
    for degrees in (-50, -20, 20, 40, 60):
        (box,) = level(turned(image, upright.centre, degrees))
        assert roll(box.eyes) == pytest.approx(roll(upright.eyes) + degrees, abs=10)
        (known,) = level.near(turned(image, upright.centre, degrees + 2), [box])
        assert roll(known.eyes) == pytest.approx(roll(upright.eyes) + degrees + 2, abs=10)


def test_level_faces_that_haar_finds_cost_no_second_search():
    video = SyntheticVideo(VideoOptions(seconds=0.1, faces=1, changes=0, pose=0, labels=("happiness",)))
    detector = HaarDetector(0.2)
    found = detector(video.frame(0))
    assert found[0].eyes is not None
    assert LevelDetector(detector)(video.frame(0)) == found
