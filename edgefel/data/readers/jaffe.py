"""JAFFE: the names of the images are their labels."""

from __future__ import annotations

import re
from pathlib import Path

from edgefel.data.dataset import FileStore, ImageDataset
from edgefel.data.labels import EXPRESSIONS_7
from edgefel.data.readers.base import group_codes, numbered_dataset
from edgefel.data.readers.search import first_entries, folders_within, list_folders, list_names
from edgefel.errors import EdgefelError

# codes in the names, in the order of the set's serial numbers
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
# the set has 213 images: no more than this many entries of a folder are checked
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
        """Whether a file in `root`, or in a folder of it, has a name of JAFFE's."""
        return any(
            _NAME.fullmatch(entry.name)
            for folder in folders_within(root, 1)
            for entry in first_entries(folder, _LOOKED_AT)
        )

    def read(self, root: Path) -> ImageDataset:
        """Raises EdgefelError for a folder without .tiff files, several with them, and a name that is not JAFFE's."""
        folder, names = _images(root)
        wrong = [name for name in names if not _NAME.fullmatch(name)]
        if wrong:
            raise EdgefelError(
                f"{folder / wrong[0]}: not a name of JAFFE's, such as KA.AN1.39.tiff (person, one of "
                f"{' '.join(_CODES)} with a number, serial number); correct it or take the file out of the folder"
            )
        parts = [match.groups() for match in map(_NAME.fullmatch, names) if match is not None]
        codes = list(_CODES)
        numbers = [codes.index(expression.upper()) for _, expression, _, _ in parts]
        persons = group_codes([person.upper() for person, *_ in parts])
        return numbered_dataset(root, EXPRESSIONS_7, FileStore(folder, names), numbers, self.classes, persons)


def _images(root: Path) -> tuple[Path, list[str]]:
    """The folder with the .tiff files, `root` or one in it, and their names in order."""
    folders = (root, *list_folders(root))
    having = [(f, names) for f in folders if (names := list_names(f, ".tiff", ".tif"))]
    if not having:
        raise EdgefelError(
            f"{root}: no .tiff files in it or in a folder of it; give the folder with JAFFE's images, KA.AN1.39.tiff "
            "and others"
        )
    if len(having) > 1:
        raise EdgefelError(f"{root}: .tiff files in {having[0][0]} and in {having[1][0]}; give one of them")
    return having[0]
