"""Reads how far faces are turned in the image plane, by looking again at upright copies of them. Torch-free.

YuNet's landmarks of a face below some 150 pixels lie nearly as of an upright one, however far the face is turned; of
larger ones they hold to about 25 degrees. So a face is looked at again, enlarged and turned by what was read, and what
is read there is added, until it is level.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np

from edgefel.data.framing import Framing
from edgefel.data.preprocessing import Image
from edgefel.runtime.alignment import FaceBox
from edgefel.runtime.eyes import Point, roll
from edgefel.runtime.faces import FaceDetector, WholeImage, detect_near
from edgefel.runtime.searching import LONGEST_SIDE
from edgefel.runtime.yunet import YuNetDetector

# The upright copy: how many sides of the face it shows, and its pixels; the face has about 200, with fewer rolls are
# read worse. Wider copies cost more and read no better. NEAR: where the face may have moved.
LOOK, LOOK_NEAR = (1.1, 224), (1.6, 320)
# Of rolls above LEVEL_WINDOWS too little is read: they are taken for this much larger, which saves looks.
UNDERREAD = 1.5
LEVEL = 4.0  # degrees; what is read within them is noise
MOST_LOOKS = 4  # a face turned by 60 degrees takes four
_GREY = (128, 128, 128)
READ_SIDE = 160  # pixels; of smaller faces landmarks say little about the roll
# YuNet finds half of the faces turned by 40 degrees and one in six of those turned by 60; with these copies of the
# image 19 in 20.
COPIES = (-50.0, 50.0)
# Without landmarks, eyes are two windows of a cascade: right to 4 degrees, however large the face.
LEVEL_WINDOWS = 8.0


class LevelDetector:
    """Any detector, with the true roll of its faces: the eyes and boxes of faces turned by up to 60 degrees.

    The box of a turned face is the one around the face when it stands upright, about the same middle.
    copies: where an image shows no face, search copies of it turned by COPIES too; that takes three times as long.
    """

    def __init__(self, detector: FaceDetector, *, copies: bool = False) -> None:
        self._detector = detector
        self._copies = copies

    def __call__(self, image: Image) -> list[FaceBox]:
        """uint8 RGB [H, W, 3] -> boxes, the largest first."""
        shrunk = min(1.0, LONGEST_SIDE / max(image.shape[:2]))
        found = [self._level(image, box, box.side * shrunk) for box in self._detector(image)]
        if self._copies and not found:
            found = self._search_copies(image)
        return sorted(found, key=lambda box: -box.side)

    def near(self, image: Image, boxes: Sequence[FaceBox]) -> list[FaceBox]:
        """As `detect_near`. One look is enough for a face that was turned before: its copy is turned so at once."""
        found: list[FaceBox] = []
        for known in boxes:
            turned = 0.0 if known.eyes is None else roll(known.eyes)
            if abs(turned) < LEVEL_WINDOWS:
                again = detect_near(self._detector, image, [known])
                found += [self._level(image, box, box.side) for box in again]
            elif (box := self._look(image, known, turned, LOOK_NEAR)) is not None:
                rest = 0.0 if box.eyes is None else roll(box.eyes) - turned
                settled = abs(rest) < (LEVEL if box.landmarks else LEVEL_WINDOWS)
                found.append(box if settled else self._settle(image, box, turned, rest))
        return sorted(found, key=lambda box: -box.side)

    def _level(self, image: Image, box: FaceBox, seen: float) -> FaceBox:
        """The face with its roll read until it is level. seen: its side in the image that was searched."""
        eyes = box.landmarks[:2] if box.landmarks else box.eyes
        if eyes is None:
            return box
        read = roll((eyes[0], eyes[1]))
        limit = LEVEL if box.landmarks else LEVEL_WINDOWS
        if abs(read) < limit and box.eyes is not None and (seen >= READ_SIDE or not box.landmarks):
            return box
        settled = self._settle(image, box, 0.0, read)
        # of a face that turns out to be level, the first box stays: each search has its own error of place and size
        turned = settled.eyes is not None and abs(roll(settled.eyes)) >= LEVEL_WINDOWS
        return settled if turned or box.eyes is None else box

    def _search_copies(self, image: Image) -> list[FaceBox]:
        """The faces of copies of the image that are turned back by COPIES; of one in both, the surer."""
        height, width = image.shape[:2]
        found: list[FaceBox] = []
        for degrees in COPIES:
            cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
            size = round(abs(cos) * width + abs(sin) * height), round(abs(sin) * width + abs(cos) * height)
            x, y = ((side - 1) / 2 for side in size)
            middle = (width - 1) / 2, (height - 1) / 2
            matrix = np.array(
                ((cos, -sin, middle[0] - cos * x + sin * y), (sin, cos, middle[1] - sin * x - cos * y))
            )
            flags = cv2.WARP_INVERSE_MAP | cv2.INTER_LINEAR
            copy = np.asarray(cv2.warpAffine(image, matrix, size, flags=flags, borderValue=_GREY), np.uint8)
            for seen in self._detector(copy):
                box = _to_image(seen, matrix, 1.0)
                inside = 0 <= box.centre[0] < width and 0 <= box.centre[1] < height
                if inside and box.eyes is not None:
                    found.append(self._settle(image, box, degrees, roll(box.eyes) - degrees))
        kept: list[FaceBox] = []
        for box in sorted(found, key=lambda box: -(box.score or 0.0)):
            if all(math.dist(box.centre, other.centre) > max(box.side, other.side) / 2 for other in kept):
                kept.append(box)
        return kept

    def _settle(self, image: Image, box: FaceBox, turned: float, rest: float) -> FaceBox:
        """Looks until nothing is left. rest: what was read in a copy that was turned back by `turned` degrees."""
        limit = LEVEL if box.landmarks else LEVEL_WINDOWS
        for _ in range(MOST_LOOKS):
            turned += rest * UNDERREAD if abs(rest) > LEVEL_WINDOWS else rest
            again = self._look(image, box, turned, LOOK)
            if again is None or again.eyes is None:
                break
            box, rest = replace(again, score=box.score), roll(again.eyes) - turned
            if abs(rest) < limit:
                break
        return box

    def _look(self, image: Image, box: FaceBox, degrees: float, how: tuple[float, int]) -> FaceBox | None:
        """The face in a copy of its surroundings turned back by `degrees`, in pixels of the image; None if not seen.

        how: LOOK or LOOK_NEAR.
        """
        wide, pixels = how
        step = wide * box.side / pixels
        cos, sin = (step * f(math.radians(degrees)) for f in (math.cos, math.sin))
        half = (pixels - 1) / 2
        x, y = (value - 0.5 for value in box.centre)
        matrix = np.array(((cos, -sin, x - (cos - sin) * half), (sin, cos, y - (sin + cos) * half)))
        flags = cv2.WARP_INVERSE_MAP | cv2.INTER_LINEAR
        patch = np.asarray(
            cv2.warpAffine(image, matrix, (pixels, pixels), flags=flags, borderMode=cv2.BORDER_REPLICATE),
            np.uint8,
        )
        side = round(pixels / wide)
        corner = (pixels - side) // 2
        found = detect_near(self._detector, patch, [FaceBox(corner, corner, side)])
        if not found:
            return None
        return _to_image(found[0], matrix, step)


def levelling(detector: FaceDetector, framing: Framing | None, *, copies: bool = False) -> FaceDetector:
    """The detector with level faces, for a network whose `framing` is known; the detector itself without one, and for
    images that are crops. copies: as of LevelDetector, for YuNet; cascades would find what is no face there."""
    if framing is None or isinstance(detector, WholeImage):
        return detector
    return LevelDetector(detector, copies=copies and isinstance(detector, YuNetDetector))


def _to_image(box: FaceBox, matrix: np.ndarray, step: float) -> FaceBox:
    """A box of the upright copy in pixels of the image: upright about its middle, with the points where they are."""

    def place(point: Point) -> Point:
        x, y = matrix[:, :2] @ point + matrix[:, 2]
        return float(x), float(y)

    side = max(1, round(box.side * step))
    x, y = place((box.centre[0] - 0.5, box.centre[1] - 0.5))
    return replace(
        box,
        x=round(x + 0.5 - side / 2),
        y=round(y + 0.5 - side / 2),
        side=side,
        eyes=box.eyes and (place(box.eyes[0]), place(box.eyes[1])),
        landmarks=box.landmarks and tuple(map(place, box.landmarks)),
    )
