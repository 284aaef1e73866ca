"""Finds what a published layout names in what people really have on their disks, and reads its lists of text.

Names match in any mixture of upper and lower case, and archives may have been unpacked into folders of their own. All
of it is quick for any folder, so that every reader may ask: not all of a folder of thousands is looked at.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Literal

from edgefel.errors import EdgefelError
from edgefel.files.read import open_csv, read_text

# A folder with more subfolders than this is one of videos, subjects or classes, not a level of an archive: it is not
# entered, so that a look at a set of thousands of folders stays quick.
_MANY_FOLDERS = 100
# Of a folder with more entries, such as one of all images, the first ones are looked at.
_MANY_ENTRIES = 10_000
# The folders above a set's images hold a few entries; in one with more, names must match to the letter.
_FEW_ENTRIES = 256


def folders_within(root: Path, depth: int) -> Iterator[Path]:
    """`root` and the folders within it down to `depth` levels, the nearest first, those of one folder by name.

    Hidden folders are left out. One that cannot be listed is taken as empty, so this raises for no path.
    """
    level = [root]
    for _ in range(depth + 1):
        yield from level
        level = [child for folder in level for child in _subfolders(folder)]


def find_folders(root: Path, names: tuple[str, ...], depth: int) -> list[Path]:
    """The folders of one of these names (in any case) within `root` down to `depth` levels, the nearest first."""
    wanted = {name.lower() for name in names}
    return [folder for folder in folders_within(root, depth) if folder.name.lower() in wanted]


def find_file(root: Path, name: str, depth: int) -> Path | None:
    """The nearest file of this name (in any case) within `root` down to `depth` levels of folders."""
    for folder in folders_within(root, depth):
        if (folder / name).is_file():
            return folder / name
        alike = [e.name for e in _entries(folder) if e.name.lower() == name.lower() and _is(e, "file")]
        if alike:
            return folder / alike[0]
    return None


def find(root: Path, *parts: str) -> Path | None:
    """The file or folder `parts` below `root`, or below one of its subfolders, as `descend` finds it; or None.

    The first subfolder in alphabetical order wins. Raises nothing for any folder or file.
    """
    found = (descend(start, *parts) for start in (root, *_subfolders(root, _FEW_ENTRIES)))
    return next((path for path in found if path is not None), None)


def descend(folder: Path, *parts: str) -> Path | None:
    """The file or folder `parts` below `folder`, in any mixture of upper and lower case, or None.

    An archive that was unpacked into a folder of its own name (`aligned/aligned`) is entered.
    """
    try:
        for part in parts:
            step = _child(folder, part)
            if step is None:
                return None
            inner = _child(step, step.name)
            folder = inner if inner is not None and inner.is_dir() else step
    except OSError:
        return None
    return folder


def list_names(folder: Path) -> list[str]:
    """All names in a folder, sorted, without those that begin with a dot; EdgefelError if it cannot be listed."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if not entry.name.startswith("."))
    except OSError as error:
        raise EdgefelError(f"{folder}: cannot be listed ({error.strerror}); make it readable") from None


def read_lines(path: Path) -> list[str]:
    """The lines of a UTF-8 text file, with or without byte order mark and CRLF, less the blank ones at its end.

    Line n of the file is item n - 1. Raises EdgefelError if it cannot be read.
    """
    try:
        text = read_text(path)
    except EdgefelError as error:
        raise EdgefelError(f"{error}, or unpack the set again") from None
    return text.rstrip().split("\n") if text.strip() else []


def read_rows(path: Path) -> list[list[str]]:
    """The rows of a CSV file, the first line included, blank ones left out. Raises EdgefelError."""
    with open_csv(path) as table:
        return [table.columns, *table] if table.columns else list(table)


def _child(folder: Path, name: str) -> Path | None:
    exact = folder / name
    if exact.exists():
        return exact
    names = [entry.name for entry in _entries(folder, _FEW_ENTRIES + 1)]
    alike = [other for other in names if other.lower() == name.lower()] if len(names) <= _FEW_ENTRIES else []
    return folder / min(alike) if alike else None


def _subfolders(folder: Path, most: int = _MANY_ENTRIES) -> list[Path]:
    names = [
        entry.name
        for entry in _entries(folder, most)
        if not entry.name.startswith((".", "__MACOSX")) and _is(entry, "folder")
    ]
    return [folder / name for name in sorted(names)] if len(names) <= _MANY_FOLDERS else []


def _is(entry: os.DirEntry[str], kind: Literal["file", "folder"]) -> bool:
    try:
        return entry.is_file() if kind == "file" else entry.is_dir()
    except OSError:  # a link that cannot be followed
        return False


def _entries(folder: Path, most: int = _MANY_ENTRIES) -> list[os.DirEntry[str]]:
    """The first entries of a folder, in no order; none of one that cannot be listed."""
    try:
        with os.scandir(folder) as entries:
            return list(islice(entries, most))
    except OSError:
        return []
