"""A manifest: one CSV or Parquet file that lists images and what they show."""

from __future__ import annotations

import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgefel.data.dataset import SPLITS, FileStore, ImageDataset, ImageStore, SampleTable
from edgefel.data.labels import EXPRESSIONS_8, canonical_label, expression_labels
from edgefel.data.readers.base import to_canonical
from edgefel.data.readers.names import PackedNames
from edgefel.errors import EdgefelError
from edgefel.files.read import open_csv
from edgefel.text import counted

CSV_SUFFIX, PARQUET_SUFFIX = ".csv", ".parquet"
BOX_COLUMNS = ("x", "y", "width", "height")
GROUP_COLUMNS = ("group", "subject")
_SOFT = "soft_"
_SPLIT_NAMES = ("", *SPLITS)
_SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test", "": ""}


@dataclass(frozen=True)
class Coded:
    """A column of names: codes int32 [N] into `names`."""

    codes: NDArray[np.int32]
    names: tuple[str, ...]


@dataclass(frozen=True)
class Columns:
    """What a manifest holds, before its labels are understood; `where` says where row n is, for messages.

    paths: of each image, as written. numbers: the columns of the box and of soft labels, float64 [N] each.
    """

    paths: PackedNames
    label: Coded
    split: Coded | None
    group: Coded | None
    numbers: dict[str, NDArray[np.float64]]
    store: ImageStore
    where: Callable[[int], str]


class Manifest:
    """A file `NAME.csv` or `NAME.parquet`, with a row for each image.

    Columns: path (relative to the file's folder, or absolute) and label (by name, or a usual synonym); optionally split
    (train, val, test or empty), group or subject, the face's box in pixels x, y, width, height, and soft_<label>
    probabilities. Other columns are ignored. An image without a group is a group of its own. There are 8 labels where
    contempt occurs or has a soft_ column, else 7.

    A Parquet file may hold the encoded images themselves in a column `image`, as Hugging Face's `Image` feature
    (https://huggingface.co/docs/datasets/image_dataset) writes them: bytes, or a struct of bytes and path. Labels that
    are numbers are taken by the class names that its `ClassLabel` feature leaves in the file, and refused without them.
    """

    name = "manifest"
    title = "a CSV or Parquet file that lists paths and labels"
    classes = EXPRESSIONS_8

    def recognizes(self, root: Path) -> bool:
        """Whether it is a file of one of the two suffixes; what it lacks is said when it is read."""
        return root.suffix.lower() in (CSV_SUFFIX, PARQUET_SUFFIX) and root.is_file()

    def read(self, root: Path) -> ImageDataset:
        """Raises EdgefelError, with line or row, for a column that is missing and for a value that cannot be."""
        if root.suffix.lower() == PARQUET_SUFFIX:
            from edgefel.data.readers.parquet import read_parquet  # pyarrow is optional

            columns = read_parquet(root)
        else:
            columns = _read_csv(root)
        return _dataset(root, columns)


def check_columns(path: Path, names: Sequence[str], required: Sequence[str]) -> tuple[list[str], str | None]:
    """The columns of numbers, and the one that names groups, if any.

    Raises EdgefelError for columns that are missing, given twice, or not canonical labels after "soft_".
    """
    missing = [name for name in required if name not in names]
    if missing:
        raise EdgefelError(
            f"{path}: missing column{'s' * (len(missing) > 1)} {', '.join(missing)}; name the columns path and label"
        )
    box = [name for name in BOX_COLUMNS if name in names]
    if box and len(box) < len(BOX_COLUMNS):
        lacking = ", ".join(name for name in BOX_COLUMNS if name not in names)
        raise EdgefelError(f"{path}: has {', '.join(box)} but lacks {lacking}; a box needs all four columns")
    soft = [name for name in names if name.startswith(_SOFT)]
    unknown = [name for name in soft if name.removeprefix(_SOFT) not in EXPRESSIONS_8]
    if unknown:
        raise EdgefelError(
            f"{path}: unknown label in the column {unknown[0]}; the labels are {', '.join(EXPRESSIONS_8)}"
        )
    groups = [name for name in GROUP_COLUMNS if name in names]
    if len(groups) > 1:
        raise EdgefelError(
            f"{path}: has both columns {' and '.join(groups)}; keep the one that groups images"
        )
    used = (*required, *box, *soft, *groups, "split")
    twice = [name for name in used if list(names).count(name) > 1]
    if twice:
        raise EdgefelError(f"{path}: the column {twice[0]} is there twice; keep one of them")
    return box + soft, groups[0] if groups else None


def _read_csv(path: Path) -> Columns:
    with open_csv(path) as table:
        number_names, group_name = check_columns(path, table.columns, ("path", "label"))
        rows = _CsvRows(path, table.columns, number_names, group_name)
        rows.add(table, lambda: table.line)
    return rows.columns()


class _CsvRows:
    """The cells that matter, packed while the rows go by."""

    def __init__(self, path: Path, header: list[str], numbers: list[str], group: str | None) -> None:
        self.path, self.width, self.number_names = path, len(header), numbers
        self.at_path = header.index("path")
        coded = {"label": "label", "split": "split", "group": group}
        self.at_coded = {what: header.index(name) for what, name in coded.items() if name in header}
        self.at_numbers = [header.index(name) for name in numbers]
        self.paths, self.ends = bytearray(), array.array("q", [0])
        self.codes: dict[str, array.array[int]] = {what: array.array("i") for what in self.at_coded}
        self.names: dict[str, dict[str, int]] = {what: {} for what in self.at_coded}
        self.numbers, self.lines = array.array("d"), array.array("q")

    def add(self, rows: Iterable[list[str]], line: Callable[[], int]) -> None:
        for row in rows:
            if len(row) != self.width:
                raise EdgefelError(
                    f"{self.path} line {line()}: has {counted(len(row), 'cell')}, the first line "
                    f"{self.width}; correct it, and "
                    "put a cell with a comma in it in quotes"
                )
            self.paths += row[self.at_path].encode()
            self.ends.append(len(self.paths))
            for what, at in self.at_coded.items():
                names = self.names[what]
                self.codes[what].append(names.setdefault(row[at], len(names)))
            try:
                self.numbers.extend([float(row[at]) for at in self.at_numbers])
            except ValueError:
                raise EdgefelError(
                    f"{self.path} line {line()}: a column of {', '.join(self.number_names)} does not hold a number"
                ) from None
            self.lines.append(line())

    def columns(self) -> Columns:
        numbers = np.array(self.numbers, np.float64).reshape(len(self.lines), len(self.number_names))
        coded = {
            what: Coded(np.array(codes, np.int32), tuple(self.names[what]))
            for what, codes in self.codes.items()
        }
        paths = PackedNames(np.frombuffer(bytes(self.paths), np.uint8), np.array(self.ends, np.int64))
        return Columns(
            paths,
            coded["label"],
            coded.get("split"),
            coded.get("group"),
            {name: numbers[:, at] for at, name in enumerate(self.number_names)},
            FileStore(self.path.parent, paths),
            lambda row: f"{self.path} line {self.lines[row]}",
        )


def _dataset(root: Path, columns: Columns) -> ImageDataset:
    if not len(columns.paths):
        raise EdgefelError(f"{root}: lists no images; add one row per image")
    empty = np.flatnonzero(np.diff(columns.paths.ends) == 0)
    if empty.size:
        raise EdgefelError(f"{columns.where(int(empty[0]))}: the path is empty; give the image's file")
    eight = f"{_SOFT}contempt" in columns.numbers
    names = []
    for code, name in enumerate(columns.label.names):
        label = canonical_label(name)
        first = np.flatnonzero(columns.label.codes == code)
        if label is None and first.size:
            raise EdgefelError(
                f"{columns.where(int(first[0]))}: unknown label {name!r}; the labels are {', '.join(EXPRESSIONS_8)}"
            )
        eight |= label == "contempt" and bool(first.size)
        names.append(label or EXPRESSIONS_8[0])  # a name that no row has is as good as any
    labels = expression_labels(8 if eight else 7)
    if not eight:
        names = [labels[0] if name == "contempt" else name for name in names]
    group, group_names = _groups(columns)
    table = SampleTable(
        columns.store,
        to_canonical(columns.label.codes, names, labels, str(root)),
        group,
        group_names,
        _splits(columns),
        soft=_soft(root, columns, labels),
        box=_boxes(columns),
    )
    return ImageDataset(root, labels, table)


def _splits(columns: Columns) -> str | NDArray[np.int8]:
    if columns.split is None:
        return ""
    numbers = []
    for code, name in enumerate(columns.split.names):
        split = _SPLITS.get(name.strip().lower())
        if split is None:
            row = int(np.argmax(columns.split.codes == code))
            raise EdgefelError(
                f"{columns.where(row)}: split {name!r} is unknown; use {', '.join(SPLITS)} or leave it empty"
            )
        numbers.append(_SPLIT_NAMES.index(split))
    return np.array(numbers, np.int8)[columns.split.codes]


def _groups(columns: Columns) -> tuple[NDArray[np.int32], Sequence[str]]:
    """Codes and names; an image whose group is empty gets its path for a group of its own."""
    if columns.group is None:
        return np.arange(len(columns.paths), dtype=np.int32), columns.paths
    names = [name.strip() for name in columns.group.names]
    codes = columns.group.codes.copy()
    unnamed = np.flatnonzero(np.isin(codes, [code for code, name in enumerate(names) if not name]))
    codes[unnamed] = len(names) + np.arange(len(unnamed), dtype=np.int32)
    return codes, (*names, *(columns.paths[int(row)] for row in unnamed))


def _soft(root: Path, columns: Columns, labels: Sequence[str]) -> NDArray[np.float32] | None:
    given = [name for name in columns.numbers if name.startswith(_SOFT)]
    if not given:
        return None
    lacking = ", ".join(_SOFT + label for label in labels if _SOFT + label not in given)
    if lacking:
        raise EdgefelError(
            f"{root}: has some soft_ columns but lacks {lacking}; add them or drop all of them"
        )
    soft = np.stack([columns.numbers[_SOFT + label] for label in labels], axis=1)
    # NaN compares false, so it is wrong too
    wrong = np.flatnonzero(~((soft >= 0).all(1) & (np.abs(soft.sum(1) - 1) <= 1e-3)))
    if wrong.size:
        raise EdgefelError(
            f"{columns.where(int(wrong[0]))}: the soft_ columns are not a distribution (each >= 0, sum 1)"
        )
    return soft.astype(np.float32)


def _boxes(columns: Columns) -> NDArray[np.int32] | None:
    if BOX_COLUMNS[0] not in columns.numbers:
        return None
    box = np.stack([columns.numbers[name] for name in BOX_COLUMNS], axis=1)
    wrong = np.flatnonzero(~((np.abs(box) < 2**31 - 1).all(1) & (np.rint(box[:, 2:]) > 0).all(1)))
    if wrong.size:
        raise EdgefelError(
            f"{columns.where(int(wrong[0]))}: x, y, width, height are not a box in pixels; every row needs one with an "
            "area, or drop the four columns"
        )
    return np.rint(box).astype(np.int32)
