"""An anti-aliased drawing surface in face units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from edgefel.data.synthetic.curves import Points
from edgefel.data.synthetic.identity import Colour

# The surface covers x from -1.75 to 1.75 and y from -1.45 to 2.05: more than the picture shows, since
# turning and shifting the head bring its surroundings into view.
EXTENT = 3.5
TOP = -1.45
_SHIFT = 4  # OpenCV draws at 1/16 pixel
PIXELS_PER_SIZE = 1.25

Image = NDArray[np.uint8]
Field = NDArray[np.float32]


@dataclass(frozen=True)
class Grid:
    """Pixel centres of a square surface in face units: `x` [N] and `y` [N]; `scale` pixels per unit."""

    side: int
    scale: float
    x: NDArray[np.float64]
    y: NDArray[np.float64]

    def to_pixels(self, points: Points) -> NDArray[np.int32]:
        """Fixed-point pixel coordinates [n, 2] as OpenCV's drawing functions take them."""
        pixels = (points - (-EXTENT / 2, TOP)) * self.scale - 0.5
        return np.round(pixels * (1 << _SHIFT)).astype(np.int32)


@lru_cache(maxsize=16)
def grid(side: int) -> Grid:
    """The grid of `side` x `side` pixels that covers the surface."""
    scale = side / EXTENT
    axis = (np.arange(side) + 0.5) / scale
    return Grid(side, scale, axis - EXTENT / 2, axis + TOP)


class Canvas:
    """An RGB surface [N, N, 3] and ways to paint on it, all anti-aliased."""

    def __init__(self, side: int, colour: Colour = (0, 0, 0)) -> None:
        self.grid = grid(side)
        self.rgb: Image = np.empty((side, side, 3), np.uint8)
        self.rgb[:] = np.round(colour)

    def fill(self, points: Points, colour: Colour) -> None:
        """Fills a polygon."""
        cv2.fillPoly(self.rgb, [self.grid.to_pixels(points)], colour, cv2.LINE_AA, _SHIFT)

    def lines(self, lines: Sequence[Points], colour: Colour, width: float) -> None:
        """Draws open polylines, `width` in face units, at least one pixel."""
        cv2.polylines(
            self.rgb,
            [self.grid.to_pixels(line) for line in lines],
            False,
            colour,
            max(1, round(width * self.grid.scale)),
            cv2.LINE_AA,
            _SHIFT,
        )

    def soft_fill(self, polygons: Sequence[Points], colour: Colour, alpha: float, blur: float) -> None:
        """Blends polygons of `colour` in with edges blurred by `blur` (standard deviation, face units)."""
        self._blend(polygons, colour, alpha, blur, width=None)

    def soft_lines(
        self, lines: Sequence[Points], colour: Colour, width: float, alpha: float, blur: float = 0.0
    ) -> None:
        """Blends polylines in; thinner than a pixel they fade instead."""
        pixels = width * self.grid.scale
        self._blend(lines, colour, alpha * min(1.0, pixels), blur, width=max(1, round(pixels)))

    def _blend(
        self, shapes: Sequence[Points], colour: Colour, alpha: float, blur: float, width: int | None
    ) -> None:
        pixels = [self.grid.to_pixels(shape) for shape in shapes]
        sigma = blur * self.grid.scale
        margin = int(3 * sigma + (width or 0)) + 2
        low = np.min([p.min(0) for p in pixels], 0) // (1 << _SHIFT) - margin
        high = np.max([p.max(0) for p in pixels], 0) // (1 << _SHIFT) + margin + 2
        x0, y0 = np.clip(low, 0, self.grid.side).tolist()
        x1, y1 = np.clip(high, 0, self.grid.side).tolist()
        if x1 <= x0 or y1 <= y0 or alpha <= 0:
            return
        mask = np.zeros((y1 - y0, x1 - x0), np.uint8)
        offset = np.array([x0, y0]) << _SHIFT
        moved = [(p - offset).astype(np.int32) for p in pixels]
        if width is None:
            cv2.fillPoly(mask, moved, 255, cv2.LINE_AA, _SHIFT)
        else:
            cv2.polylines(mask, moved, False, 255, width, cv2.LINE_AA, _SHIFT)
        if sigma > 0.3:
            mask = blur_fast(mask, sigma)
        blend(self.rgb[y0:y1, x0:x1], mask, colour, alpha)


def blur_fast(mask: Image, sigma: float) -> Image:
    """Gaussian blur of a mask; wide ones go through a smaller picture."""
    if sigma > 5 and min(mask.shape) > 16:
        small = cv2.resize(mask, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
        small = cv2.GaussianBlur(small, (0, 0), sigma / 4)
        return np.asarray(cv2.resize(small, mask.shape[1::-1], interpolation=cv2.INTER_LINEAR), np.uint8)
    return np.asarray(cv2.GaussianBlur(mask, (0, 0), sigma), np.uint8)


def blend(region: Image, mask: Image, colour: Colour | Image, alpha: float = 1.0) -> None:
    """Moves `region` [h, w, 3] towards `colour` (one, or a picture) by mask/255 * alpha, in place."""
    weight = mask.astype(np.float32)[..., None] * np.float32(alpha / 255)
    target = np.asarray(colour, np.float32)
    mixed = region + (target - region) * weight
    region[:] = np.clip(mixed + np.float32(0.5), 0, 255).astype(np.uint8)
