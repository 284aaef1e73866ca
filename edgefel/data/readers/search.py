"""Finds the files and folders of published layouts on a disk, and reads their lists.

Names match in any case, and archives may have been unpacked into folders of their own. Searching is quick for any
folder, since every reader is asked: large folders are not searched completely.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path

from edgefel.errors import EdgefelError
from edgefel.files.read import open_csv, read_text
from edgefel.files.remote import is_address, list_folder

# A folder with more subfolders holds videos, subjects or classes, and is no level of an archive: it is not entered.
_MANY_FOLDERS = 100
# Of a folder with more entries, such as one of all images, only the first ones are checked.
_MANY_ENTRIES = 10_000
# Folders above a set's images have few entries; in one with more, names must match exactly.
_FEW_ENTRIES = 256
# __MACOSX holds the resource forks of an archive that was packed on a Mac
_HIDDEN = (".", "__MACOSX")


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
        alike = (e.name for e in first_entries(folder, _MANY_ENTRIES) if e.name.lower() == name.lower())
        if found := next((folder / other for other in alike if (folder / other).is_file()), None):
            return found
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


def list_names(folder: Path, *suffixes: str) -> list[str]:
    """The names in a folder, sorted, without hidden ones; with `suffixes` those that end in one of them, in any case.

    Raises EdgefelError if the folder cannot be listed.
    """
    with _scanned(folder) as entries:
        names = (entry.name for entry in entries if not entry.name.startswith("."))
        return sorted(name for name in names if name.lower().endswith(suffixes or ("",)))


def list_files(folder: Path, *suffixes: str) -> list[str]:
    """As `list_names`, of what is no folder; `folder` may be an address."""
    if not is_address(folder):
        return [name for name in list_names(folder, *suffixes) if not (folder / name).is_dir()]
    ends = suffixes or ("",)
    return [name for name in list_folder(folder)[0] if name[0] != "." and name.lower().endswith(ends)]


def list_folders(folder: Path) -> list[Path]:
    """The folders in a folder, by name, without hidden ones and those of resource forks; `folder` may be an address.

    Raises EdgefelError.
    """
    if is_address(folder):
        return [folder / name for name in list_folder(folder)[1] if not name.startswith(_HIDDEN)]
    with _scanned(folder) as entries:
        return [folder / name for name in _folder_names(entries)]


@contextmanager
def _scanned(folder: Path) -> Iterator[Iterator[os.DirEntry[str]]]:
    try:
        with os.scandir(folder) as entries:
            yield entries
    except NotADirectoryError:
        raise EdgefelError(
            f"{folder}: is not a folder; unpack an archive first, and give the folder"
        ) from None
    except OSError as error:
        raise EdgefelError(
            f"{folder}: cannot be listed ({error.strerror or error}); make it readable, or give another one"
        ) from None


def first_entries(folder: Path, most: int) -> list[os.DirEntry[str]]:
    """The first entries of a folder, in no order; none of one that cannot be listed."""
    with suppress(OSError), os.scandir(folder) as entries:
        return list(islice(entries, most))
    return []


def read_lines(path: Path) -> list[str]:
    """The lines of a UTF-8 text file, with or without byte order mark and CRLF, less the blank ones at its end.

    Line n of the file is item n - 1. Raises EdgefelError if it cannot be read.
    """
    text = read_text(path)
    return text.rstrip().split("\n") if text.strip() else []


def read_rows(path: Path) -> list[list[str]]:
    """The rows of a CSV file, the first line included, blank ones left out. Raises EdgefelError."""
    with open_csv(path) as table:
        return [table.columns, *table] if table.columns else list(table)


def _child(folder: Path, name: str) -> Path | None:
    exact = folder / name
    if exact.exists():
        return exact
    names = [entry.name for entry in first_entries(folder, _FEW_ENTRIES + 1)]
    alike = [other for other in names if other.lower() == name.lower()] if len(names) <= _FEW_ENTRIES else []
    return folder / min(alike) if alike else None


def _subfolders(folder: Path, most: int = _MANY_ENTRIES) -> list[Path]:
    names = _folder_names(first_entries(folder, most))
    return [folder / name for name in names] if len(names) <= _MANY_FOLDERS else []


def _folder_names(entries: Iterable[os.DirEntry[str]]) -> list[str]:
    return sorted(e.name for e in entries if not e.name.startswith(_HIDDEN) and _is_folder(e))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that cannot be followed
        return False
