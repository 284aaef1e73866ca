"""Writes small trees in the layouts of AffectNet, and says what is true of them."""

from __future__ import annotations

import functools
import io
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

# the set's own numbers, written out: nothing here may come from the code under test
NAMES = (
    "neutral",
    "happiness",
    "sadness",
    "surprise",
    "fear",
    "disgust",
    "anger",
    "contempt",
    "none",
    "uncertain",
    "no face",
)
HEADER = (
    "subDirectory_filePath,face_x,face_y,face_width,face_height,facial_landmarks,expression,valence,arousal"
)


class Face(NamedTuple):
    """path: of the image, relative to the root of the tree."""

    path: str
    label: str
    split: str
    box: tuple[int, int, int, int] | None = None


def write_affectnet(root: Path, *, images: str = "Manually_Annotated_Images", side: int = 32) -> list[Face]:
    """The layout with lists: one image in each list of each of the 11 numbers; the faces are those of expressions.

    images: their folder; "" for beside the folder of the lists. The list for validation has no names of columns.
    """
    faces = []
    for split, name in (("train", "training"), ("val", "validation")):
        lines = [HEADER] if split == "train" else []
        for number, label in enumerate(NAMES):
            published = f"{number % 3 + 1}/{split}{number:02d}abcdef.jpg"
            box = (number, 1, side - 12, side - 4) if label != "no face" else (-1, -1, -1, -1)
            landmarks = ";".join(f"{10.5 + point:.2f}" for point in range(136))
            numbers = ",".join(map(str, box))
            lines.append(f"{published},{numbers},{landmarks},{number},-0.25,0.5")
            path = Path(images, published).as_posix()
            _write_image(root / path, number, side)
            if number < 8:
                faces.append(Face(path, label, split, box))
        file = root / f"Manually_Annotated_file_lists/{name}.csv"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("\n".join(lines) + "\n")
    return faces


def write_affectnet_npy(root: Path, *, side: int = 32, indices: Iterable[int] = range(17)) -> list[Face]:
    """The layout of NumPy files: each of 8 expressions once as a text and once as a number, and one "none".

    indices: those of the images that are written. The first three have all four annotations that the set has.
    """
    faces = []
    for split, folder in (("train", "train_set"), ("val", "val_set")):
        for index in indices:
            number = index % 8 if index < 16 else 8
            path = f"{folder}/images/{index}.jpg"
            _write_image(root / path, index, side)
            annotations = root / folder / "annotations"
            annotations.mkdir(exist_ok=True)
            value = str(number) if index < 8 else number
            contents = (("exp", value), ("val", "-0.25"), ("aro", "0.5"), ("lnd", (10.5,) * 136))
            for name, content in contents if index < 3 else contents[:1]:
                (annotations / f"{index}_{name}.npy").write_bytes(_npy(content))
            if number < 8:
                faces.append(Face(path, NAMES[number], split))
    return faces


def _write_image(path: Path, seed: int, side: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_image(seed, side))


@functools.lru_cache
def _image(seed: int, side: int) -> bytes:
    noise = np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)
    written, encoded = cv2.imencode(".jpg", noise)
    assert written
    return encoded.tobytes()


@functools.lru_cache
def _npy(value: str | int | tuple[float, ...]) -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.array(value))
    return stream.getvalue()
