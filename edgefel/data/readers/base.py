"""What every reader of a data set gives, and what they share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edgefel.data.dataset import FileStore, ImageDataset
from edgefel.data.labels import to_canonical

__all__ = ["FileStore", "Reader", "group_codes", "to_canonical"]


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


def group_codes(names: Sequence[str]) -> tuple[NDArray[np.int32], tuple[str, ...]]:
    """The number of each name [N], and the names by number, in order of first appearance."""
    numbers: dict[str, int] = {}
    codes = np.fromiter((numbers.setdefault(name, len(numbers)) for name in names), np.int32, len(names))
    return codes, tuple(numbers)
