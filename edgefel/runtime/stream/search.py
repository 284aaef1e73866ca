"""Where in a frame faces are looked for: in the whole image when something is new, else near known faces."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from edgefel.data.preprocessing import Image
from edgefel.errors import EdgefelError
from edgefel.runtime.alignment import FaceBox
from edgefel.runtime.faces import FaceDetector, detect_near
from edgefel.runtime.searching import NEAR_PATCH

# The thumbnail in which a change is looked for, width and height, and the difference of a pixel that is one, in grey
# levels: above the noise of a camera, below what a face in front of most backgrounds makes of a pixel.
_THUMBNAIL = (32, 24)
_CHANGE = 24
_SAMPLED = 128  # pixels across that the thumbnail is averaged from


class AdaptiveDetector:
    """A detector that searches the whole image at least in each n-th frame, and sooner where something is new.

    New is: another resolution; a place away from the known faces that changed since the last whole search; a known face
    that was not found again. In the other frames it looks near the faces of the previous frame, which costs a
    fraction. With n = 1 it searches every frame.
    """

    def __init__(self, detector: FaceDetector, every: int = 1) -> None:
        if every < 1:
            raise EdgefelError(f"a search of the whole image every {every} frames: give at least 1")
        self._detector, self._every = detector, every
        self._count = 0
        self._last: list[FaceBox] = []
        self._shape: tuple[int, ...] = ()
        self._seen = np.zeros(0, np.int16)

    def __call__(self, image: Image) -> list[FaceBox]:
        """uint8 RGB [H, W, 3] -> boxes, the largest first."""
        if self._every == 1:
            return self._detector(image)
        thumbnail = _thumbnail(image)
        whole = (
            self._count % self._every == 0
            or image.shape != self._shape
            or _changed(thumbnail, self._seen, image.shape, self._last)
        )
        if not whole:
            found = detect_near(self._detector, image, self._last)
            whole = len(found) < len(self._last)
        if whole:
            self._count, self._seen, found = 0, thumbnail, self._detector(image)
        self._count, self._shape, self._last = self._count + 1, image.shape, found
        return found

    def reset(self) -> None:
        """The next image is searched as a whole, since it shows other people."""
        self._count = 0


def _thumbnail(image: Image) -> npt.NDArray[np.int16]:
    """Green of the image in small, [24, 32]."""
    step = max(1, max(image.shape[:2]) // _SAMPLED)
    sampled = np.ascontiguousarray(image[::step, ::step, 1])
    return np.asarray(cv2.resize(sampled, _THUMBNAIL, interpolation=cv2.INTER_AREA), dtype=np.int16)


def _changed(
    thumbnail: npt.NDArray[np.int16],
    before: npt.NDArray[np.int16],
    shape: Sequence[int],
    known: Sequence[FaceBox],
) -> bool:
    """Whether a place in the image differs that no search near a known face covers."""
    differs = np.abs(thumbnail - before) > _CHANGE
    across, down = _THUMBNAIL[0] / shape[1], _THUMBNAIL[1] / shape[0]
    for box in known:
        x, y = box.centre
        half = NEAR_PATCH * box.side / 2
        left, right = (round(max(0.0, place) * across) for place in (x - half, x + half))
        top, bottom = (round(max(0.0, place) * down) for place in (y - half, y + half))
        differs[top : bottom + 1, left : right + 1] = False
    return bool(differs.any())
