"""What every reader of a data set gives, and the steps that readers share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgefel.data.dataset import ImageDataset, ImageStore, SampleTable
from edgefel.data.labels import EXPRESSIONS_7, EXPRESSIONS_8, canonical_label, match_labels, to_canonical
from edgefel.errors import EdgefelError

# Names of splits, in lower case, as people write them.
SPLIT_OF = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
BOX_COLUMNS = ("x", "y", "width", "height")
SOFT = "soft_"  # and a label: the column of its probabilities
Groups = tuple[NDArray[np.int32], Sequence[str]]  # number of each image's group [N], and the groups' names


class Reader(Protocol):
    """Reads one published layout.

    name: for `--layout`. title: the set and its source, for people. classes: its own numbering of the expressions, by
    canonical names; the data set that is read has the canonical order, whatever this one is.
    """

    @property
    def name(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def classes(self) -> tuple[str, ...]: ...

    def recognizes(self, root: Path) -> bool:
        """Whether `root` looks like this set. Must be quick, and must not raise for any folder or file."""
        ...

    def read(self, root: Path) -> ImageDataset:
        """Every labelled image of all splits; images are not opened.

        Raises EdgefelError that says what is missing or wrong, where, and what to do.
        """
        ...


class LazyNames(Sequence[str]):
    """Names that are made when asked for: a list of millions of strings takes ten times as much memory."""

    @abstractmethod
    def name(self, index: int) -> str:
        """The name at `index`, 0 to N - 1."""

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...
    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        rows = range(len(self))[index]  # counts from the end where negative, and raises IndexError
        return self.name(rows) if isinstance(rows, int) else [self.name(row) for row in rows]


class PackedNames(LazyNames):
    """Strings as one run of UTF-8 bytes, which also makes their pickle small.

    data: uint8 [bytes]. ends: int64 [N + 1], where each name begins and the last one ends.
    """

    def __init__(self, data: NDArray[np.uint8], ends: NDArray[np.int64]) -> None:
        self.data, self.ends = data, ends

    @classmethod
    def pack(cls, names: Iterable[str]) -> PackedNames:
        """Packs any strings, lone surrogates (undecodable file names) included."""
        data, ends = bytearray(), [0]
        for name in names:
            data += name.encode("utf-8", "surrogateescape")
            ends.append(len(data))
        return cls(np.frombuffer(bytes(data), np.uint8), np.array(ends, np.int64))

    def __len__(self) -> int:
        return len(self.ends) - 1

    def name(self, index: int) -> str:
        """The name at `index`, 0 to N - 1."""
        return self.data[self.ends[index] : self.ends[index + 1]].tobytes().decode("utf-8", "surrogateescape")


@dataclass(frozen=True)
class Coded:
    """A column of names: codes int32 [N] into `names`."""

    codes: NDArray[np.int32]
    names: tuple[str, ...]


@dataclass(frozen=True)
class Columns:
    """The content of a table before its values are interpreted; `where` gives the place of row n, for messages.

    paths: of each image, as written. numbers: the columns of the box and of soft labels, float64 [N] each.
    """

    file: Path
    paths: PackedNames
    label: Coded
    split: Coded | None
    group: Coded | None
    numbers: dict[str, NDArray[np.float64]]
    store: ImageStore
    where: Callable[[int], str]


def group_codes(names: Sequence[str]) -> Groups:
    """Groups by the name of each image's group [N], numbered in order of first appearance."""
    numbers: dict[str, int] = {}
    codes = np.fromiter((numbers.setdefault(name, len(numbers)) for name in names), np.int32, len(names))
    return codes, tuple(numbers)


def own_groups(names: Sequence[str]) -> Groups:
    """A group of its own for each image [N], of the image's name: for sets whose subjects are not known."""
    return np.arange(len(names), dtype=np.int32), names


def numbered_dataset(
    root: Path,
    labels: Sequence[str],
    store: ImageStore,
    numbers: ArrayLike,
    classes: Sequence[str],
    groups: Groups,
    split: str | Sequence[str] | NDArray[np.int8] = "",
    where: Callable[[int], str] | None = None,
    **columns: Any,
) -> ImageDataset:
    """A data set with these `labels`, of images whose classes are numbers [N], from 0, into the set's own `classes`.

    where: the place of row n, for messages; root by default. columns: as of `SampleTable`. Raises EdgefelError for an
    unknown number.
    """
    label = to_canonical(np.asarray(numbers), classes, labels, where or (lambda row: str(root)))
    return ImageDataset(root, tuple(labels), SampleTable(store, label, *groups, split, **columns))


def known_label(name: object, where: str) -> str:
    """The canonical label of a name; raises EdgefelError for an unknown one."""
    label = canonical_label(name) if isinstance(name, str) else None
    if label is None:
        raise EdgefelError(f"{where}: unknown label {name!r}; the labels are {', '.join(EXPRESSIONS_8)}")
    return label


def are_canonical(labels: Sequence[str]) -> bool:
    """Whether these are the canonical 7 or 8 labels, in any order."""
    return any(match_labels(known, labels).same_classes for known in (EXPRESSIONS_7, EXPRESSIONS_8))


def require_columns(where: str, columns: Sequence[str], required: Iterable[str], hint: str) -> None:
    """Raises EdgefelError, with what to do, for columns that are missing."""
    missing = [name for name in required if name not in columns]
    if missing:
        raise EdgefelError(f"{where}: missing column{'s' * (len(missing) > 1)} {', '.join(missing)}; {hint}")


def check_columns(path: Path, names: Sequence[str], required: Sequence[str]) -> tuple[list[str], str | None]:
    """The columns of numbers, and the one that names groups, if any.

    Raises EdgefelError for columns that are missing, given twice, or not canonical labels after "soft_".
    """
    require_columns(str(path), names, required, f"name the columns {', '.join(required)}")
    box = [name for name in BOX_COLUMNS if name in names]
    if box and len(box) < len(BOX_COLUMNS):
        lacking = ", ".join(name for name in BOX_COLUMNS if name not in names)
        raise EdgefelError(f"{path}: has {', '.join(box)} but lacks {lacking}; a box needs all four columns")
    soft = [name for name in names if name.startswith(SOFT)]
    unknown = [name for name in soft if name.removeprefix(SOFT) not in EXPRESSIONS_8]
    if unknown:
        raise EdgefelError(
            f"{path}: unknown label in the column {unknown[0]}; the labels are {', '.join(EXPRESSIONS_8)}"
        )
    groups = [name for name in ("group", "subject") if name in names]
    if len(groups) > 1:
        raise EdgefelError(f"{path}: has both columns {' and '.join(groups)}; keep one that groups images")
    used = (*required, *box, *soft, *groups, "split")
    twice = [name for name in used if list(names).count(name) > 1]
    if twice:
        raise EdgefelError(f"{path}: the column {twice[0]} is there twice; keep one of them")
    return box + soft, groups[0] if groups else None
