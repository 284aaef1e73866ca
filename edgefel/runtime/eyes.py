"""Finds the eyes of a face that a detector without landmarks has found, and judges eye positions. Torch-free."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import cv2
import numpy as np

from edgefel.data.preprocessing import Image
from edgefel.errors import EdgefelError

Point = tuple[float, float]
Eyes = tuple[Point, Point]

# All lengths below are shares of the face's side. The face is brought to one size before the search, so that
# every face costs the same. A roll of 30 degrees moves an eye by 9 % up or down: hence the height of the band.
SEARCH_SIDE = 96
_BAND = (0.18, 0.60)
_EYE_SIZES = (0.20, 0.36)
_STEP, _NEIGHBOURS = 1.15, 2
_APART = (0.25, 0.60)
_MIDDLE_DOWN = (0.25, 0.55)
_MIDDLE_ASIDE = 0.15
MAX_ROLL = 30.0
SYSTEM_CASCADES = (Path("/usr/share/opencv4/haarcascades"), Path("/usr/local/share/opencv4/haarcascades"))


class EyeFinder:
    """OpenCV's bundled eye cascade, on the upper part of a face: open eyes, seldom behind glasses. It takes the same
    time whatever the size of the face.
    """

    def __init__(self) -> None:
        self._cascade = load_cascade("haarcascade_eye.xml")

    def __call__(self, grey: Image, left: float, top: float, side: float) -> Eyes | None:
        """Eyes of the face in the square (left, top, side) of a grey image, uint8 [H, W].

        Returns the eye on the image's left first, in pixels of `grey`; None where no plausible pair is seen.
        """
        height, width = grey.shape
        x0, x1 = (int(value) for value in np.clip((round(left), round(left + side)), 0, width))
        y0, y1 = (int(value) for value in np.clip([round(top + share * side) for share in _BAND], 0, height))
        if x1 - x0 < 2 or y1 - y0 < 2:
            return None
        factor = SEARCH_SIDE / side
        size = (max(1, round((x1 - x0) * factor)), max(1, round((y1 - y0) * factor)))
        method = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
        band = cv2.resize(grey[y0:y1, x0:x1], size, interpolation=method)
        least, most = (round(share * SEARCH_SIDE) for share in _EYE_SIZES)
        found, votes = self._cascade.detectMultiScale2(
            band, scaleFactor=_STEP, minNeighbors=_NEIGHBOURS, minSize=(least, least), maxSize=(most, most)
        )
        across, down = (x1 - x0) / size[0], (y1 - y0) / size[1]
        spots = [
            (x0 + (x + w / 2) * across - 0.5, y0 + (y + h / 2) * down - 0.5, int(vote))
            for (x, y, w, h), vote in zip(np.asarray(found).tolist(), np.ravel(votes), strict=True)
        ]
        return _best_pair(spots, left, top, side)


def load_cascade(name: str) -> cv2.CascadeClassifier:
    """One of the cascades that come with OpenCV: in pip's package, or where Debian, Ubuntu and JetPack put them.

    Raises EdgefelError if it is in neither place.
    """
    for folder in (Path(cv2.__file__).parent / "data", *SYSTEM_CASCADES):
        cascade = cv2.CascadeClassifier()
        with contextlib.suppress(cv2.error):  # a damaged file
            if (folder / name).is_file() and cascade.load(str(folder / name)):
                return cascade
    raise EdgefelError(
        f"{name}: OpenCV's cascade is missing; install opencv-python-headless 4.x, or for the system's OpenCV the "
        "package opencv-data"
    )


def plausible(eyes: Eyes, left: float, top: float, side: float, max_roll: float = MAX_ROLL) -> bool:
    """Whether these can be the eyes of the face in the square: 25 to 60 % of the side apart, rolled by less than
    `max_roll` degrees, with the point between them in the upper middle."""
    (x0, y0), (x1, y1) = eyes
    middle_x, middle_y = (x0 + x1) / 2 - left, (y0 + y1) / 2 - top
    return (
        x1 > x0
        and _APART[0] * side <= math.hypot(x1 - x0, y1 - y0) <= _APART[1] * side
        and abs(roll(eyes)) < max_roll
        and _MIDDLE_DOWN[0] * side <= middle_y <= _MIDDLE_DOWN[1] * side
        and abs(middle_x - side / 2) <= _MIDDLE_ASIDE * side
    )


def roll(eyes: Eyes) -> float:
    """Degrees by which the line through the eyes falls to the right; 0 is level."""
    (x0, y0), (x1, y1) = eyes
    return math.degrees(math.atan2(y1 - y0, x1 - x0))


def _best_pair(
    spots: Sequence[tuple[float, float, int]], left: float, top: float, side: float
) -> Eyes | None:
    """The plausible pair whose weaker eye has the most votes."""
    pairs = [(min(a[2], b[2]), (a[:2], b[:2])) for a, b in combinations(sorted(spots), 2)]
    possible = [(votes, eyes) for votes, eyes in pairs if plausible(eyes, left, top, side)]
    return max(possible, key=lambda pair: pair[0], default=(0, None))[1]
