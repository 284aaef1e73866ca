"""JAFFE as it is published, with tiny images."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

# every expression and three persons, by names of the published set; what each shows is written by hand
NAMES = {
    "KA.AN1.39.tiff": "anger",
    "KA.DI3.44.tiff": "disgust",
    "KA.FE4.48.tiff": "fear",
    "KA.HA1.29.tiff": "happiness",
    "KL.NE1.155.tiff": "neutral",
    "KL.SA2.162.tiff": "sadness",
    "YM.SU3.60.tiff": "surprise",
    "KM.NE1.1.tiff": "neutral",
}


class Jaffe(NamedTuple):
    """label and group by name of the image."""

    root: Path
    labels: dict[str, str]
    groups: dict[str, str]


def write_jaffe(root: Path, inside: str = "") -> Jaffe:
    """A flat folder, or one in `root` named `inside`, with what archives of it also hold."""
    folder = root / inside
    folder.mkdir(parents=True)
    for number, name in enumerate(NAMES):
        cv2.imwrite(str(folder / name), np.full((8, 8), 20 * number, np.uint8))
    (folder / "README_FIRST.txt").write_text("ratings")
    (folder / ".DS_Store").write_bytes(b"\0")
    (root / "__MACOSX").mkdir()
    (root / "__MACOSX/._KA.AN1.39.tiff").write_bytes(b"\0")
    return Jaffe(root, dict(NAMES), {name: name[:2] for name in NAMES})
