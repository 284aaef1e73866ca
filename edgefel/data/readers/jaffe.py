"""JAFFE: what each image shows is in its name."""

from __future__ import annotations

import itertools
import os
import re
from pathlib import Path

import numpy as np

from edgefel.data.dataset import ImageDataset, SampleTable
from edgefel.data.labels import EXPRESSIONS_7
from edgefel.data.readers.base import FileStore, group_codes, to_canonical
from edgefel.errors import EdgefelError

# the codes of the names, in the order in which the set's serial numbers go through them
_CODES = {
    "NE": "neutral",
    "HA": "happiness",
    "SA": "sadness",
    "SU": "surprise",
    "AN": "anger",
    "DI": "disgust",
    "FE": "fear",
}
_NAME = re.compile(rf"([A-Z]{{2}})\.({'|'.join(_CODES)})(\d+)\.(\d+)\.tiff?", re.IGNORECASE)
_SUFFIXES = (".tiff", ".tif")
# the set has 213 images: a folder with many times as many files need not be looked through to the end
_LOOKED_AT = 1000


class Jaffe:
    """Japanese Female Facial Expression: 213 grey images of 10 women, 7 expressions, no splits.

    One folder of `KA.AN1.39.tiff`: person, expression and its number, serial number. The groups are the persons. Other
    files (the README with the ratings) are ignored.
    Source: Lyons, Akamatsu, Kamachi, Gyoba, "Coding Facial Expressions with Gabor Wavelets", FG 1998;
    https://zenodo.org/record/3451524
    """

    name = "jaffe"
    title = "JAFFE, Japanese Female Facial Expression (Lyons et al., FG 1998)"
    classes = tuple(_CODES.values())

    def recognizes(self, root: Path) -> bool:
        """Whether a file of it, or of a folder in it, has a name of JAFFE's."""
        try:
            return any(
                _NAME.fullmatch(entry.name)
                for folder in (root, *_subfolders(root))
                for entry in itertools.islice(os.scandir(folder), _LOOKED_AT)
            )
        except OSError:
            return False

    def read(self, root: Path) -> ImageDataset:
        """Raises EdgefelError for a folder without .tiff files, several with them, and a name that is not JAFFE's."""
        folder, names = _images(root)
        found = [_NAME.fullmatch(name) for name in names]
        wrong = [name for name, match in zip(names, found, strict=True) if match is None]
        if wrong:
            raise EdgefelError(
                f"{folder / wrong[0]}: not a name of JAFFE's, such as KA.AN1.39.tiff (person, one of "
                f"{' '.join(_CODES)} with a number, serial number); correct it or take the file out of the folder"
            )
        parts = [match.groups() for match in found if match is not None]
        codes = list(_CODES)
        numbers = np.array([codes.index(expression.upper()) for _, expression, _, _ in parts])
        groups, persons = group_codes([person.upper() for person, *_ in parts])
        label = to_canonical(numbers, self.classes, EXPRESSIONS_7, str(folder))
        return ImageDataset(
            root, EXPRESSIONS_7, SampleTable(FileStore(folder, names), label, groups, persons, "")
        )


def _images(root: Path) -> tuple[Path, list[str]]:
    """The folder with the .tiff files, `root` or one in it, and their names in order."""
    try:
        held = {folder: _tiffs(folder) for folder in (root, *_subfolders(root))}
    except OSError as error:
        raise EdgefelError(f"{root}: cannot be read as a folder ({error.strerror or error})") from None
    having = [folder for folder, names in held.items() if names]
    if not having:
        raise EdgefelError(
            f"{root}: no .tiff files in it or in a folder of it; give the folder with JAFFE's images, KA.AN1.39.tiff "
            "and others"
        )
    if len(having) > 1:
        raise EdgefelError(
            f"{root}: .tiff files lie in {having[0]} and in {having[1]}; give the folder that is meant"
        )
    return having[0], held[having[0]]


def _tiffs(folder: Path) -> list[str]:
    names = (entry.name for entry in os.scandir(folder))
    return sorted(name for name in names if name.lower().endswith(_SUFFIXES) and not name.startswith("."))


def _subfolders(root: Path) -> list[Path]:
    # __MACOSX holds the resource forks of an archive that was packed on a Mac
    return sorted(
        Path(entry.path)
        for entry in os.scandir(root)
        if entry.is_dir() and not entry.name.startswith((".", "__MACOSX"))
    )
