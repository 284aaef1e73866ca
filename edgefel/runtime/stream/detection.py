"""Detection for moving images: the whole image now and then, the surroundings of known faces in between."""

from __future__ import annotations

from edgefel.data.preprocessing import Image
from edgefel.errors import EdgefelError
from edgefel.runtime.faces import FaceBox, FaceDetector, detect_near


class PeriodicDetector:
    """A detector that searches the whole image in each n-th frame.

    In the frames between it looks near the faces of the frame before, which costs a fraction. A face that it loses
    there, and one that comes in, is found with the next whole image.
    """

    def __init__(self, detector: FaceDetector, every: int = 1) -> None:
        if every < 1:
            raise EdgefelError(f"a search of the whole image every {every} frames: give at least 1")
        self._detector, self._every = detector, every
        self._count = 0
        self._last: list[FaceBox] = []
        self._shape: tuple[int, ...] = ()

    def __call__(self, image: Image) -> list[FaceBox]:
        """uint8 RGB [H, W, 3] -> boxes, the largest first."""
        whole = self._count % self._every == 0 or image.shape != self._shape
        self._count = 1 if whole else self._count + 1
        self._shape = image.shape
        self._last = self._detector(image) if whole else detect_near(self._detector, image, self._last)
        return self._last
