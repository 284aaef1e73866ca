"""Writes ExpW trees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

# the order of the set's page: 0 to 6
EXPW_CLASSES = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")
SIDE = 40


@dataclass(frozen=True)
class Face:
    """A line of the list: box is (x, y, width, height), colour the RGB of the face in its image."""

    image: str
    face: int
    box: tuple[int, int, int, int]
    expression: str
    colour: tuple[int, int, int]


def faces_of_every_class(images_per_class: int = 1) -> list[Face]:
    """An image of each class, and in the first image a second face of another class."""
    faces = [
        Face(f"{name}_actor_{number}.jpg", 0, (3, 5, 16, 16), name, (200, 30 * code, 40))
        for number in range(images_per_class)
        for code, name in enumerate(EXPW_CLASSES)
    ]
    return [*faces, Face(faces[0].image, 1, (22, 20, 16, 16), "neutral", (10, 200, 230))]


def write_expw(
    root: Path, faces: Sequence[Face], *, list_folder: str = ".", image_folder: str = "origin"
) -> Path:
    """The list and the images, as the archives of the set give them. Returns the list's path."""
    images: dict[str, np.ndarray] = {}
    lines = []
    for face in faces:
        x, y, width, height = face.box
        image = images.setdefault(face.image, np.full((SIDE, SIDE, 3), 128, np.uint8))
        image[y : y + height, x : x + width] = face.colour[::-1]
        number = EXPW_CLASSES.index(face.expression)
        lines.append(f"{face.image} {face.face} {y} {x} {x + width} {y + height} 22.9362 {number}\n")
    (root / image_folder).mkdir(parents=True, exist_ok=True)
    for name, image in images.items():
        cv2.imwrite(str(root / image_folder / name), image, [cv2.IMWRITE_JPEG_QUALITY, 100])
    path = root / list_folder / "label.lst"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(lines), encoding="utf-8")
    return path
