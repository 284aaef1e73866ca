"""Detection for moving pictures: the whole picture now and then, the surroundings of known faces in between."""

from __future__ import annotations

from edgefel.data.preprocessing import Image
from edgefel.errors import EdgefelError
from edgefel.runtime.faces import FaceBox, FaceDetector, detect_near


class PeriodicDetector:
    """A detector that searches the whole picture in each n-th frame.

    In the frames between it looks near the faces of the frame before, which costs a fraction. A face that it loses
    there, and one that comes in, is found with the next whole picture.
    """

    def __init__(self, detector: FaceDetector, every: int = 1) -> None:
        if every < 1:
            raise EdgefelError(f"a search of the whole picture every {every} frames: give at least 1")
        self._detector, self._every = detector, every
        self._count = 0
        self._last: list[FaceBox] = []
        self._shape: tuple[int, ...] = ()

    def __call__(self, picture: Image) -> list[FaceBox]:
        """uint8 RGB [H, W, 3] -> boxes, the largest first."""
        whole = self._count % self._every == 0 or picture.shape != self._shape
        self._count = 1 if whole else self._count + 1
        self._shape = picture.shape
        self._last = self._detector(picture) if whole else detect_near(self._detector, picture, self._last)
        return self._last
