"""Writes FER+ trees: `fer2013.csv` with `fer2013new.csv`, or the folders that the script of its makers writes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

FER_PLUS_CLASSES = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt")
HEADER = "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"
FOLDERS = {"Training": "FER2013Train", "PublicTest": "FER2013Valid", "PrivateTest": "FER2013Test"}
SPLITS = {"Training": "train", "PublicTest": "val", "PrivateTest": "test"}


@dataclass(frozen=True)
class Row:
    """A row of the list: ten votes, the class that has the majority, and "" where the image is left out."""

    usage: str
    name: str
    votes: tuple[int, ...]
    expression: str

    def pixels(self) -> NDArray[np.uint8]:
        """The image [48, 48], different for each name."""
        rng = np.random.default_rng([*(self.name or "no face").encode()])
        return rng.integers(0, 256, (48, 48), np.uint8)


def rows_of_every_class() -> list[Row]:
    """An image of each class in train, and some whose votes say nothing, or another thing than they seem to."""
    rows = []
    for code, name in enumerate(FER_PLUS_CLASSES):
        votes = [0] * 10
        votes[code], votes[(code + 1) % 8], votes[8] = 6, 3, 1
        rows.append(Row("Training", f"fer{code:07d}.png", tuple(votes), name))
    return [
        *rows,
        # the makers' script writes no image without a name, whatever its votes
        Row("Training", "", (10, 0, 0, 0, 0, 0, 0, 0, 0, 0), ""),
        # rows of the published file, the first four
        Row("Training", "fer0000018.png", (4, 0, 0, 1, 3, 2, 0, 0, 0, 0), ""),
        Row("PublicTest", "fer0000001.png", (6, 0, 1, 1, 0, 0, 0, 0, 2, 0), "neutral"),
        Row("PublicTest", "fer0000002.png", (5, 0, 0, 3, 1, 0, 0, 0, 1, 0), "neutral"),
        Row("PrivateTest", "fer0000003.png", (4, 0, 0, 4, 1, 0, 0, 0, 1, 0), ""),
        # half of the votes is no majority; five of the eight that are not alone is one
        Row("PrivateTest", "fer0000100.png", (5, 0, 5, 0, 0, 0, 0, 0, 0, 0), ""),
        Row("PrivateTest", "fer0000021.png", (1, 0, 1, 3, 0, 0, 5, 0, 0, 0), "fear"),
        Row("PrivateTest", "fer0000901.png", (2, 0, 0, 0, 0, 0, 0, 0, 8, 0), ""),
        Row("PrivateTest", "fer0000902.png", (2, 0, 0, 0, 0, 0, 0, 0, 0, 8), ""),
        Row("PrivateTest", "fer0000903.png", (1, 1, 1, 1, 1, 1, 1, 1, 1, 1), ""),
    ]


def write_votes(root: Path, rows: Sequence[Row]) -> Path:
    """`fer2013new.csv`."""
    root.mkdir(parents=True, exist_ok=True)
    lines = [HEADER, *(f"{row.usage},{row.name},{','.join(map(str, row.votes))}" for row in rows)]
    path = root / "fer2013new.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def write_fer_plus(root: Path, rows: Sequence[Row] | None = None) -> list[Row]:
    """The two CSV files. Returns their rows."""
    rows = rows_of_every_class() if rows is None else list(rows)
    write_votes(root, rows)
    lines = ["emotion,pixels,Usage"]
    lines += [f"0,{' '.join(map(str, row.pixels().ravel()))},{row.usage}" for row in rows]
    (root / "fer2013.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return rows


def write_fer_plus_folders(root: Path, rows: Sequence[Row] | None = None, *, box: bool = False) -> list[Row]:
    """The folders of PNG files with a `label.csv` each. box: as an older script wrote them. Returns the rows."""
    rows = rows_of_every_class() if rows is None else list(rows)
    for usage, name in FOLDERS.items():
        folder = root / name
        folder.mkdir(parents=True, exist_ok=True)
        lines = []
        for row in (row for row in rows if row.usage == usage and row.name):
            cv2.imwrite(str(folder / row.name), row.pixels())
            fields = [row.name, *(['"(0, 0, 48, 48)"'] if box else []), *map(str, row.votes)]
            lines.append(",".join(fields) + "\n")
        (folder / "label.csv").write_text("".join(lines), encoding="utf-8")
    return rows


CHANGED = {5: (7, 3), 24: (0, 10), 30: (7, 3)}  # of an image: its votes for its own and for the next class


def write_disagreeing(root: Path) -> None:
    """Both files of votes and the images in their folders, as the set is published: two images of each class in
    train (numbers 0 to 15), one in val (16 to 23) and one in test (24 to 31).

    `label.csv` has other votes for 5, 24 and 30, and another class for 24. 24 is an equal file of 0, 17 of 2; 26 looks
    like 4. All were written long ago.
    """
    usages = ["Training"] * 16 + ["PublicTest"] * 8 + ["PrivateTest"] * 8
    codes = [number // 2 for number in range(16)] + [*range(8)] * 2
    rows, others = [], []
    for number, (usage, code) in enumerate(zip(usages, codes, strict=True)):
        for kept, (own, following) in ((rows, (8, 2)), (others, CHANGED.get(number, (8, 2)))):
            votes = [0] * 10
            votes[code], votes[(code + 1) % 8] = own, following
            kept.append(Row(usage, f"fer{number:07d}.png", tuple(votes), FER_PLUS_CLASSES[code]))
    write_fer_plus_folders(root, others)
    write_votes(root, rows)
    place = {row.name: root / FOLDERS[row.usage] / row.name for row in rows}
    shutil.copy(place[rows[0].name], place[rows[24].name])
    shutil.copy(place[rows[2].name], place[rows[17].name])
    cv2.imwrite(str(place[rows[26].name]), cv2.convertScaleAbs(rows[4].pixels(), alpha=0.9, beta=10))
    for path in root.rglob("*.png"):
        os.utime(path, (1e9, 1e9))
