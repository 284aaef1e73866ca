"""Finds cuts between the frames of a video: the moments after which it shows something else.

Two frames of one shot are alike in one of two ways, whatever moved or became brighter:

- shifted against each other they correlate (J. P. Lewis, "Fast normalized cross-correlation", 1995), which leaves pans
  and the noise and gain of a camera;
- the brightness of one is a function of that of the other, as after a flash or a change of exposure that saturates
  (correlation ratio: Roche, Malandain, Pennec and Ayache, "The correlation ratio as a new similarity measure for
  multimodal image registration", MICCAI 1998).

The distance is that of the better of the two, on thumbnails of 32x18 pixels. As in Yeo and Liu, "Rapid scene analysis
on compressed video" (IEEE Transactions on Circuits and Systems for Video Technology 5(6), 1995), a cut has to exceed
the distances around it, here those before it, since a live stream cannot wait for the ones after.
"""

from __future__ import annotations

import math
from collections import deque

import cv2
import numpy as np
import numpy.typing as npt

from edgefel.data.preprocessing import Image

# Thumbnail: width, height. Coarse enough for zooms and objects in motion.
SIZE = (32, 18)
# Distance of a cut, at least: 99 of 100 pairs of unrelated images are farther apart.
LEAST = 0.25
# A cut is as many times as far as the largest of the last _RECENT distances, or farther than SURE.
RATIO = 3.0
_RECENT = 8
SURE = 0.7
# Frames of a flash, at most. A frame that is only brighter, and in part a function of the one before, may be one.
FLASH = 3
_FLASH_RATIO, _FLASH_DARKER = 0.8, 0.05
# Largest shift between two frames, as a share of the side.
_SHIFT = 1 / 6
# Grey values: what is darker in both frames is a border, and a frame with less deviation shows nothing.
_BLACK, _PLAIN = 20, 4.0

Grey = npt.NDArray[np.uint8]


class CutFinder:
    """Says of each frame in turn whether it begins a new shot. Not thread-safe.

    A frame that shows nothing, such as a black or a white one, begins none: the next one that shows something is
    compared with the last one before. A cut with a blended frame between two shots is found, a dissolve of more
    frames is not. A frame that may be a flash is judged by the frames after it, so that the cut from a dark shot
    to a bright one may be found up to FLASH frames late.
    """

    def __init__(self) -> None:
        # thumbnails of this shot, the oldest first, and how far each is from the one before
        self._shot: deque[Grey] = deque(maxlen=FLASH + 1)
        self._recent: deque[float] = deque(maxlen=_RECENT)
        self._flash = 0

    def __call__(self, image: Image) -> bool:
        """uint8 RGB [H, W, 3] of any size."""
        now = thumbnail(image)
        if float(now.std()) < _PLAIN:
            return False
        is_cut = False
        if self._shot:
            far = distance(self._shot[-1], now)
            is_cut = far > self._limit() and all(distance(one, now) > LEAST for one in self._shot)
            if is_cut and self._flash < FLASH and _may_be_flash(self._shot[-1], now):
                self._flash += 1  # the next one is compared with the same frame
                return False
            is_cut = is_cut or self._ends_blend(now, far)
            if is_cut:
                self._shot.clear()
            else:
                self._recent.append(far)
        self._shot.append(now)
        self._flash = 0
        return is_cut

    def _limit(self, skipped: int = 0) -> float:
        """The distance of a cut."""
        most = max(list(self._recent)[: len(self._recent) - skipped], default=0.0)
        return min(SURE, max(LEAST, RATIO * most))

    def _ends_blend(self, now: Grey, far: float) -> bool:
        """Whether the last frame was a mixture of the one before and this one."""
        if len(self._shot) < 2 or 3 * min(far, self._recent[-1]) < LEAST:
            return False
        return distance(self._shot[-2], now) > 1.5 * self._limit(skipped=1)


def thumbnail(image: Image) -> Grey:
    """uint8 RGB [H, W, 3] -> uint8 grey [18, 32]."""
    height, width = image.shape[:2]
    factor = min(height / (8 * SIZE[1]), width / (8 * SIZE[0]))
    if factor > 1:  # every pixel of a large image would take ten times as long, and change nothing
        size = round(width / factor), round(height / factor)
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_NEAREST), np.uint8)
    small = cv2.resize(image, SIZE, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), np.uint8)


def distance(first: Grey, second: Grey) -> float:
    """0 for the same shot to about 1 for unrelated ones. Thumbnails, uint8 [18, 32]."""
    seen = np.maximum(first, second) > _BLACK
    area = _within(np.asarray(seen.any(1))), _within(np.asarray(seen.any(0)))
    first, second = first[area], second[area]
    if min(first.shape) < 4:
        return 0.0
    height, width = first.shape
    y, x = math.floor(height * _SHIFT), math.floor(width * _SHIFT)
    found = cv2.matchTemplate(first, second[y : height - y, x : width - x], cv2.TM_CCOEFF_NORMED)
    far = max(0.0, 1 - float(found.max()))
    return far if 3 * far < LEAST else min(far, _unexplained(first, second))


def _within(seen: npt.NDArray[np.bool_]) -> slice:
    """From the first to the last row or column that is no border, nor the blurred edge of one."""
    first, end = int(seen.argmax()), len(seen) - int(seen[::-1].argmax())
    return slice(first + (first > 0), end - (end < len(seen)))


def _explained(by: Grey, image: Grey) -> float:
    """The share of the variance of `image` that is a growing function of `by`, of at most 16 values; at most 1."""
    bins, values = by.ravel() >> 4, image.ravel().astype(np.float64)
    counts, sums = np.bincount(bins), np.bincount(bins, values)
    counts, sums = counts[counts > 0], sums[counts > 0]
    means, variance = sums / counts, float(values.var())
    if variance < 1e-9:
        return 1.0
    # between the function that never falls from above and from below, close to the best that grows
    growing = (np.maximum.accumulate(means) + np.minimum.accumulate(means[::-1])[::-1]) / 2
    rest = float((values**2).sum() - (sums * means).sum() + (counts * (means - growing) ** 2).sum())
    return 1 - rest / len(values) / variance


def _unexplained(first: Grey, second: Grey) -> float:
    """0 where the brightness of one is a function of that of the other, else up to 1."""
    return 1 - max(_explained(first, second), _explained(second, first))


def _may_be_flash(last: Grey, now: Grey) -> bool:
    """Whether light alone may have been added."""
    change = now.astype(np.int16) - last
    brighter, darker = int(change[change > 0].sum()), -int(change[change < 0].sum())
    if darker > _FLASH_DARKER * (brighter + darker):
        return False
    return _unexplained(last, now) < _FLASH_RATIO
