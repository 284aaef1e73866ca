"""The box of a face, and its crop with the eyes level, as in training data. Torch-free."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import cv2
import numpy as np

from edgefel.data.preprocessing import Image
from edgefel.runtime.eyes import Eyes, Point, roll

# Below this, resampling costs more sharpness than it gains: found eyes are off by 1 to 2 degrees themselves.
LEAST_ROLL = 2.0
# A face more than this much larger than the wanted size is turned as it is, and shrunk by area afterwards: bilinear
# interpolation alone would skip pixels of it.
MOST_SHRINKING = 1.5


@dataclass(frozen=True)
class FaceBox:
    """A square around a face, in pixels of the image; may reach beyond its border.

    x, y: left and top. side: width and height. score: the detector's own, None if it has none. eyes: (x, y) of
    both, the one on the image's left first; None if they were not looked for or not found. landmarks: both eyes, the
    tip of the nose and both corners of the mouth, those on the image's left first, as a network found them; or None.
    """

    x: int
    y: int
    side: int
    score: float | None = None
    eyes: Eyes | None = None
    landmarks: tuple[Point, ...] | None = None

    @property
    def centre(self) -> tuple[float, float]:
        """(x, y) of its middle."""
        return self.x + self.side / 2, self.y + self.side / 2

    def moved(self, x: int, y: int) -> FaceBox:
        """The same box, `x` pixels further right and `y` further down."""
        eyes = self.eyes and (
            (self.eyes[0][0] + x, self.eyes[0][1] + y),
            (self.eyes[1][0] + x, self.eyes[1][1] + y),
        )
        landmarks = self.landmarks and tuple((px + x, py + y) for px, py in self.landmarks)
        return replace(self, x=self.x + x, y=self.y + y, eyes=eyes, landmarks=landmarks)

    def crop(self, image: Image) -> Image:
        """Cuts the square out of uint8 [H, W, 3]; what lies beyond the border repeats the border."""
        height, width = image.shape[:2]
        if 0 <= self.x <= width - self.side and 0 <= self.y <= height - self.side:
            # the same bytes as below, at a tenth of the time
            return image[self.y : self.y + self.side, self.x : self.x + self.side].copy()
        rows = np.arange(self.y, self.y + self.side).clip(0, height - 1)
        columns = np.arange(self.x, self.x + self.side).clip(0, width - 1)
        return np.asarray(image[rows[:, None], columns])


def align(image: Image, box: FaceBox, size: int | None = None) -> Image:
    """The face in `box`, uint8 RGB [side, side, 3], turned about the middle between its eyes until they are level.

    image: uint8 RGB [H, W, 3]. Framing is the box's; what lies beyond the image repeats its border. Without
    `box.eyes`, or where they are level within LEAST_ROLL degrees, it is `box.crop(image)`, byte for byte.

    size: the side that the model's preprocessing resizes to. A face with known eyes whose side is not much larger
    (MOST_SHRINKING) comes in that size, [size, size, 3]: it is sampled once instead of twice.
    """
    angle = 0.0 if box.eyes is None else roll(box.eyes)
    turned = abs(angle) >= LEAST_ROLL
    side = box.side
    if box.eyes is not None and size is not None and side <= MOST_SHRINKING * size:
        side = size
    elif not turned:
        return box.crop(image)
    (a, b, x), (c, d, y) = _to_image(box, angle if turned else 0.0, box.side / side)
    # only the patch that the turned square covers: OpenCV copies an image whose pixels do not lie side by side
    height, width = image.shape[:2]
    last = side - 1
    across, down = (
        (x, x + a * last, x + b * last, x + (a + b) * last),
        (y, y + c * last, y + d * last, y + (c + d) * last),
    )
    x0, y0 = max(math.floor(min(across)) - 1, 0), max(math.floor(min(down)) - 1, 0)
    x1, y1 = math.ceil(max(across)) + 2, math.ceil(max(down)) + 2
    patch = image[y0 : min(y1, height), x0 : min(x1, width)]
    if patch.size == 0:  # wholly outside: nothing to turn
        return box.crop(image)
    matrix = np.array(((a, b, x - x0), (c, d, y - y0)))
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    crop = cv2.warpAffine(patch, matrix, (side, side), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(crop, dtype=np.uint8)


def _to_image(
    box: FaceBox, degrees: float, step: float
) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Matrix [2, 3] from pixels of the crop to pixels of the image: a rotation about the middle of the eyes.

    step: pixels of the image that a pixel of the crop stands for. Plain numbers, since NumPy's calls would take
    longer than the turning.
    """
    assert box.eyes is not None
    (x0, y0), (x1, y1) = box.eyes
    middle_x, middle_y = (x0 + x1) / 2, (y0 + y1) / 2
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    # the middle of the crop's first pixel lies half a step inside the box
    x, y = box.x + (step - 1) / 2 - middle_x, box.y + (step - 1) / 2 - middle_y
    return (
        (step * cos, -step * sin, middle_x + cos * x - sin * y),
        (step * sin, step * cos, middle_y + sin * x + cos * y),
    )
