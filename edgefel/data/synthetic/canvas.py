"""An anti-aliased drawing surface in face units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgefel.data.synthetic.curves import Points
from edgefel.data.synthetic.identity import Colour

# The surface covers x from -1.6 to 1.6 and y from -1.3 to 1.9: more than the image shows, since turning
# and shifting the head bring its surroundings into view.
EXTENT = 3.2
TOP = -1.3
FINE_SIDE = 184  # up to this size an image is painted pixel by pixel, above it at 82 %: skin is smooth
COARSE_SHARE = 0.82
SHIFT = 4  # OpenCV draws at 1/16 pixel

Image = NDArray[np.uint8]
Field = NDArray[np.float32]
Outlines = list[NDArray[np.int32]]  # in fixed-point pixels
Shapes = Sequence[Points] | NDArray[np.float64]  # a list of [n, 2], or [m, n, 2]


@dataclass(frozen=True)
class Grid:
    """Pixel centres of a square surface in face units: `x` [N] and `y` [N]; `scale` pixels per unit."""

    side: int
    scale: float
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    origin: NDArray[np.float64]

    def to_pixels(self, points: Points) -> NDArray[np.int32]:
        """Fixed-point pixel coordinates [..., 2] as OpenCV's drawing functions take them."""
        fixed = points * (self.scale * (1 << SHIFT))
        fixed += self.origin
        return fixed.astype(np.int32, order="C")

    def outlines(self, shapes: Shapes) -> Outlines:
        """`to_pixels` of several shapes at once: a list of [n, 2], or an array [m, n, 2]."""
        if isinstance(shapes, np.ndarray):
            return list(self.to_pixels(shapes))
        if len(shapes) == 1:
            return [self.to_pixels(shapes[0])]
        joined = self.to_pixels(np.concatenate(shapes))
        ends = list(accumulate(map(len, shapes)))
        return [joined[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True)]


def canvas_side(size: int) -> int:
    """Side of the canvas for images of `size` pixels; even."""
    return 2 * round(max(min(size, FINE_SIDE), COARSE_SHARE * size) / 2)


@lru_cache(maxsize=16)
def grid(side: int) -> Grid:
    """The grid of `side` x `side` pixels that covers the surface."""
    scale = side / EXTENT
    axis = np.arange(0.5, side, dtype=np.float64) / scale
    # half more, since `to_pixels` cuts off what follows the point
    origin = np.array([EXTENT / 2 * scale - 0.5, -TOP * scale - 0.5]) * (1 << SHIFT) + 0.5
    return Grid(side, scale, axis - EXTENT / 2, axis + TOP, origin)


class Mask:
    """A single-channel surface [N, N], uint8, for what is coarse and soft."""

    def __init__(self, on: Grid) -> None:
        self.grid = on
        self.values: Image = np.zeros((on.side, on.side), np.uint8)

    def fill(self, shapes: Shapes, strength: float) -> None:
        """Fills polygons; overlapping ones are filled even-odd, so an inner one is a hole."""
        pixels = self.grid.outlines(shapes)
        cv2.fillPoly(self.values, pixels, _level(strength), cv2.LINE_AA, SHIFT)

    def lines(self, lines: Shapes, strength: float, width: float = 0.0) -> None:
        """Draws open polylines, at least one pixel wide."""
        pixels = self.grid.outlines(lines)
        thick = max(1, round(width * self.grid.scale))
        cv2.polylines(self.values, pixels, False, _level(strength), thick, cv2.LINE_AA, SHIFT)

    def strokes(self, groups: Sequence[tuple[Shapes, float]]) -> None:
        """Draws groups of open polylines, each with its strength, one pixel wide."""
        pixels = self.grid.outlines([line for lines, _ in groups for line in lines])
        start = 0
        for lines, strength in groups:
            end = start + len(lines)
            cv2.polylines(self.values, pixels[start:end], False, _level(strength), 1, cv2.LINE_AA, SHIFT)
            start = end

    def blurred(self, sigma: float) -> Field:
        """The values in 0..1, blurred by `sigma` face units."""
        soft = gaussian(self.values, sigma * self.grid.scale)
        return np.asarray(soft * np.float32(1 / 255))


class Canvas:
    """An RGB surface [N, N, 3], uint8, and ways to paint on it, all anti-aliased."""

    def __init__(self, side: int) -> None:
        self.grid = grid(side)
        self.rgb: Image = np.zeros((side, side, 3), np.uint8)

    def fill(self, shapes: Shapes, colour: Colour) -> None:
        """Fills polygons with sharp edges; overlapping ones even-odd."""
        cv2.fillPoly(self.rgb, self.grid.outlines(shapes), colour, cv2.LINE_AA, SHIFT)

    def lines(self, lines: Shapes, colour: Colour, width: float) -> None:
        """Draws open polylines, `width` in face units, at least one pixel."""
        thick = max(1, round(width * self.grid.scale))
        cv2.polylines(self.rgb, self.grid.outlines(lines), False, colour, thick, cv2.LINE_AA, SHIFT)

    def soft_fill(self, shapes: Shapes, colour: Colour, alpha: float, blur: float = 0.0) -> None:
        """Blends polygons in, edges blurred by `blur` (standard deviation, face units)."""
        self._soften(shapes, colour, alpha, blur, thick=0)

    def soft_lines(
        self, lines: Shapes, colour: Colour, width: float, alpha: float, blur: float = 0.0
    ) -> None:
        """Blends polylines in; thinner than a pixel they fade instead."""
        pixels = width * self.grid.scale
        self._soften(lines, colour, alpha * min(1.0, pixels), blur, thick=max(1, round(pixels)))

    def around(self, pixels: NDArray[np.int32], margin: int) -> tuple[slice, slice] | None:
        """Rows and columns of the surface around `pixels` [n, 2], or None if they lie outside."""
        x, y, width, height = cv2.boundingRect(pixels)
        x0, y0 = max((x >> SHIFT) - margin, 0), max((y >> SHIFT) - margin, 0)
        x1 = min(((x + width) >> SHIFT) + margin + 2, self.grid.side)
        y1 = min(((y + height) >> SHIFT) + margin + 2, self.grid.side)
        return (slice(y0, y1), slice(x0, x1)) if x1 > x0 and y1 > y0 else None

    def _soften(self, shapes: Shapes, colour: Colour, alpha: float, blur: float, thick: int) -> None:
        pixels = self.grid.outlines(shapes)
        sigma = blur * self.grid.scale
        around = self.around(
            np.concatenate(pixels) if len(pixels) > 1 else pixels[0], int(2.5 * sigma) + thick
        )
        if around is None or alpha <= 0:
            return
        rows, columns = around
        mask = np.zeros((rows.stop - rows.start, columns.stop - columns.start), np.uint8)
        offset = (-columns.start, -rows.start)
        moved = [p + np.array(offset, np.int32) * (1 << SHIFT) for p in pixels]
        if thick == 0:
            cv2.fillPoly(mask, moved, 255, cv2.LINE_AA, SHIFT)
        else:
            cv2.polylines(mask, moved, False, 255, thick, cv2.LINE_AA, SHIFT)
        if sigma > 0.45:
            mask = gaussian(mask, sigma)
        blend(self.rgb[rows, columns], mask, colour, alpha)


@lru_cache(maxsize=256)
def _kernel(sigma: float) -> NDArray[np.float32]:
    return np.asarray(cv2.getGaussianKernel(2 * int(2.5 * sigma + 0.5) + 1, sigma, cv2.CV_32F), np.float32)


def gaussian(values: NDArray[Any], sigma: float) -> NDArray[Any]:
    """Gaussian blur with a kernel that is made once; wide blurs go through an image of half the size."""
    # cv2.GaussianBlur computes its kernel anew in software floating point: slower than the blur itself
    sigma = round(sigma * 16) / 16
    if sigma < 0.25:
        return values
    if values.dtype == np.uint8 and sigma <= 1.2:
        # small fixed kernels have a quick path of their own
        width = 3 if sigma <= 0.6 else 5
        return np.asarray(cv2.GaussianBlur(values, (width, width), sigma, borderType=cv2.BORDER_REPLICATE))
    if sigma > 3.0 and min(values.shape[:2]) > 24:
        # halving blurs by one pixel already
        small = gaussian(cv2.pyrDown(values), float(np.sqrt(sigma**2 - 1)) / 2)
        return np.asarray(cv2.resize(small, values.shape[1::-1], interpolation=cv2.INTER_LINEAR))
    kernel = _kernel(sigma)
    return np.asarray(cv2.sepFilter2D(values, -1, kernel, kernel, borderType=cv2.BORDER_REPLICATE))


def blend(region: Image, mask: Image, colour: Colour | Image, alpha: float = 1.0) -> None:
    """Moves `region` [h, w, 3] towards `colour` (one, or an image) by mask/255 * alpha, in place."""
    share = cv2.convertScaleAbs(mask, alpha=alpha * 128 / 255)
    weight = cv2.merge((share, share, share)).astype(np.int16)
    if isinstance(colour, tuple):
        step = np.empty(region.shape, np.int16)
        cv2.rectangle(step, (0, 0), (region.shape[1], region.shape[0]), colour, cv2.FILLED)
    else:
        step = colour.astype(np.int16)
    # 7-bit weights: 255 * 128 is the most that 16 bits hold
    step -= region
    step *= weight
    step += 64
    step >>= 7
    np.add(region, step, out=region, casting="unsafe")


def _level(strength: float) -> int:
    return round(255 * min(max(strength, 0.0), 1.0))
