"""AffectNet: lists in CSV files, or one small NumPy file for each image."""

from __future__ import annotations

import csv
import os
import re
from array import array
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path

import numpy as np

from edgefel.data.dataset import Box, FileStore, ImageDataset
from edgefel.data.labels import EXPRESSIONS_8, expression_labels
from edgefel.data.readers.base import numbered_dataset, own_groups, require_columns
from edgefel.data.readers.search import descend, find, first_entries, list_names
from edgefel.errors import EdgefelError
from edgefel.files.read import open_regular, open_text, reading

# EXPRESSIONS_8 are the set's own numbers; 8 none, 9 uncertain and 10 no face are no expressions
_LAST_NUMBER = 10
_NUMBERS = {str(number): number for number in range(_LAST_NUMBER + 1)}

_LISTS = {"train": "training.csv", "val": "validation.csv"}
_LIST_FOLDER = "Manually_Annotated_file_lists"
_IMAGE_FOLDER = "Manually_Annotated_Images"
_PATH, _EXPRESSION = "subdirectory_filepath", "expression"
_BOX = ("face_x", "face_y", "face_width", "face_height")
# in lower case, as they are compared
_COLUMNS = (_PATH, *_BOX, "facial_landmarks", _EXPRESSION, "valence", "arousal")

_FOLDERS = {"train": "train_set", "val": "val_set"}
_EXP = "_exp.npy"
_EXP_BYTES = 4096  # one number with its header has less than 150
# format 1.0 (numpy.org/doc/stable/reference/generated/numpy.lib.format.html), one number or text of any shape
_NPY_HEADER = re.compile(
    rb"\x93NUMPY\x01\x00[\x00-\xff]{2}"
    rb"\{'descr': '([<>|](?:[iu][1248]|f[248]|[SU][1-9]\d?))', "
    rb"'fortran_order': (?:True|False), 'shape': \((?:1,(?: ?1,)*(?: ?1)?)?\),? *\} *\n?"
)

# the box of an image without one: boxes are clipped to their image
_WHOLE: Box = (0, 0, 1 << 30, 1 << 30)


_Row = tuple[str, int, Box]  # name of the image, class number, box


class AffectNet:
    """AffectNet, manually annotated: about 288,000 images of 8 expressions, and 4,000 for validation.

    Mollahosseini, Hasani and Mahoor, "AffectNet: A Database for Facial Expression, Valence, and Arousal Computing in
    the Wild", IEEE Transactions on Affective Computing 2019, arXiv 1708.03985; http://mohammadmahoor.com/affectnet.
    num_classes: 8, or 7 without contempt. Images of "none", "uncertain" and "no face" are left out.

    Two layouts were published, and both are read:

    - `Manually_Annotated_file_lists/training.csv` and `validation.csv` (which has no line of column names), with the
      images in `Manually_Annotated_Images` or beside the lists. Faces are cut by the columns face_x, face_y,
      face_width and face_height; an image without a box there (NULL, or no width) is read whole, as all are where the
      list has no such columns. The automatically annotated images are not read.
    - `train_set` and `val_set`, each with `images/123.jpg` and `annotations/123_exp.npy`; these images are faces.
      One of the two is enough. An image without an annotation is left out.

    The published validation set is the split "val". No test set is available, and papers report accuracy on this one,
    so the accuracy of a network that was chosen by it is biased upwards. Subjects are not known: every image is a
    group of its own.
    """

    def __init__(self, num_classes: int = 8) -> None:
        """Raises EdgefelError for a number other than 7 or 8."""
        self.classes = expression_labels(num_classes)
        self.name = "affectnet" if num_classes == 8 else f"affectnet-{num_classes}"
        without = "" if num_classes == 8 else ", without contempt"
        self.title = f"AffectNet, {num_classes} expressions{without} (Mollahosseini et al., arXiv 1708.03985)"

    def recognizes(self, root: Path) -> bool:
        """Whether a list with AffectNet's columns exists, or a `train_set` or `val_set` with `*_exp.npy`."""
        return _list_folder(root) is not None or any(
            _has_annotations(descend(folder, "annotations")) for folder in _set_folders(root).values()
        )

    def read(self, root: Path) -> ImageDataset:
        """Raises EdgefelError for missing lists or folders, malformed rows or annotations, and unknown classes."""
        lists, sets, count = _list_folder(root), _set_folders(root), len(self.classes)
        if lists is not None:
            files = {split: descend(lists, name) or lists / name for split, name in _LISTS.items()}
            found = {split: _listed(file, count) for split, file in files.items()}
        elif sets:
            found = {split: _annotated(root, folder, count) for split, folder in sets.items()}
        else:
            raise EdgefelError(
                f"{root}: no {_LIST_FOLDER}/{_LISTS['train']} with AffectNet's columns, and no train_set or val_set; "
                "give the folder that AffectNet was unpacked into"
            )
        names, splits = list[str](), list[str]()
        numbers, boxes = array("b"), array("i")
        for split, rows in found.items():
            for name, number, place in rows:
                names.append(name)
                numbers.append(number)
                splits.append(split)
                boxes.extend(place)
        store = FileStore(root if lists is None else _image_folder(lists, names), names)
        if not names:
            raise EdgefelError(f"{root}: no image of {', '.join(self.classes)}; unpack AffectNet again")
        found_boxes = np.array(boxes, np.int32).reshape(-1, 4)
        box = None if (found_boxes == _WHOLE).all() else found_boxes
        groups = own_groups(names)
        return numbered_dataset(root, self.classes, store, numbers, self.classes, groups, splits, box=box)


def _listed(file: Path, classes: int) -> Iterator[_Row]:
    """The rows of a list whose number is below `classes`; names are relative to the images' folder."""
    if not file.exists():
        raise EdgefelError(f"{file}: no such file; unpack both lists of AffectNet")
    try:
        with open_text(file) as stream:
            first = next(stream, "")
            columns, has_names = _columns(_fields(first), file)
            path, expression = columns[_PATH], columns[_EXPRESSION]
            box = [columns[name] for name in _BOX if name in columns]
            least = max(path, expression, *box, 0) + 1
            # a line holds 1 kB of landmarks: half a million lines are streamed, not kept
            lines = enumerate(chain([first], stream), start=1)
            for n, line in islice(lines, int(has_names), None):
                row, where = _fields(line), f"{file} line {n}"
                if len(row) < least or not row[path] or row[path].startswith("/"):
                    if not line.strip():
                        continue
                    raise EdgefelError(
                        f"{where}: names no image, or has less than {least} columns; "
                        "correct the line or unpack the file again"
                    )
                number = _number(row[expression], where)
                if number < classes:
                    place = _box([row[column] for column in box], where) if box else _WHOLE
                    yield row[path].replace("\\", "/"), number, place
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise EdgefelError(f"{file}: cannot be read as a UTF-8 CSV file ({error}); unpack it again") from None


def _annotated(root: Path, folder: Path, classes: int) -> Iterator[_Row]:
    """The images of a set whose number is below `classes`; names are relative to `root`."""
    annotations, images = (_part(folder, part) for part in ("annotations", "images"))
    files = {name.rpartition(".")[0]: name for name in list_names(images)}
    prefix = images.relative_to(root).as_posix()
    known: dict[bytes, int] = {}
    for name in list_names(annotations):
        if name.endswith(_EXP):
            number = _annotation(f"{annotations}/{name}", known)
            if number < classes:
                stem = name[: -len(_EXP)]
                yield f"{prefix}/{files.get(stem, stem + '.jpg')}", number, _WHOLE


def _list_folder(root: Path) -> Path | None:
    """The folder of a list in AffectNet's format, or None."""
    for name in _LISTS.values():
        for file in (find(root, _LIST_FOLDER, name), find(root, name)):
            if file is not None and _is_list(file):
                return file.parent
    return None


def _is_list(file: Path) -> bool:
    """Whether the first line has AffectNet's columns: other sets have a training.csv too."""
    try:
        with open_text(file) as stream:
            _columns(_fields(stream.readline(1 << 16)), file)
    except (OSError, UnicodeDecodeError, csv.Error, EdgefelError):
        return False
    return True


def _fields(line: str) -> list[str]:
    # the published lists have no quotes, and Python's CSV reader is several times slower; saved again they may have
    if '"' in line:
        return next(csv.reader([line]), [])
    return line.rstrip("\r\n").split(",")


def _columns(first: list[str], file: Path) -> tuple[dict[str, int], bool]:
    """The number of each column by its name in lower case, and whether the first line names them."""
    names = [name.strip().lower() for name in first]
    if _PATH not in names:
        # the published validation.csv begins with an image
        if len(names) == len(_COLUMNS) and "/" in names[0] and names[6] in _NUMBERS:
            return {name: column for column, name in enumerate(_COLUMNS)}, False
        raise EdgefelError(
            f"{file} line 1: neither names the columns nor is an image in AffectNet's {len(_COLUMNS)} columns; "
            "the first line must name subDirectory_filePath and expression"
        )
    boxed = [name for name in _BOX if name in names]
    require_columns(f"{file} line 1", names, (_EXPRESSION, *(_BOX if boxed else ())), "unpack the file again")
    return {name: column for column, name in enumerate(names)}, True


def _number(text: str, where: str) -> int:
    """The class number that `text` is, which may be written as 3.0."""
    text = text.strip()
    number = _NUMBERS.get(text.removesuffix(".0"))
    if number is None:
        raise EdgefelError(
            f"{where}: expression {text[:40]!r} is unknown; AffectNet's are 0 to {_LAST_NUMBER}: "
            f"{', '.join((*EXPRESSIONS_8, 'none', 'uncertain', 'no face'))}; correct it or unpack the file again"
        )
    return number


def _box(texts: list[str], where: str) -> Box:
    """(x, y, width, height) in pixels, or _WHOLE where there is none."""
    if any(text.strip().upper() in ("", "NULL") for text in texts):
        return _WHOLE
    try:
        x, y, width, height = (round(float(text)) for text in texts)
    except (ValueError, OverflowError):
        x = y = width = height = 1 << 30
    if max(abs(x), abs(y), abs(width), abs(height)) >= 1 << 20:
        raise EdgefelError(
            f"{where}: the box {','.join(texts)[:60]!r} is not x, y, width and height in pixels; "
            "correct the line or unpack the file again"
        )
    return (x, y, width, height) if width > 0 and height > 0 else _WHOLE


def _image_folder(lists: Path, names: list[str]) -> Path:
    """The folder that the names of the lists are relative to."""
    base = lists
    while base.name.lower() == _LIST_FOLDER.lower():
        base = base.parent
    # a list's own folder comes before folders one level deeper
    for folder in (descend(base, _IMAGE_FOLDER), find(base, _IMAGE_FOLDER), base):
        if folder is not None and (not names or (folder / names[0]).parent.is_dir()):
            return folder
    raise EdgefelError(
        f"{base}: no folder {_IMAGE_FOLDER} that has {Path(names[0]).parent.as_posix()}/, the folder of the first "
        "listed image; unpack the images there"
    )


def _set_folders(root: Path) -> dict[str, Path]:
    """The existing folders of this layout by split."""
    found = {split: find(root, name) for split, name in _FOLDERS.items()}
    return {split: folder for split, folder in found.items() if folder is not None and folder.is_dir()}


def _part(folder: Path, name: str) -> Path:
    part = descend(folder, name)
    if part is None or not part.is_dir():
        raise EdgefelError(f"{folder / name}: no such folder; unpack {folder.name} again")
    return part


def _has_annotations(folder: Path | None) -> bool:
    # each image has four annotations: the first hundred entries suffice
    return folder is not None and any(entry.name.endswith(_EXP) for entry in first_entries(folder, 100))


def _annotation(path: str, known: dict[bytes, int]) -> int:
    """The class number in a `*_exp.npy`.

    known: cache of numbers by file content; a hundred thousand files have about a dozen different contents.
    """
    with reading(path), os.fdopen(open_regular(path), "rb") as stream:
        content = stream.read(_EXP_BYTES)
    number = known.get(content)
    if number is None:
        number = known[content] = _number(_scalar(content, path), path)
    return number


def _scalar(content: bytes, path: str) -> str:
    """The single value of a NumPy file, as text.

    NumPy's own reader evaluates the header as Python and raises a dozen kinds of exceptions for a broken one, while
    the bytes that `numpy.save` writes for one number are known exactly. Nothing is unpickled.
    """
    start = 10 + int.from_bytes(content[8:10], "little")
    header = _NPY_HEADER.fullmatch(content, 0, start)
    dtype = None if header is None else np.dtype(header[1].decode("ascii"))
    raw = content[start:]
    if dtype is None or len(raw) != dtype.itemsize:
        raise EdgefelError(f"{path}: is not a NumPy file with one number or text; unpack it again")
    if dtype.kind == "U":  # NumPy does not check that these are characters
        order = "be" if dtype.str.startswith(">") else "le"
        return raw.decode(f"utf-32-{order}", "replace").rstrip("\0")
    value = np.frombuffer(raw, dtype).item()
    return value.decode("ascii", "replace") if isinstance(value, bytes) else str(value)
