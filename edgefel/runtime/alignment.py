"""Cuts a face out with its eyes level, which is how training crops show it. Torch-free."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import cv2
import numpy as np

from edgefel.runtime.eyes import roll
from edgefel.runtime.preprocessing import Image

if TYPE_CHECKING:
    from edgefel.runtime.faces import FaceBox

# Below this, resampling costs more sharpness than it gains: found eyes are off by 1 to 2 degrees themselves.
LEAST_ROLL = 2.0


def align(picture: Image, box: FaceBox) -> Image:
    """The face in `box`, uint8 RGB [side, side, 3], turned about the middle between its eyes until they are level.

    picture: uint8 RGB [H, W, 3]. Size and framing are the box's; what lies beyond the picture repeats its
    border. Without `box.eyes`, or where they are level within LEAST_ROLL degrees, it is `box.crop(picture)`,
    byte for byte.
    """
    if box.eyes is None or abs(roll(box.eyes)) < LEAST_ROLL:
        return box.crop(picture)
    matrix = _to_picture(box, roll(box.eyes))
    # only the patch that the turned square covers: a view of the whole picture might have to be copied first
    corners = np.array([(x, y, 1.0) for x in (0, box.side - 1) for y in (0, box.side - 1)]) @ matrix.T
    height, width = picture.shape[:2]
    x0, y0 = (max(int(low) - 1, 0) for low in np.floor(corners.min(axis=0)))
    x1, y1 = (int(high) + 2 for high in np.ceil(corners.max(axis=0)))
    patch = picture[y0 : min(y1, height), x0 : min(x1, width)]
    if patch.size == 0:  # wholly outside: nothing to turn
        return box.crop(picture)
    matrix[:, 2] -= (x0, y0)
    size = (box.side, box.side)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    crop = cv2.warpAffine(
        np.ascontiguousarray(patch), matrix, size, flags=flags, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(crop, dtype=np.uint8)


def _to_picture(box: FaceBox, degrees: float) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Matrix [2, 3] from pixels of the crop to pixels of the picture: a rotation about the middle of the eyes."""
    assert box.eyes is not None
    (x0, y0), (x1, y1) = box.eyes
    middle = np.array([(x0 + x1) / 2, (y0 + y1) / 2])
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    turn = np.array([[cos, -sin], [sin, cos]])
    return np.column_stack([turn, middle + turn @ (np.array([box.x, box.y]) - middle)])
