"""Faces found and cut out as the stream and `predict` do it, for data sets that a model is to be trained on."""

from __future__ import annotations

from collections.abc import Sequence

from edgefel.data.preprocessing import Image, Preprocessing
from edgefel.runtime.alignment import align
from edgefel.runtime.faces import FaceBox, FaceDetector


class RuntimeFaces:
    """Faces by the runtime's own detector and aligner: see `edgefel.data.preparing.faces.FaceTools`.

    detector: None where images are faces already. size: side of a crop in pixels.
    """

    def __init__(self, detector: FaceDetector | None, size: int) -> None:
        self._detector = detector
        self._preprocessing = Preprocessing(resize=size, crop=size)

    def detect(self, image: Image, corner: tuple[int, int]) -> Sequence[FaceBox] | None:
        """The faces of uint8 RGB [H, W, 3], the largest first, moved by `corner`; None without a detector."""
        return None if self._detector is None else [box.moved(*corner) for box in self._detector(image)]

    def square(self, x: int, y: int, side: int) -> FaceBox:
        """A face at a known place."""
        return FaceBox(x, y, side)

    def cut(self, image: Image, face: FaceBox) -> Image:
        """As the device cuts and resizes it: uint8 RGB [size, size, 3]."""
        crop = align(image, face, self._preprocessing.resize)
        return self._preprocessing.resize_image(crop)
