"""Writes small trees in the layouts of RAF-DB, and says what is true of them."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

# the set's own numbers, written out: nothing here may come from the code under test
CLASS_NUMBERS = {
    "surprise": 1,
    "fear": 2,
    "disgust": 3,
    "happiness": 4,
    "sadness": 5,
    "anger": 6,
    "neutral": 7,
}


class Face(NamedTuple):
    """path: of the image, relative to the root of the tree."""

    path: str
    label: str
    split: str
    box: tuple[int, int, int, int] | None = None


def write_raf_db(root: Path, kind: str = "aligned", *, boxes: bool = False, side: int = 32) -> list[Face]:
    """The published layout: two training images and one for testing of each class.

    kind: aligned or original, the images that there are. boxes: whether each has its file of corners.
    """
    faces, lines = [], []
    for index, (split, label) in enumerate(_listed()):
        stem = f"{split}_{index + 1:05d}" if split == "train" else f"{split}_{index + 1:04d}"
        lines.append(f"{stem}.jpg {CLASS_NUMBERS[label]}")
        name = f"{stem}_aligned.jpg" if kind == "aligned" else f"{stem}.jpg"
        path = f"Image/{kind}/{name}"
        _write_image(root / path, index, side)
        box = None
        if boxes:
            file = root / f"Annotation/boundingbox/{stem}_boundingbox.txt"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"{index + 0.25} 2.000000 {side - 3.5} {side - 1.0}\n")
            box = (index, 2, side - 3 - index, side - 3)
        faces.append(Face(path, label, split, box if kind == "original" else None))
    file = root / "EmoLabel/list_patition_label.txt"
    file.parent.mkdir(parents=True)
    file.write_text("\n".join(lines) + "\n")
    return faces


def write_sorted_raf_db(root: Path, *, side: int = 32) -> list[Face]:
    """Sorted into folders by class number, with the lists that lie beside them."""
    faces = []
    lists = {"train": ["image,label"], "test": ["image,label"]}
    for index, (split, label) in enumerate(_listed()):
        number = CLASS_NUMBERS[label]
        name = f"{split}_{index + 1:05d}_aligned.jpg"
        lists[split].append(f"{name},{number}")
        path = f"DATASET/{split}/{number}/{name}"
        _write_image(root / path, index, side)
        faces.append(Face(path, label, split))
    for split, lines in lists.items():
        (root / f"{split}_labels.csv").write_text("\n".join(lines) + "\n")
    return faces


def _listed() -> list[tuple[str, str]]:
    return [(split, label) for split in ("train", "train", "test") for label in CLASS_NUMBERS]


def _write_image(path: Path, seed: int, side: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_image(seed, side))


@functools.lru_cache
def _image(seed: int, side: int) -> bytes:
    noise = np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)
    written, encoded = cv2.imencode(".jpg", noise)
    assert written
    return encoded.tobytes()
