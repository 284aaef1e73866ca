"""Parts of an image that are the same each time a subject is drawn, painted once and then laid on."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock

import cv2
import numpy as np

from edgefel.data.synthetic.canvas import Canvas, Image
from edgefel.data.synthetic.identity import Identity

# how many bytes of layers a process keeps
_ROOM = 64 << 20


@dataclass(frozen=True)
class Layer:
    """`free` [h, w, 3] is the share of what lies below that shows through, `colour` [h, w, 3] what is added;
    both belong at `rows` and `columns` of a canvas."""

    rows: slice
    columns: slice
    free: Image
    colour: Image


def paint_layer(side: int, paint: Callable[[Canvas], None]) -> Layer | None:
    """What `paint` puts on a canvas of `side` pixels, or None where it paints nothing."""
    over_black, over_white = Canvas(side), Canvas(side)
    over_white.rgb[:] = 255
    paint(over_black)
    paint(over_white)
    free = np.asarray(cv2.subtract(over_white.rgb, over_black.rgb), np.uint8)
    red, green, blue = cv2.split(cv2.bitwise_not(free))
    x, y, width, height = cv2.boundingRect(cv2.max(cv2.max(red, green), blue))
    if width == 0 or height == 0:
        return None
    rows, columns = slice(y, y + height), slice(x, x + width)
    return Layer(rows, columns, free[rows, columns].copy(), over_black.rgb[rows, columns].copy())


class Layers:
    """Layers by subject, name and side of the canvas. The ones used longest ago make room for new ones; what
    is kept only decides what must be painted anew, never how it looks."""

    def __init__(self, room: int = _ROOM) -> None:
        self._room = room
        self._used = 0
        self._kept: OrderedDict[tuple[Identity, str, int], Layer | None] = OrderedDict()
        self._lock = Lock()

    def lay(self, canvas: Canvas, identity: Identity, name: str, paint: Callable[[Canvas], None]) -> None:
        """Puts on `canvas` what `paint` paints, which `identity` and `name` determine."""
        layer = self._find((identity, name, canvas.grid.side), paint)
        if layer is not None:
            region = canvas.rgb[layer.rows, layer.columns]
            cv2.multiply(region, layer.free, dst=region, scale=1 / 255)
            cv2.add(region, layer.colour, dst=region)

    def _find(self, key: tuple[Identity, str, int], paint: Callable[[Canvas], None]) -> Layer | None:
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        layer = paint_layer(key[2], paint)
        with self._lock:
            if key not in self._kept:
                self._kept[key] = layer
                self._used += _size(layer)
            while self._used > self._room:
                self._used -= _size(self._kept.popitem(last=False)[1])
        return layer


def _size(layer: Layer | None) -> int:
    return 2 * layer.free.nbytes if layer is not None else 0
