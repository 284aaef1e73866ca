"""Draws what the model says into a picture: box, label, and both distributions as bars."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from edgefel.runtime.labelling import LabelledFace
from edgefel.runtime.preprocessing import Image

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
FAINT: Colour = (150, 158, 168)
PANEL: Colour = (22, 25, 31)
FONT = cv2.FONT_HERSHEY_DUPLEX


def annotate(picture: Image, faces: Sequence[LabelledFace]) -> Image:
    """A copy of uint8 RGB [H, W, 3] with every face marked.

    Beside each face is a panel: one row per class with the corrected probability as a bar and the primary
    one as a tick on it. It is placed where it fits, inside the picture.
    """
    image = picture.copy()
    for face in faces:
        _draw_box(image, face)
    taken = [_extent(face) for face in faces]
    for face in faces:
        _draw_panel(image, face, taken)
    return image


def _extent(face: LabelledFace) -> tuple[int, int, int, int]:
    box = face.box
    return box.x, box.y, box.x + box.side, box.y + box.side


def _colour(face: LabelledFace) -> Colour:
    return PALETTE[list(face.probabilities).index(face.label) % len(PALETTE)]


def _draw_box(image: Image, face: LabelledFace) -> None:
    """Rounded corners instead of a full frame, which would hide more of the face."""
    left, top, right, bottom = _extent(face)
    thickness = max(2, round(face.box.side / 90))
    arm = face.box.side // 5
    for x, y, dx, dy in (
        (left, top, 1, 1),
        (right, top, -1, 1),
        (left, bottom, 1, -1),
        (right, bottom, -1, -1),
    ):
        for colour, width in (((0, 0, 0), thickness + 2), (_colour(face), thickness)):
            corner = np.array([[x + dx * arm, y], [x, y], [x, y + dy * arm]], np.int32)
            cv2.polylines(image, [corner], False, colour, width, cv2.LINE_AA)


def _draw_panel(image: Image, face: LabelledFace, taken: list[tuple[int, int, int, int]]) -> None:
    height, width = image.shape[:2]
    # readable beside a large face, and not larger than the picture beside a small one
    unit = float(np.clip(face.box.side / 230, 0.55, 3.0))
    unit = min(unit, width / 240, height / 260)
    row, pad = round(19 * unit), round(9 * unit)
    panel_width = round(214 * unit)
    panel_height = 2 * pad + round(40 * unit) + row * len(face.probabilities) + round(20 * unit)
    x, y = _place(face, panel_width, panel_height, width, height, taken)
    taken.append((x, y, x + panel_width, y + panel_height))
    _shade(image, x, y, panel_width, panel_height)
    colour = _colour(face)
    _text(image, face.label, x + pad, y + pad + round(17 * unit), 0.62 * unit, colour)
    share = f"{face.probability:.0%}"
    _text(
        image,
        share,
        x + panel_width - pad - _text_width(share, 0.62 * unit),
        y + pad + round(17 * unit),
        0.62 * unit,
        INK,
    )
    _text(image, f"confidence {face.confidence:.2f}", x + pad, y + pad + round(35 * unit), 0.38 * unit, FAINT)
    top = y + pad + round(44 * unit)
    bar_left = x + pad + round(84 * unit)
    bar_width = x + panel_width - pad - bar_left
    for number, (name, probability) in enumerate(face.probabilities.items()):
        middle = top + row * number + row // 2
        half = max(2, round(5 * unit))
        chosen = name == face.label
        _text(image, name, x + pad, middle + round(4.5 * unit), 0.38 * unit, INK if chosen else FAINT)
        cv2.rectangle(
            image, (bar_left, middle - half), (bar_left + bar_width, middle + half), (52, 57, 66), -1
        )
        end = bar_left + round(bar_width * probability)
        bar = PALETTE[number % len(PALETTE)]
        cv2.rectangle(image, (bar_left, middle - half), (max(bar_left, end), middle + half), bar, -1)
        tick = bar_left + round(bar_width * face.primary[name])
        cv2.line(
            image,
            (tick, middle - half - 1),
            (tick, middle + half + 1),
            INK,
            max(1, round(1.6 * unit)),
            cv2.LINE_AA,
        )
    legend = y + panel_height - pad
    _text(image, "bar: corrected   tick: primary", x + pad, legend, 0.33 * unit, FAINT)


def _place(
    face: LabelledFace,
    width: int,
    height: int,
    limit_x: int,
    limit_y: int,
    taken: list[tuple[int, int, int, int]],
) -> tuple[int, int]:
    """Left top corner of a panel: beside, below or above the face, wherever it covers least."""
    left, top, right, bottom = _extent(face)
    gap = max(4, face.box.side // 40)
    candidates = [
        (right + gap, top),
        (left - gap - width, top),
        (left, bottom + gap),
        (left, top - gap - height),
    ]

    def clamped(x: int, y: int) -> tuple[int, int]:
        return max(0, min(x, limit_x - width)), max(0, min(y, limit_y - height))

    def covered(corner: tuple[int, int]) -> int:
        x, y = corner
        total = 0
        for x0, y0, x1, y1 in taken:
            overlap_x = max(0, min(x + width, x1) - max(x, x0))
            overlap_y = max(0, min(y + height, y1) - max(y, y0))
            total += overlap_x * overlap_y
        return total

    return min((clamped(x, y) for x, y in candidates), key=covered)


def _shade(image: Image, x: int, y: int, width: int, height: int) -> None:
    """Darkens a rectangle, so that text on it is readable whatever lies behind."""
    region = image[y : y + height, x : x + width]
    region[:] = (0.22 * region + 0.78 * np.array(PANEL)).astype(np.uint8)


def _text(image: Image, text: str, x: int, y: int, scale: float, colour: Colour) -> None:
    cv2.putText(image, text, (x, y), FONT, scale, colour, max(1, round(1.3 * scale)), cv2.LINE_AA)


def _text_width(text: str, scale: float) -> int:
    return int(cv2.getTextSize(text, FONT, scale, max(1, round(1.3 * scale)))[0][0])
