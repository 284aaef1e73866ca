"""Attributes of the people in the images: columns of the CSV that lists them, matched by path."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgefel.data.dataset import ImageDataset
from edgefel.errors import EdgefelError
from edgefel.files.read import open_csv

# used by default where they exist
KNOWN_COLUMNS = ("skin", "skin_tone", "glasses", "age", "sex", "gender", "ethnicity", "race")
CSV_NAME = "labels.csv"
# numbers with more different values than this are cut into quarters of equally many images
MOST_NUMBERS = 8
_NOT_ATTRIBUTES = ("path", "label")


def attribute_columns(dataset: ImageDataset, by: Sequence[str] | None = None) -> tuple[str, ...]:
    """The columns to judge by: those of `by`, or without it every known one that is there.

    Raises EdgefelError for a column that is not there, and for any column if the data set has no CSV.
    """
    file = _file(dataset.root)
    if file is None:
        if by:
            raise EdgefelError(
                f"{dataset.root}: has no {CSV_NAME} and is no CSV manifest, so there is no column {by[0]!r}; "
                "leave out --by"
            )
        return ()
    with open_csv(file) as table:
        header = table.columns
    there = [name for name in header if name not in _NOT_ATTRIBUTES] if "path" in header else []
    if by is None:
        return tuple(name for name in KNOWN_COLUMNS if name in there)
    for name in by:
        if name not in there:
            raise EdgefelError(f"{file}: no column {name!r}; choose one of: {', '.join(there) or 'none'}")
    return tuple(dict.fromkeys(by))


def read_attributes(
    dataset: ImageDataset, columns: Sequence[str], indices: NDArray[np.int64]
) -> dict[str, tuple[str, ...]]:
    """The value of every column for each of the samples `indices` [N], "" where none is given.

    Numbers with more than MOST_NUMBERS values become ranges of equally many images, such as "0.21 to 0.48".
    """
    file = _file(dataset.root)
    if not columns or file is None:
        return {}
    wanted = {os.path.normpath(dataset.samples[int(i)].path): row for row, i in enumerate(indices)}
    values = {name: [""] * len(indices) for name in columns}
    with open_csv(file) as table:
        at = {name: table.columns.index(name) for name in ("path", *columns)}
        for line in table:
            cells = {name: line[place].strip() if place < len(line) else "" for name, place in at.items()}
            row = wanted.get(os.path.normpath(file.parent / cells["path"]))
            if row is not None:
                for name in columns:
                    values[name][row] = cells[name]
    return {name: _ranges(column) for name, column in values.items()}


def _file(root: Path) -> Path | None:
    file = root if root.suffix.lower() == ".csv" else root / CSV_NAME
    return file if file.is_file() else None


def _ranges(values: Sequence[str]) -> tuple[str, ...]:
    try:
        numbers = np.array([float(value) if value else np.nan for value in values])
    except ValueError:
        return tuple(values)  # names
    known = numbers[np.isfinite(numbers)]
    if len(np.unique(known)) <= MOST_NUMBERS:
        return tuple(values)
    ends = np.unique(np.quantile(known, (0, 0.25, 0.5, 0.75, 1)))
    part = np.clip(np.searchsorted(ends, numbers, side="right") - 1, 0, len(ends) - 2)
    names = [f"{low:.3g} to {high:.3g}" for low, high in pairwise(ends)]
    return tuple(names[p] if np.isfinite(n) else "" for p, n in zip(part, numbers, strict=True))
