"""A folder of labelled face images: `labels.csv` beside the images, or one folder per class."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np

from edgefel.data.dataset import UNLABELLED, FileStore, ImageDataset, SampleTable
from edgefel.data.images import IMAGE_SUFFIXES, find_images, left_out, left_out_text, say_left_out, suffix_of
from edgefel.data.labels import EXPRESSIONS_8, canonical_label, check_labels, expression_labels
from edgefel.data.readers.base import (
    BOX_COLUMNS,
    SPLIT_OF,
    are_canonical,
    group_codes,
    known_label,
    numbered_dataset,
    own_groups,
)
from edgefel.data.readers.manifest import labelled, read_csv
from edgefel.data.readers.search import list_files, list_folders
from edgefel.errors import EdgefelError
from edgefel.files.documents import read_json

CSV_NAME = "labels.csv"
CSV_COLUMNS = ("path", "label", "split", "subject")


class ImageFolder:
    """A folder with a `labels.csv`, or a tree `class/*.png`, or `split/class/*.png`.

    `labels.csv` has the columns path (relative to the folder), label (by name), split, subject, and optionally
    soft_<label> probabilities; other columns are ignored. In a plain tree every image is a group of its own.
    """

    name = "folder"
    title = "labels.csv beside images, or a folder for each class"
    classes = EXPRESSIONS_8

    def recognizes(self, root: Path) -> bool:
        """Whether there is a `labels.csv`, or a folder named after an expression."""
        if (root / CSV_NAME).is_file():
            return True
        try:
            classes = (folder.name for _, folders in _class_folders(root) for folder in folders)
            return any(map(canonical_label, classes))
        except EdgefelError:
            return False

    def read(self, root: Path) -> ImageDataset:
        """Raises EdgefelError for an empty folder, missing columns, or an unknown label."""
        csv_path = root / CSV_NAME
        return _read_csv(root, csv_path) if csv_path.is_file() else _read_tree(root)


def open_unlabelled(path: str | os.PathLike[str]) -> ImageDataset:
    """Opens the images of a folder, at any depth, without labels: `labels` is empty, every label UNLABELLED.

    An image's group is the subfolder it lies in (a video's frames usually share one), or itself at the top.
    Where all folders at the top are named train, val or test, they are splits. Files and folders whose name
    begins with a dot are left out. Images are not opened here.

    Raises EdgefelError for a missing folder, or one without images.
    """
    root = Path(path)
    if not root.is_dir():
        raise EdgefelError(f"{root}: no such folder; give a folder of images")
    found = find_images(root)
    images = [file.relative_to(root) for file in found.files]
    if not images:
        others = f"{left_out_text(found.left_out)}; " if found.left_out else ""
        raise EdgefelError(
            f"{root}: no images in it; {others}known suffixes: {' '.join(sorted(IMAGE_SUFFIXES))}"
        )
    has_splits = _has_splits(list_folders(root))
    rows = []
    for image in images:
        split = SPLIT_OF[image.parts[0].lower()] if has_splits and len(image.parts) > 1 else ""
        at_top = len(image.parts) == (2 if split else 1)
        rows.append((image.as_posix(), (image if at_top else image.parent).as_posix(), split))
    say_left_out(root, found.left_out)
    names, groups, splits = zip(*rows, strict=True)
    table = SampleTable(FileStore(root, names), np.full(len(names), UNLABELLED), *group_codes(groups), splits)
    return ImageDataset(root, (), table, found.left_out)


def _read_csv(root: Path, file: Path) -> ImageDataset:
    columns = read_csv(file, CSV_COLUMNS, ignored=("group", *BOX_COLUMNS), ragged=True)
    return labelled(root, columns, lambda names: _label_set(root, names))


def _read_tree(root: Path) -> ImageDataset:
    found: list[tuple[str, str, str]] = []
    others: Counter[str] = Counter()
    for split, classes in _class_folders(root):
        for folder in classes:
            names = list_files(folder)
            others.update(left_out(names))
            images = [folder / name for name in names if suffix_of(name) in IMAGE_SUFFIXES]
            label = known_label(folder.name, str(folder)) if images else ""
            found += [(image.relative_to(root).as_posix(), label, split) for image in images]
    if not found:
        said = f" ({left_out_text(others)})" if others else ""
        raise EdgefelError(
            f"{root}: no {CSV_NAME} and no images in class folders{said}; make a data set with "
            "edgefel data synth, or sort images into folders named after their expression"
        )
    say_left_out(root, others)
    files, occurring, splits = zip(*found, strict=True)
    labels = _label_set(root, set(occurring))
    numbers, store = [labels.index(name) for name in occurring], FileStore(root, files)
    dataset = numbered_dataset(root, labels, store, numbers, labels, own_groups(files), splits)
    return replace(dataset, left_out=dict(others.most_common()))


def _class_folders(root: Path) -> list[tuple[str, list[Path]]]:
    """The folders of classes by split ("" where there are none)."""
    folders = list_folders(root)
    if _has_splits(folders):
        return [(SPLIT_OF[folder.name.lower()], list_folders(folder)) for folder in folders]
    return [("", folders)]


def _has_splits(folders: list[Path]) -> bool:
    return bool(folders) and all(folder.name.lower() in SPLIT_OF for folder in folders)


def _label_set(root: Path, names: set[str]) -> tuple[str, ...]:
    """The canonical 7 labels, or 8 where contempt occurs or `dataset.json` says so."""
    described, eight = root / "dataset.json", "contempt" in names
    description = read_json(described) if described.is_file() else None
    listed = description.get("labels") if isinstance(description, dict) else None
    if listed is None:
        return expression_labels(8 if eight else 7)
    if not are_canonical(check_labels(listed, str(described))):
        raise EdgefelError(f"{described}: the labels {listed} are not the canonical 7 or 8; correct them")
    if eight and len(listed) == 7:
        raise EdgefelError(f"{described}: lists 7 labels, but {CSV_NAME} has contempt; list all 8")
    return expression_labels(len(listed))
