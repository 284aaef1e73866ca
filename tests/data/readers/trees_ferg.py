"""FERG-DB as it is published, with tiny images."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

# the folders' names, and what they mean, written by hand
EXPRESSIONS = {
    "anger": "anger",
    "disgust": "disgust",
    "fear": "fear",
    "joy": "happiness",
    "neutral": "neutral",
    "sadness": "sadness",
    "surprise": "surprise",
}
CHARACTERS = ("aia", "bonnie", "jules", "malcolm", "mery", "ray")


class Ferg(NamedTuple):
    """label by path below the folder of the characters; the group is the path's first part."""

    root: Path
    labels: dict[str, str]


def write_ferg(root: Path, inside: str = "FERG_DB_256") -> Ferg:
    """All characters and expressions with an image each, the number 10 among them to be ordered after 2."""
    labels = {}
    for number, character in enumerate(CHARACTERS):
        for name, label in EXPRESSIONS.items():
            path = f"{character}/{character}_{name}/{character}_{name}_{number + 1}.png"
            labels[path] = label
    for extra in (2, 10):
        labels[f"aia/aia_joy/aia_joy_{extra}.png"] = "happiness"
    for number, path in enumerate(labels):
        file = root / inside / path
        file.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(file), np.full((8, 8, 4), number, np.uint8))
    (root / inside / "README.txt").write_text("counts")
    (root / inside / "aia/aia_joy/.DS_Store").write_bytes(b"\0")
    (root / "__MACOSX").mkdir()
    return Ferg(root, labels)
