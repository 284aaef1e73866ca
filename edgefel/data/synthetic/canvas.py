"""An anti-aliased drawing surface in face units."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from threading import Lock
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgefel.data.synthetic.shapes import Colour, Points, Shapes

# The surface covers x from -1.6 to 1.6 and y from -1.3 to 1.9: more than the image shows, since turning
# and shifting the head bring its surroundings into view.
EXTENT = 3.2
TOP = -1.3
FINE_SIDE = 184  # up to this size an image is painted pixel by pixel, above it at 82 %: skin is smooth
COARSE_SHARE = 0.82
_SHIFT = 4  # OpenCV draws at 1/16 pixel
_LAYER_BYTES = 64 << 20  # of layers that a process keeps

Image = NDArray[np.uint8]
Field = NDArray[np.float32]
Outlines = Sequence[NDArray[np.int32]]  # in 1/16 pixels


@dataclass(frozen=True)
class Grid:
    """Pixel centres of a square surface in face units: `x` [N] and `y` [N]; `scale` pixels per unit."""

    side: int
    scale: float
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    origin: NDArray[np.float64]

    def to_pixels(self, points: Points) -> NDArray[np.int32]:
        """Coordinates [..., 2] in 1/16 pixels, as `draw` takes them."""
        return (points * (self.scale * (1 << _SHIFT)) + self.origin).astype(np.int32, order="C")

    def outlines(self, shapes: Shapes) -> Outlines:
        """`to_pixels` of several shapes."""
        if isinstance(shapes, np.ndarray):
            return list(self.to_pixels(shapes))
        return [self.to_pixels(shape) for shape in shapes]


def canvas_side(size: int) -> int:
    """Side of the canvas for images of `size` pixels; even."""
    return 2 * round(max(min(size, FINE_SIDE), COARSE_SHARE * size) / 2)


@lru_cache(maxsize=16)
def grid(side: int) -> Grid:
    """The grid of `side` x `side` pixels that covers the surface."""
    scale = side / EXTENT
    axis = np.arange(0.5, side, dtype=np.float64) / scale
    # half more, since `to_pixels` truncates
    origin = np.array([EXTENT / 2 * scale - 0.5, -TOP * scale - 0.5]) * (1 << _SHIFT) + 0.5
    return Grid(side, scale, axis - EXTENT / 2, axis + TOP, origin)


def draw(image: Image, outlines: Outlines, colour: Colour | float, thick: int = 0) -> None:
    """Fills polygons even-odd, so that an inner one is a hole, or draws open polylines `thick` pixels wide.

    Outlines are in 1/16 pixels; edges are anti-aliased.
    """
    if thick:
        cv2.polylines(image, outlines, False, colour, thick, cv2.LINE_AA, _SHIFT)
    else:
        cv2.fillPoly(image, outlines, colour, cv2.LINE_AA, _SHIFT)


class Canvas:
    """A surface `pixels`, uint8: RGB [N, N, 3], or a mask [N, N] for `channels` = 1.

    Colours are RGB on the former and strengths from 0 to 1 on the latter.
    """

    def __init__(self, side: int, channels: int = 3) -> None:
        self.grid = grid(side)
        shape = (side, side) if channels == 1 else (side, side, channels)
        self.pixels: Image = np.zeros(shape, np.uint8)

    def fill(self, shapes: Shapes, colour: Colour | float) -> None:
        """Fills polygons with sharp edges; overlapping ones even-odd."""
        draw(self.pixels, self.grid.outlines(shapes), _scalar(colour))

    def lines(self, lines: Shapes, colour: Colour | float, width: float = 0.0) -> None:
        """Draws open polylines, `width` in face units, at least one pixel."""
        draw(self.pixels, self.grid.outlines(lines), _scalar(colour), max(1, round(width * self.grid.scale)))

    def soft(
        self, shapes: Shapes, colour: Colour, alpha: float, blur: float = 0.0, width: float = 0.0
    ) -> None:
        """Blends in polygons, or polylines of `width`, with edges blurred by `blur` (standard deviation).

        Lines thinner than a pixel fade instead.
        """
        outlines = self.grid.outlines(shapes)
        sigma, thick = blur * self.grid.scale, 0
        if width:
            alpha *= min(1.0, width * self.grid.scale)
            thick = max(1, round(width * self.grid.scale))
        around = self.around(np.concatenate(outlines), int(2.5 * sigma) + thick)
        if around is None or alpha <= 0:
            return
        region = self.pixels[around]
        mask = np.zeros(region.shape[:2], np.uint8)
        draw(mask, [outline - corner(around) for outline in outlines], 255, thick)
        blend(region, gaussian(mask, sigma) if sigma > 0.45 else mask, colour, alpha)

    def around(self, outline: NDArray[np.int32], margin: int) -> tuple[slice, slice] | None:
        """Rows and columns of the surface around `outline` [n, 2], or None if it lies outside."""
        x, y, width, height = cv2.boundingRect(outline)
        x0, y0 = max((x >> _SHIFT) - margin, 0), max((y >> _SHIFT) - margin, 0)
        x1 = min(((x + width) >> _SHIFT) + margin + 2, self.grid.side)
        y1 = min(((y + height) >> _SHIFT) + margin + 2, self.grid.side)
        return (slice(y0, y1), slice(x0, x1)) if x1 > x0 and y1 > y0 else None

    def blurred(self, sigma: float) -> Field:
        """The pixels as 0..1, blurred by `sigma` face units."""
        return np.asarray(gaussian(self.pixels, sigma * self.grid.scale) * np.float32(1 / 255))


def corner(region: tuple[slice, slice]) -> NDArray[np.int32]:
    """Top left corner of the region that `Canvas.around` gives, in 1/16 pixels."""
    rows, columns = region
    return np.array([columns.start, rows.start], np.int32) << _SHIFT


def _scalar(colour: Colour | float) -> Colour | float:
    return colour if isinstance(colour, tuple) else round(255 * min(max(colour, 0.0), 1.0))


@lru_cache(maxsize=256)
def _kernel(sigma: float) -> NDArray[np.float32]:
    return np.asarray(cv2.getGaussianKernel(2 * int(2.5 * sigma + 0.5) + 1, sigma, cv2.CV_32F), np.float32)


def gaussian(values: NDArray[Any], sigma: float) -> NDArray[Any]:
    """Gaussian blur with a cached kernel; wide blurs go through an image of half the size."""
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
    """Moves `region` [h, w, 3] towards a colour or an image [h, w, 3] by mask/255 * alpha, in place."""
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


@dataclass(frozen=True)
class CanvasLayer:
    """Paint at `region` (rows, columns) of a canvas: `colour` [h, w, 3], and its transparency `free` [h, w, 3]."""

    region: tuple[slice, slice]
    free: Image
    colour: Image


def paint_layer(side: int, paint: Callable[[Canvas], None]) -> CanvasLayer | None:
    """What `paint` puts on a canvas of `side` pixels, or None where it paints nothing."""
    over_black, over_white = Canvas(side), Canvas(side)
    over_white.pixels[:] = 255
    paint(over_black)
    paint(over_white)
    free = np.asarray(cv2.subtract(over_white.pixels, over_black.pixels), np.uint8)
    untouched = cv2.inRange(free, (255, 255, 255), (255, 255, 255))
    x, y, width, height = cv2.boundingRect(cv2.bitwise_not(untouched))
    if width == 0 or height == 0:
        return None
    region = slice(y, y + height), slice(x, x + width)
    return CanvasLayer(region, free[region].copy(), over_black.pixels[region].copy())


class Layers:
    """Layers that are painted once and then laid on any canvas of their size.

    At most `room` bytes are kept; the ones used longest ago are dropped and painted again when needed.
    """

    def __init__(self, room: int = _LAYER_BYTES) -> None:
        self._room, self._used = room, 0
        self._kept: OrderedDict[Hashable, CanvasLayer | None] = OrderedDict()
        self._lock = Lock()

    def lay(self, canvas: Canvas, paint: Callable[..., None], *subject: Hashable) -> None:
        """Does what `paint(canvas, *subject)` does; `paint` must depend on nothing else."""
        key = (paint, subject, canvas.grid.side)
        with self._lock:
            if known := key in self._kept:
                self._kept.move_to_end(key)
            layer = self._kept.get(key)
        if not known:
            layer = paint_layer(canvas.grid.side, lambda surface: paint(surface, *subject))
            with self._lock:
                self._used += _size(layer) - _size(self._kept.get(key))
                self._kept[key] = layer
                while self._used > self._room:
                    self._used -= _size(self._kept.popitem(last=False)[1])
        if layer is not None:
            region = canvas.pixels[layer.region]
            cv2.multiply(region, layer.free, dst=region, scale=1 / 255)
            cv2.add(region, layer.colour, dst=region)


def _size(layer: CanvasLayer | None) -> int:
    return 2 * layer.free.nbytes if layer is not None else 0
