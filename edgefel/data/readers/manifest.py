"""Tables of labelled images, and manifests: one CSV or Parquet file that lists images and their labels."""

from __future__ import annotations

import array
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgefel.data.dataset import SPLIT_NAMES, SPLITS, FileStore, ImageDataset
from edgefel.data.labels import EXPRESSIONS_8, expression_labels
from edgefel.data.readers.base import (
    BOX_COLUMNS,
    SOFT,
    SPLIT_OF,
    Coded,
    Columns,
    Groups,
    PackedNames,
    check_columns,
    group_codes,
    known_label,
    numbered_dataset,
    own_groups,
)
from edgefel.data.readers.parquet import read_parquet
from edgefel.errors import EdgefelError
from edgefel.files.read import open_csv
from edgefel.text import counted


class ManifestReader:
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
        """Whether it is a file with one of the two suffixes; its columns are checked when it is read."""
        return root.suffix.lower() in (".csv", ".parquet") and root.is_file()

    def read(self, root: Path) -> ImageDataset:
        """Raises EdgefelError, with line or row, for missing columns and invalid values."""
        is_parquet = root.suffix.lower() == ".parquet"
        return labelled(root, read_parquet(root) if is_parquet else read_csv(root))


def read_csv(
    path: Path,
    required: Sequence[str] = ("path", "label"),
    ignored: Collection[str] = (),
    *,
    ragged: bool = False,
) -> Columns:
    """The columns of a CSV file, packed while the rows are read.

    ignored: columns that are taken for unknown ones. ragged: rows may lack cells at their end or have more than the
    first line, and spaces around a path are dropped. Raises EdgefelError, with the line.
    """
    paths, ends = bytearray(), array.array("q", [0])
    numbers, lines = array.array("d"), array.array("q")
    with open_csv(path) as table:
        header = ["" if name in ignored else name for name in table.columns]
        number_names, group = check_columns(path, header, required)
        at_path, at_numbers = header.index("path"), [header.index(name) for name in number_names]
        named = {"label": "label", "split": "split", "group": group}
        parts = {
            what: (header.index(name), array.array("i"), dict[str, int]())
            for what, name in named.items()
            if name in header
        }
        for row in table:
            if ragged:
                row = [*row, *[""] * (len(header) - len(row))]
                row[at_path] = row[at_path].strip()
            elif len(row) != len(header):
                raise EdgefelError(
                    f"{path} line {table.line}: has {counted(len(row), 'cell')}, the first line "
                    f"{len(header)}; correct it, and put a cell with a comma in it in quotes"
                )
            paths += row[at_path].encode()
            ends.append(len(paths))
            for at, codes, names in parts.values():
                codes.append(names.setdefault(row[at], len(names)))
            try:
                numbers.extend([float(row[at]) for at in at_numbers])
            except ValueError:
                raise EdgefelError(
                    f"{path} line {table.line}: a column of {', '.join(number_names)} does not hold a number"
                ) from None
            lines.append(table.line)
    coded = {
        what: Coded(np.array(codes, np.int32), tuple(names)) for what, (_, codes, names) in parts.items()
    }
    packed = PackedNames(np.frombuffer(bytes(paths), np.uint8), np.array(ends, np.int64))
    return Columns(
        path,
        packed,
        coded["label"],
        coded.get("split"),
        coded.get("group"),
        dict(zip(number_names, np.array(numbers).reshape(len(lines), len(number_names)).T, strict=True)),
        FileStore(path.parent, packed),
        lambda row: f"{path} line {lines[row]}",
    )


def labelled(
    root: Path, columns: Columns, choose: Callable[[set[str]], tuple[str, ...]] | None = None
) -> ImageDataset:
    """The images of a table. choose: gives the labels for the set of those that occur; 8 with contempt by default."""
    if not len(columns.paths):
        raise EdgefelError(f"{columns.file}: lists no images; add one row per image")
    _refuse(columns, np.diff(columns.paths.ends) == 0, "the path is empty; give the image's file")
    names = []
    for code, name in enumerate(columns.label.names):
        rows = np.flatnonzero(columns.label.codes == code)
        # names without rows are ignored
        names.append(known_label(name, columns.where(int(rows[0]))) if rows.size else EXPRESSIONS_8[0])
    occurring = {*names, *(name.removeprefix(SOFT) for name in columns.numbers if name.startswith(SOFT))}
    labels = choose(occurring) if choose else expression_labels(8 if "contempt" in occurring else 7)
    store, codes, groups, splits = columns.store, columns.label.codes, _groups(columns), _splits(columns)
    soft, box = _soft(columns, labels), _boxes(columns)
    return numbered_dataset(root, labels, store, codes, names, groups, splits, soft=soft, box=box)


def _splits(columns: Columns) -> str | NDArray[np.int8]:
    if columns.split is None:
        return ""
    numbers = []
    for code, name in enumerate(columns.split.names):
        split = SPLIT_OF.get(name.strip().lower(), "")
        if name.strip() and not split:
            message = f"split {name!r} is unknown; use {', '.join(SPLITS)} or leave it empty"
            _refuse(columns, columns.split.codes == code, message)
        numbers.append(SPLIT_NAMES.index(split))
    return np.array(numbers, np.int8)[columns.split.codes]


def _groups(columns: Columns) -> Groups:
    """Groups; an image whose group is empty is one of its own, named by its path."""
    if columns.group is None:
        return own_groups(columns.paths)
    names = [name.strip() for name in columns.group.names]
    if all(names):
        return columns.group.codes, names
    codes = columns.group.codes.tolist()
    return group_codes([names[code] or columns.paths[row] for row, code in enumerate(codes)])


def _soft(columns: Columns, labels: Sequence[str]) -> NDArray[np.float32] | None:
    wanted = [SOFT + label for label in labels]
    lacking = [name for name in wanted if name not in columns.numbers]
    if lacking:
        if any(name.startswith(SOFT) for name in columns.numbers):
            raise EdgefelError(
                f"{columns.file}: has some soft_ columns but lacks {', '.join(lacking)}; add them or drop all of them"
            )
        return None
    soft = np.stack([columns.numbers[name] for name in wanted], axis=1)
    # NaN compares false, so it is wrong too
    right = (soft >= 0).all(1) & (np.abs(soft.sum(1) - 1) <= 1e-3)
    _refuse(columns, ~right, "the soft_ columns are not a distribution (each >= 0, sum 1)")
    return soft.astype(np.float32)


def _boxes(columns: Columns) -> NDArray[np.int32] | None:
    if BOX_COLUMNS[0] not in columns.numbers:
        return None
    box = np.stack([columns.numbers[name] for name in BOX_COLUMNS], axis=1)
    right = (np.abs(box) < 2**31 - 1).all(1) & (np.rint(box[:, 2:]) > 0).all(1)
    message = "x, y, width, height are not a box in pixels; every row needs one with an area, or drop the four columns"
    _refuse(columns, ~right, message)
    return np.rint(box).astype(np.int32)


def _refuse(columns: Columns, wrong: ArrayLike, message: str) -> None:
    """Raises EdgefelError at the first row that is wrong."""
    rows = np.flatnonzero(wrong)
    if rows.size:
        raise EdgefelError(f"{columns.where(int(rows[0]))}: {message}")
