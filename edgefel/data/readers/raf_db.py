"""RAF-DB: the basic expressions, as published or sorted into folders by class number."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgefel.data.dataset import FileStore, ImageDataset
from edgefel.data.images import IMAGE_SUFFIXES
from edgefel.data.labels import EXPRESSIONS_7, RAF_DB
from edgefel.data.readers.base import numbered_dataset, own_groups
from edgefel.data.readers.search import descend, find, first_entries, list_folders, list_names, read_lines
from edgefel.errors import EdgefelError
from edgefel.files.read import read_regular

LIST_NAME = "list_patition_label.txt"  # sic
_NUMBERS = {str(number): number - 1 for number in range(1, len(RAF_DB) + 1)}  # of the set, and from 0
_LISTED = re.compile(r"(train|test)_\d+\.jpg", re.IGNORECASE)
_SORTED = re.compile(r"(train|test)_\d+(_aligned)?\.jpg", re.IGNORECASE)


class RafDb:
    """RAF-DB, the single-label subset of basic expressions: 12,271 images for training and 3,068 for testing.

    Li, Deng and Du, "Reliable Crowdsourcing and Deep Locality-Preserving Learning for Expression Recognition in the
    Wild", CVPR 2017; http://www.whdeng.cn/RAF/model1.html. Two layouts are read:

    - The published one: `EmoLabel/list_patition_label.txt`, with lines such as `train_00001.jpg 5`. The aligned faces
      `Image/aligned/train_00001_aligned.jpg` are read where there are any, else `Image/original/train_00001.jpg`, cut
      to the face by `Annotation/boundingbox/train_00001_boundingbox.txt` (x1 y1 x2 y2 in pixels) where that folder is.
      The list, `aligned`, `original` and `boundingbox` may also lie side by side.
    - Sorted by class number, as on Kaggle: `DATASET/train/5/train_00001_aligned.jpg`. The folders say everything;
      the `train_labels.csv` beside them repeats it and is not read.

    The splits are train and test, by the name of the image or of the folder. Subjects are not known, so every
    image is a group of its own. The compound subset has the same file names and other classes; it is refused.
    """

    name = "raf-db"
    title = "RAF-DB, basic expressions (Li et al., CVPR 2017)"
    classes = RAF_DB

    def recognizes(self, root: Path) -> bool:
        """Whether `list_patition_label.txt` exists, or images of RAF-DB in folders of class numbers."""
        return _list_file(root) is not None or _sorted_base(root) is not None

    def read(self, root: Path) -> ImageDataset:
        """Raises EdgefelError for a missing list or folder of images, a malformed line or box, an unknown class."""
        if (file := _list_file(root)) is not None:
            return _read_list(root, file)
        if (base := _sorted_base(root)) is not None:
            return _read_sorted(root, base)
        raise EdgefelError(
            f"{root}: no EmoLabel/{LIST_NAME} and no DATASET/train/1 with images named train_00001_aligned.jpg; "
            "give the folder that RAF-DB was unpacked into"
        )


def _list_file(root: Path) -> Path | None:
    return find(root, "EmoLabel", LIST_NAME) or find(root, LIST_NAME)


def _read_list(root: Path, file: Path) -> ImageDataset:
    listed, numbers = zip(*_read_lines(file), strict=True)
    base = file.parent
    while base.name.lower() == "emolabel":
        base = base.parent
    aligned = _place(base, "Image", "aligned")
    folder = aligned or _place(base, "Image", "original")
    if folder is None:
        raise EdgefelError(
            f"{base}: has the list of RAF-DB but no folder Image/aligned or Image/original; unpack the images there"
        )
    names = [f"{name[:-4]}_aligned{name[-4:]}" for name in listed] if aligned else listed
    box_folder = None if aligned else _place(base, "Annotation", "boundingbox")
    boxes = None if box_folder is None else _boxes(box_folder, listed)
    splits = [name[: name.index("_")].lower() for name in listed]
    store, groups = FileStore(folder, names), own_groups(names)
    return numbered_dataset(root, EXPRESSIONS_7, store, numbers, RAF_DB, groups, splits, box=boxes)


def _read_lines(file: Path) -> list[tuple[str, int]]:
    """Each image and its class number, from 0."""
    rows = []
    for n, line in enumerate(read_lines(file), start=1):
        fields = line.split()
        if not fields:
            continue
        if len(fields) != 2 or not _LISTED.fullmatch(fields[0]):
            raise EdgefelError(
                f"{file} line {n}: {line.strip()[:60]!r} is not an image and its class, such as 'train_00001.jpg 5'; "
                "correct the line or unpack the file again"
            )
        rows.append((fields[0], _number(fields[1], f"{file} line {n}")))
    if not rows:
        raise EdgefelError(f"{file}: lists no images; unpack it again")
    return rows


def _place(base: Path, parent: str, name: str) -> Path | None:
    """The folder `parent/name`, or `name` beside the list."""
    found = descend(base, parent, name) or descend(base, name)
    return found if found is not None and found.is_dir() else None


def _boxes(folder: Path, listed: Sequence[str]) -> NDArray[np.int32]:
    """(x, y, width, height) in pixels [N, 4], from the files of opposite corners."""
    corners = np.array([_corners(folder / f"{name[:-4]}_boundingbox.txt") for name in listed])
    # outwards to whole pixels, which cannot make a box empty
    low, high = np.floor(corners[:, :2]), np.ceil(corners[:, 2:])
    return np.concatenate([low, high - low], axis=1).astype(np.int32)


def _corners(file: Path) -> tuple[float, float, float, float]:
    try:
        x1, y1, x2, y2 = (float(text) for text in read_regular(file).decode("utf-8-sig").split())
    except FileNotFoundError:
        raise EdgefelError(
            f"{file}: no such file; unpack it again, or move {file.parent} away to read whole images"
        ) from None
    except (OSError, ValueError):
        x1 = y1 = x2 = y2 = math.nan
    # NaN is not below anything; images have less than 2^15 pixels on a side
    if not (x1 < x2 and y1 < y2 and max(map(abs, (x1, y1, x2, y2))) < 1 << 15):
        raise EdgefelError(f"{file}: is not a box 'x1 y1 x2 y2' in pixels, x1 < x2, y1 < y2; unpack it again")
    return x1, y1, x2, y2


def _sorted_base(root: Path) -> Path | None:
    """The folder whose `train/1` to `train/7` hold images named as RAF-DB's, or None."""
    for train in (find(root, "train"), find(root, "DATASET", "train")):
        if train is None:
            continue
        for number in _NUMBERS:
            # several, since a Thumbs.db may come first
            if any(_SORTED.fullmatch(entry.name) for entry in first_entries(train / number, 16)):
                return train.parent
    return None


def _read_sorted(root: Path, base: Path) -> ImageDataset:
    rows: list[tuple[str, int, str]] = []
    for split in ("train", "test"):
        folder = descend(base, split)
        if folder is None:
            continue
        for class_folder in list_folders(folder):
            number = _number(class_folder.name, str(folder))
            for name in list_names(class_folder, *IMAGE_SUFFIXES):
                if not _SORTED.fullmatch(name):
                    raise EdgefelError(
                        f"{class_folder / name}: is not named as an image of RAF-DB, such as train_00001_aligned.jpg; "
                        "move it away"
                    )
                rows.append(((class_folder / name).relative_to(base).as_posix(), number, split))
    names, numbers, splits = zip(*rows, strict=True)
    store, groups = FileStore(base, names), own_groups(names)
    return numbered_dataset(root, EXPRESSIONS_7, store, numbers, RAF_DB, groups, splits)


def _number(text: str, where: str) -> int:
    """The class number that `text` is, from 0."""
    if text not in _NUMBERS:
        raise EdgefelError(
            f"{where}: class {text!r} is unknown; the basic expressions of RAF-DB are 1 to 7: {', '.join(RAF_DB)} "
            "(the compound subset, with 11 classes, is not read); give the folder of the basic expressions"
        )
    return _NUMBERS[text]
