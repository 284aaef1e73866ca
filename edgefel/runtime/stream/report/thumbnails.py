"""Thumbnails of a person: the face that was most clearly shown with each label."""

from __future__ import annotations

import base64
from dataclasses import dataclass

import cv2
import numpy as np

from edgefel.data.preprocessing import Image
from edgefel.runtime.stream.frames import TrackedFace

SIDE = 96  # pixels
_QUALITY = 85  # of the JPEG file
# a better frame replaces one only by this factor, so that few of them are encoded
_BETTER = 1.05


@dataclass(frozen=True)
class Thumbnail:
    """jpeg: the encoded image. time: seconds of the stream. probability: of the label, or of the best guess."""

    jpeg: bytes
    time: float
    probability: float
    score: float

    @property
    def url(self) -> str:
        """The image as part of a page."""
        return f"data:image/jpeg;base64,{base64.b64encode(self.jpeg).decode()}"


class Thumbnails:
    """At most one for each label: where confidence times quality of the single frame was greatest."""

    def __init__(self) -> None:
        self.by_label: dict[str, Thumbnail] = {}

    def see(self, time: float, face: TrackedFace, image: Image) -> None:
        """image: the whole frame, uint8 RGB [H, W, 3]."""
        # the average lags behind the face that is to be seen
        if face.sure and face.raw.top_label != face.label:
            return
        score = face.raw.confidence * (1.0 if face.raw.quality is None else face.raw.quality)
        before = self.by_label.get(face.label)
        if before is not None and score <= _BETTER * before.score:
            return
        crop = face.box.crop(image)
        method = cv2.INTER_AREA if crop.shape[0] > SIDE else cv2.INTER_LINEAR
        small = cv2.cvtColor(cv2.resize(crop, (SIDE, SIDE), interpolation=method), cv2.COLOR_RGB2BGR)
        _, data = cv2.imencode(".jpg", small, (cv2.IMWRITE_JPEG_QUALITY, _QUALITY))
        self.by_label[face.label] = Thumbnail(np.asarray(data).tobytes(), time, face.probability, score)
