"""Eyes are a pair at a plausible place, and the best supported one."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest

from edgefel.data.synthetic.options import VideoOptions
from edgefel.data.synthetic.video import SyntheticVideo
from edgefel.errors import EdgefelError
from edgefel.runtime import eyes
from edgefel.runtime.eyes import EyeFinder, load_cascade, plausible, roll

LEVEL = ((30.0, 40.0), (70.0, 40.0))  # in the square (0, 0, 100)


def turned(degrees: float) -> eyes.Eyes:
    x, y = 20 * math.cos(math.radians(degrees)), 20 * math.sin(math.radians(degrees))
    return (50 - x, 40 - y), (50 + x, 40 + y)


def test_eyes_of_a_drawn_face_at_any_size_of_the_face():
    video = SyntheticVideo(VideoOptions(seconds=0.1, faces=1, changes=0, pose=0, labels=("happiness",)))
    face = video.faces(0)[0]
    grey = cv2.cvtColor(video.frame(0), cv2.COLOR_RGB2GRAY)
    side = 1.1 * face["side"]
    left, top = (value - side / 2 for value in face["centre"])
    for scale in (0.5, 1, 2):
        image = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        found = EyeFinder()(image, scale * left, scale * top, scale * side)
        assert found is not None
        assert np.abs(np.asarray(found) / scale - face["eyes"]).max() < 0.06 * face["side"]


@pytest.mark.parametrize("square", [(-400, 0, 100), (300, 0, 40), (10, 236, 100), (10, 10, 1)])
def test_no_eyes_outside_the_image_nor_in_a_flat_one(square):
    assert EyeFinder()(np.full((240, 320), 128, np.uint8), *square) is None


@pytest.mark.parametrize("degrees", [-29, 0, 29])
def test_eyes_within_the_limits_are_plausible(degrees):
    assert roll(turned(degrees)) == pytest.approx(degrees)
    assert plausible(turned(degrees), 0, 0, 100)
    shifted = tuple((x + 7, y - 3) for x, y in turned(degrees))
    assert plausible(shifted, 7, -3, 100)


@pytest.mark.parametrize(
    "pair",
    [
        LEVEL[::-1],
        turned(31),
        turned(-31),
        ((40, 40), (60, 40)),
        ((18, 40), (82, 40)),
        ((30, 20), (70, 20)),
        ((30, 60), (70, 60)),
        ((50, 40), (90, 40)),
    ],
    ids=["swapped", "rolled", "rolled back", "too close", "too far apart", "too high", "too low", "aside"],
)
def test_what_cannot_be_the_eyes_of_the_face(pair):
    assert not plausible(pair, 0, 0, 100)


def test_a_larger_roll_where_it_is_allowed():
    assert plausible(turned(45), 0, 0, 100, max_roll=60)


def test_the_pair_whose_weaker_eye_has_the_most_votes():
    left, right, nostril, brow = (*LEVEL[0], 5), (*LEVEL[1], 4), (50.0, 45.0, 30), (32.0, 30.0, 3)
    assert eyes._best_pair([nostril, right, brow, left], 0, 0, 100) == LEVEL
    assert eyes._best_pair([nostril, left], 0, 0, 100) is None
    assert eyes._best_pair([], 0, 0, 100) is None


def test_a_missing_cascade_says_which_package_has_it(monkeypatch, tmp_path):
    monkeypatch.setattr(eyes, "SYSTEM_CASCADES", (tmp_path,))
    with pytest.raises(EdgefelError, match=r"nowhere\.xml: .*opencv-data"):
        load_cascade("nowhere.xml")
    monkeypatch.setattr(cv2, "__file__", str(tmp_path / "cv2.so"))
    (tmp_path / "broken.xml").write_text("<opencv_storage/>")
    with pytest.raises(EdgefelError, match=r"broken\.xml"):
        load_cascade("broken.xml")
