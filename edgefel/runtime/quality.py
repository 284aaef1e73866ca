"""How well a face can be read, whatever the network says of it: turn, size, contrast, sharpness, noise, exposure.

A network that has not seen such faces labels a profile, a dark or a blurred face with as much confidence as any other.
Each part is 0 where hardly anything can be read and 1 where it costs nothing, between two limits that were chosen by
the accuracy on degraded copies of FER+ faces (docs/quality.md). The overall quality is the least part: a face that
fails in one respect cannot be read, however good the others are, and parts that fail together (a dark face has little
contrast) would be counted twice in a product.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import cv2
import numpy as np
import numpy.typing as npt

from edgefel.data.preprocessing import Image
from edgefel.errors import EdgefelError
from edgefel.runtime.alignment import FaceBox
from edgefel.runtime.eyes import Point

# Quality below which a label is "unsure".
DEFAULT_LEAST = 0.5
# Every crop is measured at this side, or at its own where that is smaller, and without a margin of a tenth.
SIDE = 48
# The tip of the nose lies as many distances of the eyes before the plane of eyes and mouth.
NOSE = 0.5

# (value at 0, value at 1) of each part
POSE = (60.0, 15.0)  # degrees of yaw
SMALLEST, ENOUGH = 8, 0.5  # pixels; share of the side of the network's input
SHARPNESS = (0.03, 0.11)  # deviation of the finest detail, as a share of that of all
NOISE = (0.6, 0.2)  # deviation of the noise, likewise
CONTRAST = (7.0, 30.0)  # deviation of the brightness, of 255
DARK = (20.0, 80.0)  # mean of the brightness, of 255
BURNT = (1.0, 0.25)  # share of pixels without detail in white
_WHITE = 250

_NOISE_FILTER = np.array([1, -2, 1], np.float32)


@dataclass(frozen=True)
class Quality:
    """Parts of a face's quality, 0 to 1 each. pose: None where the turn is unknown."""

    size: float
    pose: float | None
    contrast: float
    sharpness: float
    noise: float
    exposure: float

    @property
    def overall(self) -> float:
        """The least part."""
        return min(self._known().values())

    @property
    def worst(self) -> str:
        """The name of the least part."""
        parts = self._known()
        return min(parts, key=parts.__getitem__)

    def to_dict(self) -> dict[str, float | None]:
        """Plain JSON values."""
        return {name: None if value is None else round(value, 3) for name, value in asdict(self).items()}

    def _known(self) -> dict[str, float]:
        return {name: value for name, value in vars(self).items() if value is not None}


def face_quality(crop: Image, box: FaceBox, input_side: int) -> Quality:
    """Of one face.

    crop: uint8 RGB [H, W, 3], what the network sees of it before its preprocessing; at any scale. box: where it is in
    the image, whose pixels `size` counts. input_side: of the network's input (`Preprocessing.output_size`).
    """
    side = max(8, min(SIDE, box.side, *crop.shape[:2]))
    method = cv2.INTER_AREA if min(crop.shape[:2]) > side else cv2.INTER_LINEAR
    grey = cv2.resize(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY), (side, side), interpolation=method)
    values = grey.astype(np.float32)
    margin = side // 10
    inner = slice(margin, side - margin)
    mean, deviation = _moments(values[inner, inner])
    spread = max(deviation, 1e-3)
    detail = _moments((values - cv2.blur(values, (3, 3)))[inner, inner])[1]
    # Immerkaer, "Fast noise variance estimation", Computer Vision and Image Understanding 64(2), 1996
    rough = cv2.sepFilter2D(values, cv2.CV_32F, _NOISE_FILTER, _NOISE_FILTER)[inner, inner]
    noise = math.sqrt(math.pi / 2) / 6 * float(cv2.norm(rough, cv2.NORM_L1)) / rough.size
    burnt = float(np.count_nonzero(grey[inner, inner] >= _WHITE)) / rough.size
    return Quality(
        size=_size(box.side, input_side),
        pose=None if box.landmarks is None else _between(abs(yaw(box.landmarks)), *POSE),
        contrast=_between(math.log(spread), *map(math.log, CONTRAST)),
        sharpness=_between(detail / spread, *SHARPNESS),
        noise=_between(noise / spread, *NOISE),
        exposure=min(
            _between(math.log(max(mean, 1e-3)), *map(math.log, DARK)),
            _between(burnt, *BURNT),
        ),
    )


def yaw(landmarks: Sequence[Point]) -> float:
    """The turn of a head to one side in degrees, positive towards the image's right, whatever its nod and roll.

    landmarks: both eyes, the tip of the nose, both corners of the mouth; those of the image's left first. In parallel
    projection the nose is where it would lie in the plane of the other four, plus NOSE distances of the eyes along the
    normal of that plane. In coordinates of that plane (from eye to eye, from the eyes down to the mouth) this moves it
    by NOSE · tan(yaw) to the side. 90 where the four points lie on a line.
    """
    (x0, y0), (x1, y1), (x, y), (x2, y2), (x3, y3) = landmarks
    middle_x, middle_y = (x0 + x1) / 2, (y0 + y1) / 2
    down_x, down_y = (x2 + x3) / 2 - middle_x, (y2 + y3) / 2 - middle_y
    area = (x1 - x0) * down_y - (y1 - y0) * down_x
    if area == 0:
        return 90.0
    return math.degrees(math.atan(((x - middle_x) * down_y - (y - middle_y) * down_x) / area / NOSE))


def check_least(least: float) -> None:
    """Raises EdgefelError for a threshold of quality outside 0..1."""
    if not 0 <= least <= 1:  # NaN too
        raise EdgefelError(f"min_quality is {least}; give a number from 0 to 1")


def _size(side: int, wanted: int) -> float:
    """In octaves: each halving of the side costs as much."""
    enough = max(ENOUGH * wanted, 2 * SMALLEST)
    return _between(math.log(max(side, 1)), math.log(SMALLEST), math.log(enough))


def _between(value: float, zero: float, one: float) -> float:
    """0 at `zero` and beyond, 1 at `one` and beyond, linear between them."""
    return min(1.0, max(0.0, (value - zero) / (one - zero)))


def _moments(values: npt.NDArray[np.float32]) -> tuple[float, float]:
    """Mean and standard deviation."""
    mean, deviation = cv2.meanStdDev(values)
    return float(mean[0, 0]), float(deviation[0, 0])
