"""FERG-DB: a folder for each character, and in it one for each expression."""

from __future__ import annotations

import re
from pathlib import Path

from edgefel.data.dataset import FileStore, ImageDataset
from edgefel.data.labels import EXPRESSIONS_7, canonical_label
from edgefel.data.readers.base import PackedNames, group_codes, numbered_dataset
from edgefel.data.readers.search import list_folders, list_names
from edgefel.errors import EdgefelError

CHARACTERS = ("aia", "bonnie", "jules", "malcolm", "mery", "ray")
# names of the folders, in the order of the set's README
_EXPRESSIONS = ("anger", "disgust", "fear", "joy", "neutral", "sadness", "surprise")


class Ferg:
    """Facial Expression Research Group 2D Database: 55,767 rendered images of six characters, no splits.

    `FERG_DB_256/aia/aia_anger/aia_anger_1.png`; `root` is FERG_DB_256 or the folder around it. The groups are the
    characters. A folder that is not named after a character is ignored.
    Source: Aneja, Colburn, Faigin, Shapiro, Mones, "Modeling Stylized Character Expressions via Deep Learning", ACCV
    2016; https://grail.cs.washington.edu/projects/deepexpr/ferg-2d-db.html
    """

    name = "ferg"
    title = "FERG-DB, stylized characters (Aneja et al., ACCV 2016)"
    classes = tuple(canonical_label(name) or name for name in _EXPRESSIONS)

    def recognizes(self, root: Path) -> bool:
        """Whether a character's folder, in `root` or one level deeper, has a folder of an expression."""
        try:
            return any(
                _expression(folder, character) is not None
                for character, place in _characters(_base(root))
                for folder in list_folders(place)
            )
        except EdgefelError:
            return False

    def read(self, root: Path) -> ImageDataset:
        """Raises EdgefelError where there are no characters, and for a folder or image whose name does not fit."""
        rows: list[tuple[str, int, str]] = []
        base = _base(root)
        for character, place in _characters(base):
            for folder in list_folders(place):
                number = _expression(folder, character)
                if number is None:
                    raise EdgefelError(
                        f"{folder}: not a folder of {character}'s expressions; they are "
                        f"{', '.join(f'{character}_{name}' for name in _EXPRESSIONS)}: correct or remove it"
                    )
                found = _images(folder, f"{character}_{_EXPRESSIONS[number]}")
                rows += [(f"{place.name}/{folder.name}/{name}", number, character) for name in found]
        if not rows:
            raise EdgefelError(
                f"{root}: no images of FERG-DB, such as aia/aia_anger/aia_anger_1.png; give the folder with "
                f"{', '.join(CHARACTERS)}, usually FERG_DB_256"
            )
        names, numbers, characters = zip(*rows, strict=True)
        store = FileStore(base, PackedNames.pack(names))
        return numbered_dataset(root, EXPRESSIONS_7, store, numbers, self.classes, group_codes(characters))


def _base(root: Path) -> Path:
    """The folder with the characters: `root`, or the only folder in it that has them."""
    having = [folder for folder in list_folders(root) if _characters(folder)]
    if _characters(root) or not having:
        return root
    if len(having) > 1:
        raise EdgefelError(
            f"{root}: both {having[0]} and {having[1]} have FERG-DB's characters; give one of them"
        )
    return having[0]


def _characters(folder: Path) -> list[tuple[str, Path]]:
    found = ((place.name.lower(), place) for place in list_folders(folder))
    return [(name, place) for name, place in found if name in CHARACTERS]


def _expression(folder: Path, character: str) -> int | None:
    who, _, what = folder.name.lower().partition("_")
    return _EXPRESSIONS.index(what) if who == character and what in _EXPRESSIONS else None


def _images(folder: Path, prefix: str) -> list[str]:
    """Names of the images, in the order of their numbers. Raises EdgefelError for other .png files."""
    pattern = re.compile(rf"{prefix}_(\d+)\.png", re.IGNORECASE)
    numbered = []
    for name in list_names(folder, ".png"):
        match = pattern.fullmatch(name)
        if match is None:
            raise EdgefelError(
                f"{folder / name}: not a name of this folder's, such as {prefix}_1.png; move or remove the file"
            )
        numbered.append((int(match[1]), name))
    return [name for _, name in sorted(numbered)]
