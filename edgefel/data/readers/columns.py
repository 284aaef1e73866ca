"""Columns of a manifest, before their values are interpreted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgefel.data.dataset import ImageStore
from edgefel.data.labels import EXPRESSIONS_8
from edgefel.data.readers.base import PackedNames, require_columns
from edgefel.errors import EdgefelError

BOX_COLUMNS = ("x", "y", "width", "height")
GROUP_COLUMNS = ("group", "subject")
SOFT = "soft_"  # and a label: the column of its probabilities


@dataclass(frozen=True)
class Coded:
    """A column of names: codes int32 [N] into `names`."""

    codes: NDArray[np.int32]
    names: tuple[str, ...]


@dataclass(frozen=True)
class Columns:
    """The content of a manifest; `where` gives the place of row n, for messages.

    paths: of each image, as written. numbers: the columns of the box and of soft labels, float64 [N] each.
    """

    paths: PackedNames
    label: Coded
    split: Coded | None
    group: Coded | None
    numbers: dict[str, NDArray[np.float64]]
    store: ImageStore
    where: Callable[[int], str]


def check_columns(path: Path, names: Sequence[str], required: Sequence[str]) -> tuple[list[str], str | None]:
    """The columns of numbers, and the one that names groups, if any.

    Raises EdgefelError for columns that are missing, given twice, or not canonical labels after "soft_".
    """
    require_columns(str(path), names, required, "name the columns path and label")
    box = [name for name in BOX_COLUMNS if name in names]
    if box and len(box) < len(BOX_COLUMNS):
        lacking = ", ".join(name for name in BOX_COLUMNS if name not in names)
        raise EdgefelError(f"{path}: has {', '.join(box)} but lacks {lacking}; a box needs all four columns")
    soft = check_soft_names(path, names)
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


def check_soft_names(path: Path, names: Iterable[str]) -> list[str]:
    """The columns of soft labels; raises EdgefelError where one is not of a canonical label."""
    soft = [name for name in names if name.startswith(SOFT)]
    unknown = [name for name in soft if name.removeprefix(SOFT) not in EXPRESSIONS_8]
    if unknown:
        raise EdgefelError(
            f"{path}: unknown label in the column {unknown[0]}; the labels are {', '.join(EXPRESSIONS_8)}"
        )
    return soft


def soft_columns(where: Path, names: Iterable[str], labels: Sequence[str]) -> list[str]:
    """The columns of soft labels in the order of `labels`, or none; raises EdgefelError if some are missing."""
    given = {name for name in names if name.startswith(SOFT)}
    wanted = [SOFT + label for label in labels]
    lacking = ", ".join(name for name in wanted if name not in given)
    if given and lacking:
        raise EdgefelError(
            f"{where}: has some soft_ columns but lacks {lacking}; add them or drop all of them"
        )
    return wanted if given else []
