"""Draws a stream's results into its frames: the panels of `edgefel predict`, and a head-up line.

The empty panel and every piece of text are drawn once and kept in bounded caches.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from edgefel.data.preprocessing import Image
from edgefel.runtime.annotate import (
    BAR_LEFT,
    BAR_RIGHT,
    FAINT,
    HEAD,
    INK,
    PAD,
    PALETTE,
    PANEL,
    PANEL_ALPHA,
    PANEL_WIDTH,
    ROW,
    TRACK,
    Colour,
    OverlayLayer,
    Rect,
    draw_box,
    extent,
    label_colour,
    panel_height,
    place_panel,
    tag_corner,
    text_width,
)
from edgefel.runtime.stream.frames import FrameResult, TrackedFace

ALERT: Colour = (255, 150, 60)
# opacity of colours and panel for an unsure face
_DIM, _DIM_ALPHA = 0.45, 0.62
_HUD_HEIGHT, _HUD_GAP = 22, 16


def draw(result: FrameResult, power_w: float | None, dropped: int, backend: str) -> Image:
    """A copy of the frame, uint8 RGB [H, W, 3], with its faces and the head-up line in the top left corner.

    The line has the rate, the latency, the power unless it is None, the number of frames dropped so far, and the
    backend.

    All panels of an image have the same size. If a panel would hide faces or does not fit, the face gets a tag with its
    number and label instead. A face below the threshold is grey, with the label "unsure" and the best guess below.
    """
    image = np.ascontiguousarray(result.frame.image).copy()
    height, width = image.shape[:2]
    # in steps, because the caches hold drawings for each unit
    unit = round(float(np.clip(height / 720, 0.9, 3.0)) * 20) / 20
    rate = f"{result.fps:.0f} fps" if result.fps >= 10 else f"{result.fps:.1f} fps"
    parts = [(rate, INK), (f"{1e3 * result.latency:.0f} ms", INK)]
    parts += [] if power_w is None else [(f"{power_w:.1f} W", INK)]
    parts += [(f"{dropped} dropped", ALERT if dropped else FAINT), (backend, FAINT)]
    numbers = _line(parts, 0.42, _HUD_GAP, _HUD_HEIGHT, unit)
    corner = round(6 * unit)
    taken = [Rect(corner, corner, corner + numbers.alpha.shape[1], corner + numbers.alpha.shape[0])]
    boxes = [extent(face.face.box) for face in result.faces]
    for face in result.faces:
        draw_box(image, face.face.box, _colour(face))
    for face in result.faces:
        classes = len(face.face.probabilities)
        size = round(PANEL_WIDTH * unit), round(panel_height(classes) * unit)
        place = None
        if size[0] + 8 <= width and size[1] + 8 <= height:
            place = place_panel(extent(face.face.box), size, image, boxes, taken)
        if place is None:
            _draw_tag(image, face, unit)
        else:
            taken.append(place)
            _panel(face, unit).blend_into(image, place.left, place.top)
    numbers.blend_into(image, corner, corner)
    return image


class _Art(NamedTuple):
    """A finished drawing: uint8 RGB [H, W, 3], opacity [H, W]."""

    colour: Image
    alpha: npt.NDArray[np.float32]

    def copy(self) -> _Art:
        return _Art(self.colour.copy(), self.alpha.copy())

    def stamp(self, piece: _Art, left: int, top: int) -> None:
        """Draws `piece` on this drawing in place, clipped to it."""
        here, there = _common(self.alpha.shape, piece.alpha.shape, left, top)
        alpha = piece.alpha[there]
        colour = self.colour[here]
        colour[:] = cv2.blendLinear(piece.colour[there], colour, alpha, 1 - alpha)
        np.maximum(self.alpha[here], alpha, out=self.alpha[here])

    def bar(self, left: float, top: float, right: float, bottom: float, colour: Colour) -> None:
        """A filled rectangle in pixels; its right edge is anti-aliased, so that bars grow smoothly."""
        x0, y0, x1, y1 = round(left), round(top), int(right), max(round(bottom), round(top) + 1)
        self.colour[y0:y1, x0:x1] = colour
        rest = right - x1
        if rest > 0 and x0 <= x1 < self.colour.shape[1]:
            edge = self.colour[y0:y1, x1]
            edge[:] = np.rint(edge + rest * (np.array(colour) - edge)).astype(np.uint8)
        self.alpha[y0:y1, x0:x1] = 1.0

    def blend_into(self, image: Image, left: int, top: int) -> None:
        """Draws this drawing into uint8 RGB [H, W, 3] in place, clipped to it."""
        here, there = _common(image.shape, self.alpha.shape, left, top)
        region, alpha = image[here], self.alpha[there]
        if region.size:
            region[:] = cv2.blendLinear(self.colour[there], region, alpha, 1 - alpha)


def _common(
    whole: Sequence[int], piece: Sequence[int], left: int, top: int
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """The overlap of a piece at (left, top) and the whole, as slices of the whole and of the piece."""
    x0, y0 = max(0, left), max(0, top)
    x1, y1 = min(whole[1], left + piece[1]), min(whole[0], top + piece[0])
    here = slice(y0, max(y0, y1)), slice(x0, max(x0, x1))
    there = slice(y0 - top, max(y0, y1) - top), slice(x0 - left, max(x0, x1) - left)
    return here, there


def _panel(face: TrackedFace, unit: float) -> _Art:
    """Label, confidence and number; a bar with a tick for each class; a legend."""
    labelled = face.face
    art = _backdrop(tuple(labelled.probabilities), unit, face.sure).copy()
    right = PANEL_WIDTH - PAD

    def write(text: str, x: float, baseline: float, size: float, ink: Colour, bold: float = 1.25) -> None:
        _stamp_text(art, text, x * unit, baseline * unit, size, ink, bold, unit)

    def write_right(text: str, baseline: float, size: float, ink: Colour, bold: float = 1.25) -> None:
        write(text, right - text_width(text, size), baseline, size, ink, bold)

    bright = INK if face.sure else FAINT
    write(face.label, PAD, PAD + 17, 0.66, _colour(face), 1.2)
    write_right(f"{labelled.probability:.0%}", PAD + 17, 0.66, bright, 1.2)
    if face.sure:
        write(f"{labelled.confidence:.2f}", PAD + text_width("confidence ", 0.4), PAD + 36, 0.4, FAINT)
    else:
        write(f"perhaps {labelled.top_label}", PAD, PAD + 36, 0.4, FAINT)
    write_right(f"#{face.track}", PAD + 36, 0.4, FAINT)
    for number, (name, probability) in enumerate(labelled.probabilities.items()):
        middle = PAD + HEAD + ROW * (number + 0.5)
        ink = bright if name == labelled.top_label else FAINT
        write(name, PAD, middle + 4.5, 0.4, ink)
        write_right(f"{probability:.0%}", middle + 4, 0.36, ink)
        hue = PALETTE[number % len(PALETTE)]
        end = BAR_LEFT + (BAR_RIGHT - BAR_LEFT) * probability
        top, bottom = (middle - 5) * unit, (middle + 5) * unit
        art.bar(BAR_LEFT * unit, top, end * unit, bottom, hue if face.sure else _dimmed(hue))
        tick = (BAR_LEFT + (BAR_RIGHT - BAR_LEFT) * labelled.primary[name]) * unit
        left = round(tick - unit)
        art.bar(left, (middle - 7) * unit, left + max(1, round(2 * unit)), (middle + 7) * unit, bright)
    legend = art.colour.shape[0] - PAD * unit
    ink = _colour(face)
    art.bar(PAD * unit, legend - 8 * unit, (PAD + 16) * unit, legend, ink)
    return art


@lru_cache(maxsize=8)
def _backdrop(names: tuple[str, ...], unit: float, sure: bool) -> _Art:
    """The parts of a panel that are the same for all faces: background, tracks of the bars, legend."""
    height = panel_height(len(names))
    layer = OverlayLayer(PANEL_WIDTH, height, unit)
    layer.background(PANEL_WIDTH, height, 9, PANEL_ALPHA if sure else _DIM_ALPHA)
    if sure:
        layer.text("confidence", PAD, PAD + 36, 0.4, FAINT, 1.25)
    baseline = height - PAD
    layer.text("corrected", PAD + 22, baseline, 0.36, FAINT, 1.25)
    layer.bar(PAD + 101, baseline - 10, PAD + 103, baseline + 2, INK if sure else FAINT)
    layer.text("before correction", PAD + 110, baseline, 0.36, FAINT, 1.25)
    art = _Art(*layer.flattened())
    for number in range(len(names)):
        middle = PAD + HEAD + ROW * (number + 0.5)
        # aligned to whole pixels, like the bars on them
        art.bar(BAR_LEFT * unit, (middle - 5) * unit, BAR_RIGHT * unit, (middle + 5) * unit, TRACK)
    return art


# 101 percentages in two sizes and inks, as many confidences, and names; about 3 MB in full HD
@lru_cache(maxsize=1024)
def _text(text: str, size: float, ink: Colour, bold: float, unit: float) -> tuple[_Art, int, int]:
    """A drawn text, and its origin (x, baseline) in pixels."""
    margin, ascent, descent = 2.0, 24 * size, 9 * size
    layer = OverlayLayer(round(text_width(text, size) + 2 * margin) + 1, round(ascent + descent) + 1, unit)
    layer.text(text, margin, ascent, size, ink, bold)
    return _Art(*layer.flattened()), round(margin * unit), round(ascent * unit)


def _stamp_text(
    art: _Art, text: str, x: float, baseline: float, size: float, ink: Colour, bold: float, unit: float
) -> None:
    """Draws a text at (x, baseline) in pixels."""
    piece, origin_x, origin_y = _text(text, size, ink, bold, unit)
    art.stamp(piece, round(x) - origin_x, round(baseline) - origin_y)


@lru_cache(maxsize=64)
def _plate(width: int, height: int, unit: float) -> _Art:
    """A background with round corners. width, height: in units."""
    layer = OverlayLayer(width, height, unit)
    layer.background(width, height, 5, 0.85)
    return _Art(*layer.flattened())


def _line(parts: Sequence[tuple[str, Colour]], size: float, gap: float, height: int, unit: float) -> _Art:
    """Texts side by side on a plate, whose width changes in steps so that it does not jitter with the digits."""
    widths = [text_width(text, size) for text, _ in parts]
    width = -(-round(sum(widths) + gap * (len(parts) - 1) + 16) // 8) * 8
    art = _plate(width, height, unit).copy()
    x = 8.0
    for (text, ink), advance in zip(parts, widths, strict=True):
        _stamp_text(art, text, x * unit, (height / 2 + 9 * size) * unit, size, ink, 1.1, unit)
        x += advance + gap
    return art


def _draw_tag(image: Image, face: TrackedFace, unit: float) -> None:
    """Draws number and label below the box, or at its lower edge if there is no space."""
    parts = [(f"#{face.track}", FAINT), (face.label, _colour(face))]
    parts.append((f"{face.face.probability:.0%}", INK) if face.sure else (f"{face.face.top_label}?", FAINT))
    # smaller text for smaller faces
    unit = min(unit, max(0.5, round(face.face.box.side / 130 * 10) / 10))
    art = _line(parts, 0.5, 8, 24, unit)
    height, width = art.alpha.shape
    art.blend_into(image, *tag_corner(face.face.box, width, height, image))


def _colour(face: TrackedFace) -> Colour:
    """The colour of the label's class; grey for an unsure face."""
    return label_colour(face.face) if face.sure else FAINT


def _dimmed(colour: Colour) -> Colour:
    red, green, blue = (round(_DIM * a + (1 - _DIM) * b) for a, b in zip(colour, PANEL, strict=True))
    return red, green, blue
