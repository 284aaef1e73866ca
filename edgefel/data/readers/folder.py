"""Reads a folder of labelled face images: `labels.csv` beside the images, or one folder per class."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path

from edgefel.data.dataset import SPLITS, UNLABELLED, ImageDataset, Sample
from edgefel.data.images import (
    IMAGE_SUFFIXES,
    find_images,
    left_out,
    left_out_text,
    say_left_out,
    suffix_of,
)
from edgefel.data.labels import (
    EXPRESSIONS_7,
    EXPRESSIONS_8,
    canonical_label,
    check_labels,
    expression_labels,
    match_labels,
)
from edgefel.data.readers.search import list_names
from edgefel.errors import EdgefelError
from edgefel.files.documents import read_json
from edgefel.files.read import open_csv

CSV_NAME = "labels.csv"
CSV_COLUMNS = ("path", "label", "split", "subject")

_SPLIT_FOLDERS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


class ImageFolder:
    """A folder with a `labels.csv`, or a tree `class/*.png`, or `split/class/*.png`.

    `labels.csv` has the columns path (relative to the folder), label (by name), split, subject, and optionally
    soft_<label> probabilities; other columns are ignored. In a plain tree every image is a group of its own.
    """

    name = "folder"
    title = "labels.csv beside images, or a folder for each class"
    classes = EXPRESSIONS_8

    def recognizes(self, root: Path) -> bool:
        """Whether it says what its images show: by a `labels.csv`, or by folders named after expressions."""
        if (root / CSV_NAME).is_file():
            return True
        if not root.is_dir():
            return False
        return any(canonical_label(folder.name) for _, classes in _class_folders(root) for folder in classes)

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
    splits = _has_splits(_subfolders(root))
    samples = []
    for image in images:
        split = _SPLIT_FOLDERS[image.parts[0].lower()] if splits and len(image.parts) > 1 else ""
        at_top = len(image.parts) == (2 if split else 1)
        group = image if at_top else image.parent
        samples.append(Sample(root / image, UNLABELLED, group.as_posix(), split))
    say_left_out(root, found.left_out)
    return ImageDataset(root, (), tuple(samples), found.left_out)


def _read_csv(root: Path, csv_path: Path) -> ImageDataset:
    with open_csv(csv_path) as table:
        columns = tuple(table.columns)
        rows = [dict(zip_longest(columns, row[: len(columns)])) for row in table]
    missing = [column for column in CSV_COLUMNS if column not in columns]
    if missing:
        raise EdgefelError(
            f"{csv_path}: missing column{'s' * (len(missing) > 1)} {', '.join(missing)}; "
            f"the first line must name {', '.join(CSV_COLUMNS)}"
        )
    if not rows:
        raise EdgefelError(f"{csv_path}: lists no images; add one line per image")
    soft_names = {c.removeprefix("soft_"): c for c in columns if c.startswith("soft_")}
    names = [_canonical(row["label"], f"{csv_path} line {n}") for n, row in enumerate(rows, start=2)]
    labels = _label_set(root, {*names, *soft_names})
    soft_columns = [soft_names[label] for label in labels if label in soft_names]
    if soft_columns and len(soft_columns) != len(labels):
        lacking = ", ".join(f"soft_{label}" for label in labels if label not in soft_names)
        raise EdgefelError(
            f"{csv_path}: has some soft_ columns but lacks {lacking}; add them or drop all of them"
        )
    index = {label: i for i, label in enumerate(labels)}
    samples = tuple(
        _csv_sample(root, row, index[name], soft_columns, f"{csv_path} line {n}")
        for n, (row, name) in enumerate(zip(rows, names, strict=True), start=2)
    )
    return ImageDataset(root, labels, samples)


def _csv_sample(
    root: Path, row: dict[str, str | None], label: int, soft_columns: list[str], where: str
) -> Sample:
    path, split, subject = ((row[column] or "").strip() for column in ("path", "split", "subject"))
    if not path:
        raise EdgefelError(f"{where}: the path is empty")
    if split not in (*SPLITS, ""):
        raise EdgefelError(f"{where}: split {split!r} is unknown; use {', '.join(SPLITS)} or leave it empty")
    soft = None
    if soft_columns:
        try:
            soft = tuple(float(row[column] or "") for column in soft_columns)
        except ValueError:
            raise EdgefelError(f"{where}: a soft_ column does not hold a number") from None
        if not (min(soft) >= 0 and math.isclose(sum(soft), 1.0, abs_tol=1e-3)):
            raise EdgefelError(f"{where}: the soft_ columns are not a distribution (each >= 0, sum 1)")
    # a subject that is not named is taken as a subject of its own
    return Sample(root / path, label, subject or path, split, soft)


def _read_tree(root: Path) -> ImageDataset:
    found: list[tuple[str, str, Path]] = []
    others: Counter[str] = Counter()
    for split, classes in _class_folders(root):
        for folder in classes:
            names = list_names(folder)
            others.update(left_out(names))
            images = [
                folder / n for n in names if suffix_of(n) in IMAGE_SUFFIXES and not (folder / n).is_dir()
            ]
            name = _canonical(folder.name, str(folder)) if images else ""
            found += [(split, name, image) for image in images]
    if not found:
        said = f" ({left_out_text(others)})" if others else ""
        raise EdgefelError(
            f"{root}: no {CSV_NAME} and no images in class folders{said}; make a data set with "
            "edgefel data synth, or sort images into folders named after their expression"
        )
    labels = _label_set(root, {name for _, name, _ in found})
    index = {label: i for i, label in enumerate(labels)}
    samples = (
        Sample(image, index[name], image.relative_to(root).as_posix(), split) for split, name, image in found
    )
    say_left_out(root, others)
    return ImageDataset(root, labels, tuple(samples), dict(others.most_common()))


def _class_folders(root: Path) -> list[tuple[str, list[Path]]]:
    """Per split ("" where there are none), the folders that are named after classes."""
    folders = _subfolders(root)
    if _has_splits(folders):
        return [(_SPLIT_FOLDERS[folder.name.lower()], _subfolders(folder)) for folder in folders]
    return [("", folders)]


def _has_splits(folders: list[Path]) -> bool:
    return bool(folders) and all(folder.name.lower() in _SPLIT_FOLDERS for folder in folders)


def _subfolders(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def _canonical(name: str | None, where: str) -> str:
    label = canonical_label(name or "")
    if label is None:
        raise EdgefelError(f"{where}: unknown label {name!r}; the labels are {', '.join(EXPRESSIONS_8)}")
    return label


def _are_expressions(listed: Sequence[str]) -> bool:
    """In whatever order: images have names of classes here, and no numbers."""
    return any(match_labels(labels, listed).same_classes for labels in (EXPRESSIONS_7, EXPRESSIONS_8))


def _label_set(root: Path, names: set[str]) -> tuple[str, ...]:
    """The canonical 7 labels, or 8 where contempt occurs or `dataset.json` says so."""
    unknown = names - set(EXPRESSIONS_8)
    if unknown:
        raise EdgefelError(
            f"{root / CSV_NAME}: unknown label in the column soft_{min(unknown)}; "
            f"the labels are {', '.join(EXPRESSIONS_8)}"
        )
    described = root / "dataset.json"
    eight = "contempt" in names
    if described.is_file():
        description = read_json(described)
        listed = description.get("labels") if isinstance(description, dict) else None
        if listed is not None and not _are_expressions(check_labels(listed, str(described))):
            raise EdgefelError(f"{described}: the labels {listed} are not the canonical 7 or 8; correct them")
        if listed is not None and eight and len(listed) == 7:
            raise EdgefelError(f"{described}: lists 7 labels, but {CSV_NAME} has contempt; list all 8")
        eight = eight or (listed is not None and len(listed) == 8)
    return expression_labels(8 if eight else 7)
