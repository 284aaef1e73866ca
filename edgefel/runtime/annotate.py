"""Draws predictions into an image: box, label, and both distributions as bars."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from edgefel.data.preprocessing import Image
from edgefel.runtime.alignment import FaceBox
from edgefel.runtime.results import LabelledFace

Colour = tuple[int, int, int]

# RGB; one hue per class in the canonical order, told apart also in common colour-vision deficiencies
PALETTE: tuple[Colour, ...] = (
    (153, 161, 171),
    (255, 196, 61),
    (84, 140, 255),
    (64, 201, 198),
    (170, 120, 255),
    (122, 189, 86),
    (240, 84, 79),
    (236, 130, 192),
)
INK: Colour = (240, 243, 247)
FAINT: Colour = (176, 184, 194)
TRACK: Colour = (58, 64, 74)
PANEL: Colour = (20, 23, 29)
PANEL_ALPHA = 0.82
FONT = cv2.FONT_HERSHEY_DUPLEX
# OpenCV's stroke fonts are ragged at small sizes: draw larger and average down
OVERSAMPLING = 3
PANEL_WIDTH, ROW, HEAD, FOOT, PAD = 246, 19, 46, 22, 12
BAR_LEFT, BAR_RIGHT = PAD + 80.0, PANEL_WIDTH - PAD - 34.0
MOST_COVERED = 0.1
STRIP_HEIGHT = 320


class Rect(NamedTuple):
    """Pixels: left and top inside, right and bottom outside."""

    left: int
    top: int
    right: int
    bottom: int

    def overlap(self, other: Rect) -> int:
        """Common area in pixels."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.bottom, other.bottom) - max(self.top, other.top)
        return max(0, width) * max(0, height)

    def meets(self, other: Rect) -> bool:
        """Whether there is a common area."""
        across = self.left < other.right and other.left < self.right
        return across and self.top < other.bottom and other.top < self.bottom


def annotate(rgb: Image, faces: Sequence[LabelledFace]) -> Image:
    """A copy of uint8 RGB [H, W, 3] with every face marked.

    Beside each face is a panel: one row per class with the corrected probability as a bar and the primary
    one as a tick on it. It lies inside the image; where it would hide faces or not fit, the face gets its
    label alone.
    """
    image = rgb.copy()
    boxes = [extent(face.box) for face in faces]
    for face in faces:
        draw_box(image, face.box, label_colour(face))
    panels: list[Rect] = []
    for face in faces:
        # readable beside a small face, in proportion to a large one
        unit, height = float(np.clip(face.box.side / 230, 0.8, 3.0)), panel_height(len(face.probabilities))
        unit = min(unit, image.shape[1] / (PANEL_WIDTH + 8), image.shape[0] / (height + 8))
        size = round(PANEL_WIDTH * unit), round(height * unit)
        place = place_panel(extent(face.box), size, image, boxes, panels) if unit >= 0.7 else None
        if place is None:
            _draw_tag(image, face)
        else:
            panels.append(place)
            _panel(face, unit).blend_into(image, place.left, place.top)
    return image


def annotate_crop(rgb: Image, face: LabelledFace) -> Image:
    """An image that is one face, uint8 RGB [H, W, 3], with the panel on a strip to its right.

    A small image is enlarged until its height is STRIP_HEIGHT, so that the panel can be read.
    """
    factor = max(1.0, STRIP_HEIGHT / rgb.shape[0])
    height, width = round(rgb.shape[0] * factor), max(1, round(rgb.shape[1] * factor))
    unit = height / (panel_height(len(face.probabilities)) + 20)
    panel = _panel(face, unit)
    margin = round(10 * unit)
    image = np.full((height, width + panel.width + 2 * margin, 3), PANEL, np.uint8)
    image[:, :width] = cv2.resize(rgb, (width, height), interpolation=cv2.INTER_CUBIC)
    panel.blend_into(image, width + margin, (height - panel.height) // 2)
    return image


class OverlayLayer:
    """A drawing in units of a layout, with its own opacity, larger than what it becomes by OVERSAMPLING."""

    def __init__(self, width: int, height: int, unit: float) -> None:
        self.width, self.height = max(1, round(width * unit)), max(1, round(height * unit))
        shape = (self.height * OVERSAMPLING, self.width * OVERSAMPLING)
        self._scale = unit * OVERSAMPLING
        self._colour = np.full((*shape, 3), PANEL, np.uint8)
        self._alpha = np.zeros(shape, np.uint8)

    def bar(
        self, left: float, top: float, right: float, bottom: float, colour: Colour, alpha: float = 1.0
    ) -> None:
        """A filled rectangle."""
        corners = self._pixel(left, top), self._pixel(right, bottom)
        cv2.rectangle(self._colour, *corners, colour, -1)
        cv2.rectangle(self._alpha, *corners, round(255 * alpha), -1)

    def background(self, width: float, height: float, radius: float, alpha: float) -> None:
        """A rectangle with round corners in the panel's colour."""
        inner = np.array(
            [self._pixel(x, y) for x in (radius, width - radius) for y in (radius, height - radius)]
        )
        grown = round(radius * self._scale)
        left, top = inner.min(axis=0)
        right, bottom = inner.max(axis=0)
        value = round(255 * alpha)
        for x, y in inner:
            cv2.circle(self._alpha, (int(x), int(y)), grown, value, -1)
        self._alpha[top : bottom + 1, max(0, left - grown) : right + grown + 1] = value
        self._alpha[max(0, top - grown) : bottom + grown + 1, left : right + 1] = value

    def text(
        self, text: str, x: float, baseline: float, size: float, colour: Colour, bold: float = 1.0
    ) -> None:
        """`size` is OpenCV's font scale at unit 1."""
        thickness = max(1, round(1.5 * bold * size * self._scale))
        arguments = (text, self._pixel(x, baseline), FONT, size * self._scale)
        cv2.putText(self._colour, *arguments, colour, thickness, cv2.LINE_AA)
        cv2.putText(self._alpha, *arguments, 255, thickness, cv2.LINE_AA)

    def flattened(self) -> tuple[Image, npt.NDArray[np.float32]]:
        """At its final size: uint8 RGB [height, width, 3], and opacity from 0 to 1 [height, width]."""
        size = (self.width, self.height)
        colour = cv2.resize(self._colour, size, interpolation=cv2.INTER_AREA)
        alpha = cv2.resize(self._alpha, size, interpolation=cv2.INTER_AREA)
        return np.asarray(colour, np.uint8), np.asarray(alpha.astype(np.float32) / 255, np.float32)

    def blend_into(self, image: Image, left: int, top: int) -> None:
        """Draws the layer into uint8 RGB, in place; what lies outside is cut off."""
        flat, opacity = self.flattened()
        region = image[top : top + self.height, left : left + self.width]
        rows, columns = region.shape[:2]
        colour, alpha = flat[:rows, :columns].astype(np.float32), opacity[:rows, :columns, None]
        region[:] = np.rint(region + alpha * (colour - region)).astype(np.uint8)

    def _pixel(self, x: float, y: float) -> tuple[int, int]:
        return round(x * self._scale), round(y * self._scale)


def text_width(text: str, size: float) -> float:
    """At unit 1, like everything that is laid out."""
    return float(cv2.getTextSize(text, FONT, 10 * size, 1)[0][0]) / 10


def panel_height(classes: int) -> int:
    """At unit 1."""
    return 2 * PAD + HEAD + ROW * classes + FOOT


def _panel(face: LabelledFace, unit: float) -> OverlayLayer:
    """Label and confidence, a bar for each class, a legend."""
    height = panel_height(len(face.probabilities))
    layer = OverlayLayer(PANEL_WIDTH, height, unit)
    layer.background(PANEL_WIDTH, height, 9, PANEL_ALPHA)
    right = PANEL_WIDTH - PAD
    share = f"{face.probability:.0%}"
    layer.text(face.label, PAD, PAD + 17, 0.66, label_colour(face), 1.2)
    layer.text(share, right - text_width(share, 0.66), PAD + 17, 0.66, INK, 1.2)
    below = f"confidence {face.confidence:.2f}" if face.sure else f"perhaps {face.top_label}"
    layer.text(below, PAD, PAD + 36, 0.4, FAINT)
    for number, (name, probability) in enumerate(face.probabilities.items()):
        middle = PAD + HEAD + ROW * (number + 0.5)
        ink = INK if name == face.top_label else FAINT
        layer.text(name, PAD, middle + 4.5, 0.4, ink)
        percent = f"{probability:.0%}"
        layer.text(percent, right - text_width(percent, 0.36), middle + 4, 0.36, ink)
        layer.bar(BAR_LEFT, middle - 5, BAR_RIGHT, middle + 5, TRACK)
        end = BAR_LEFT + (BAR_RIGHT - BAR_LEFT) * probability
        layer.bar(BAR_LEFT, middle - 5, end, middle + 5, PALETTE[number % len(PALETTE)])
        tick = BAR_LEFT + (BAR_RIGHT - BAR_LEFT) * face.primary[name]
        layer.bar(tick - 1, middle - 7, tick + 1, middle + 7, INK)
    baseline = height - PAD
    layer.bar(PAD, baseline - 8, PAD + 16, baseline, label_colour(face))
    layer.text("corrected", PAD + 22, baseline, 0.36, FAINT)
    layer.bar(PAD + 101, baseline - 10, PAD + 103, baseline + 2, INK)
    layer.text("before correction", PAD + 110, baseline, 0.36, FAINT)
    return layer


def _draw_tag(image: Image, face: LabelledFace) -> None:
    """Draws the label alone, below the box."""
    text = f"{face.top_label} {face.probability:.0%}" if face.sure else f"{face.label}, {face.top_label}?"
    width = text_width(text, 0.55) + 14
    unit = min(float(np.clip(face.box.side / 200, 0.8, 3.0)), image.shape[1] / width, image.shape[0] / 24)
    tag = OverlayLayer(round(width), 24, unit)
    tag.background(width, 24, 5, 0.88)
    tag.text(text, 7, 17.5, 0.55, label_colour(face), 1.2)
    tag.blend_into(image, *tag_corner(face.box, tag.width, tag.height, image))


def tag_corner(box: FaceBox, width: int, height: int, image: Image) -> tuple[int, int]:
    """Left and top of a tag in pixels: below the box, or at the edge of the image if there is no space."""
    left = int(np.clip(box.x, 0, max(0, image.shape[1] - width)))
    top = int(np.clip(box.y + box.side + 3, 0, max(0, image.shape[0] - height)))
    return left, top


def draw_box(image: Image, face: FaceBox, ink: Colour) -> None:
    """Corners, in place, instead of a full frame, which would hide more of the face."""
    box = extent(face)
    thickness = max(2, round(face.side / 90))
    arm = face.side // 5
    corners = (
        (box.left, box.top, 1, 1),
        (box.right, box.top, -1, 1),
        (box.left, box.bottom, 1, -1),
        (box.right, box.bottom, -1, -1),
    )
    for x, y, dx, dy in corners:
        corner: npt.NDArray[np.int32] = np.array([[x + dx * arm, y], [x, y], [x, y + dy * arm]], np.int32)
        for colour, width in (((0, 0, 0), thickness + 2), (ink, thickness)):
            cv2.polylines(image, [corner], False, colour, width, cv2.LINE_AA)


def extent(box: FaceBox) -> Rect:
    """Of a face; may reach beyond the image."""
    return Rect(box.x, box.y, box.x + box.side, box.y + box.side)


def label_colour(face: LabelledFace) -> Colour:
    """The colour of the label's class; grey for an unsure face."""
    if not face.sure:
        return FAINT
    return PALETTE[list(face.probabilities).index(face.top_label) % len(PALETTE)]


def place_panel(
    own: Rect, size: tuple[int, int], image: Image, boxes: Sequence[Rect], panels: Sequence[Rect]
) -> Rect | None:
    """Where in the image a panel of `size` (width, height) hides least: beside, below or above its own face.

    None if it would hide more than MOST_COVERED of a face, or lie on one of `panels`.
    """
    width, height = size
    gap = max(4, (own.right - own.left) // 40)
    middle = (own.left + own.right - width) // 2
    corners = (
        (own.right + gap, own.top),
        (own.left - gap - width, own.top),
        (middle, own.bottom + gap),
        (middle, own.top - gap - height),
    )

    def inside(x: int, y: int) -> Rect:
        left = max(0, min(x, image.shape[1] - width))
        top = max(0, min(y, image.shape[0] - height))
        return Rect(left, top, left + width, top + height)

    def covered(place: Rect) -> float:
        # few of many faces are near; overlap alone would cost more than the drawing
        near = [box for box in boxes if place.meets(box)]
        faces = max((place.overlap(box) / max(1, box.overlap(box)) for box in near), default=0.0)
        return faces + any(place.meets(panel) for panel in panels)

    best = min((inside(x, y) for x, y in corners), key=covered)
    return best if covered(best) <= MOST_COVERED else None
