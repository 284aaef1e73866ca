"""Reads AffectNet, with its lists as CSV files or with one small NumPy file for each image."""

from __future__ import annotations

import csv
import itertools
import os
import re
from array import array
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

import numpy as np
from numpy.typing import NDArray

from edgefel.data.dataset import Box, ImageDataset, SampleTable
from edgefel.data.labels import expression_labels
from edgefel.data.readers.base import FileStore, to_canonical
from edgefel.data.readers.search import descend, find, list_names
from edgefel.errors import EdgefelError
from edgefel.files.read import open_regular, open_text

# by the set's own numbers; 8 none, 9 uncertain and 10 no face are no expressions
CLASSES = ("neutral", "happiness", "sadness", "surprise", "fear", "disgust", "anger", "contempt")
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

# of an image without a box: a box is cut off at the edges of its image
_WHOLE: Box = (0, 0, 1 << 30, 1 << 30)


@dataclass
class _Rows:
    """What is listed of both splits; names are relative to the images' folder."""

    names: list[str] = field(default_factory=list)
    numbers: array[int] = field(default_factory=lambda: array("b"))
    splits: list[str] = field(default_factory=list)
    boxes: array[int] = field(default_factory=lambda: array("i"))


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

    The published validation set is the split "val". A test set is not available, and papers report accuracy on
    this one, so a network that is chosen by it is flattered by it. Subjects are not known: every image is a group of
    its own.
    """

    def __init__(self, num_classes: int = 8) -> None:
        """Raises EdgefelError for a number other than 7 or 8."""
        self.labels = expression_labels(num_classes)
        # contempt is the last one
        self.classes = CLASSES[:num_classes]
        self.name = "affectnet" if num_classes == 8 else f"affectnet-{num_classes}"
        without = "" if num_classes == 8 else ", without contempt"
        self.title = f"AffectNet, {num_classes} expressions{without} (Mollahosseini et al., arXiv 1708.03985)"

    def recognizes(self, root: Path) -> bool:
        """Whether there is a list with AffectNet's columns, or a `train_set` or `val_set` with `*_exp.npy`."""
        return _list_folder(root) is not None or any(
            _has_annotations(descend(folder, "annotations")) for folder in _set_folders(root).values()
        )

    def read(self, root: Path) -> ImageDataset:
        """Raises EdgefelError for missing lists or folders, malformed rows or annotations, and unknown classes."""
        lists, sets = _list_folder(root), _set_folders(root)
        if lists is not None:
            store, rows = self._read_lists(lists)
        elif sets:
            store, rows = self._read_sets(root, sets)
        else:
            raise EdgefelError(
                f"{root}: no {_LIST_FOLDER}/{_LISTS['train']} with AffectNet's columns, and no train_set or val_set; "
                "give the folder that AffectNet was unpacked into"
            )
        if not rows.names:
            raise EdgefelError(f"{root}: no image of {', '.join(self.classes)}; unpack AffectNet again")
        label = to_canonical(np.array(rows.numbers), self.classes, self.labels, str(root))
        table = SampleTable(
            store, label, np.arange(len(rows.names)), rows.names, rows.splits, box=_box_column(rows)
        )
        return ImageDataset(root, self.labels, table)

    def _read_lists(self, folder: Path) -> tuple[FileStore, _Rows]:
        rows = _Rows()
        for split, name in _LISTS.items():
            file = descend(folder, name)
            if file is None:
                raise EdgefelError(f"{folder / name}: no such file; unpack both lists of AffectNet")
            self._read_list(file, split, rows)
        return FileStore(_image_folder(folder, rows.names), rows.names), rows

    def _read_list(self, file: Path, split: str, rows: _Rows) -> None:
        try:
            with open_text(file) as stream:
                self._read_rows(file, stream, rows)
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise EdgefelError(
                f"{file}: cannot be read as a UTF-8 CSV file ({error}); unpack it again"
            ) from None
        rows.splits += [split] * (len(rows.names) - len(rows.splits))

    def _read_rows(self, file: Path, stream: TextIO, rows: _Rows) -> None:
        lines = enumerate(stream, start=1)
        first = _fields(next(lines, (1, ""))[1])
        columns, has_names = _columns(first, file)
        path, expression = columns[_PATH], columns[_EXPRESSION]
        box = [columns[name] for name in _BOX if name in columns]
        least = max(path, expression, *box, 0) + 1
        if not has_names:
            stream.seek(0)
            lines = enumerate(stream, start=1)
        # a line holds 1 kB of landmarks: half a million are streamed, not kept
        for n, line in lines:
            row = _fields(line)
            if len(row) < least or not row[path] or row[path].startswith("/"):
                if not line.strip():
                    continue
                raise EdgefelError(
                    f"{file} line {n}: names no image, or has less than {least} columns; "
                    "correct the line or unpack the file again"
                )
            number = _NUMBERS.get(row[expression])
            if number is None:
                number = _number(row[expression], f"{file} line {n}")
            if number >= len(self.classes):
                continue
            rows.names.append(row[path].replace("\\", "/"))
            rows.numbers.append(number)
            rows.boxes.extend(_box([row[column] for column in box], (file, n)) if box else _WHOLE)

    def _read_sets(self, root: Path, folders: dict[str, Path]) -> tuple[FileStore, _Rows]:
        rows = _Rows()
        known: dict[bytes, int] = {}
        for split, folder in folders.items():
            annotations, images = (_part(folder, part) for part in ("annotations", "images"))
            files = {name.rpartition(".")[0]: name for name in list_names(images)}
            prefix = images.relative_to(root).as_posix()
            for name in list_names(annotations):
                if not name.endswith(_EXP):
                    continue
                number = _annotation(f"{annotations}/{name}", known)
                if number < len(self.classes):
                    stem = name[: -len(_EXP)]
                    rows.names.append(f"{prefix}/{files.get(stem, stem + '.jpg')}")
                    rows.numbers.append(number)
            rows.splits += [split] * (len(rows.names) - len(rows.splits))
        return FileStore(root, rows.names), rows


def _list_folder(root: Path) -> Path | None:
    """The folder of a list that begins as AffectNet's do, or None."""
    for name in _LISTS.values():
        for file in (find(root, _LIST_FOLDER, name), find(root, name)):
            if file is not None and _is_list(file):
                return file.parent
    return None


def _is_list(file: Path) -> bool:
    """Whether a file begins as a list of AffectNet does: others are called training.csv too."""
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
    missing = [name for name in (_EXPRESSION, *(_BOX if boxed else ())) if name not in names]
    if missing:
        raise EdgefelError(
            f"{file} line 1: missing column{'s' * (len(missing) > 1)} {', '.join(missing)}; unpack the file again"
        )
    return {name: column for column, name in enumerate(names)}, True


def _number(text: str, where: str) -> int:
    """The class number that `text` is, which may be written as 3.0."""
    text = text.strip()
    number = _NUMBERS.get(text.removesuffix(".0"))
    if number is None:
        raise EdgefelError(
            f"{where}: expression {text[:40]!r} is unknown; AffectNet's are 0 to {_LAST_NUMBER}: "
            f"{', '.join((*CLASSES, 'none', 'uncertain', 'no face'))}; correct it or unpack the file again"
        )
    return number


def _box(texts: list[str], where: tuple[Path, int]) -> Box:
    """(x, y, width, height) in pixels, or _WHOLE where there is none."""
    if any(text.strip().upper() in ("", "NULL") for text in texts):
        return _WHOLE
    try:
        x, y, width, height = map(int, texts)
    except ValueError:
        try:
            x, y, width, height = (round(float(text)) for text in texts)
        except (ValueError, OverflowError):
            x = y = width = height = 1 << 30
    if max(abs(x), abs(y), abs(width), abs(height)) >= 1 << 20:
        raise EdgefelError(
            f"{where[0]} line {where[1]}: the box {','.join(texts)[:60]!r} is not x, y, width and height in pixels; "
            "correct the line or unpack the file again"
        )
    return (x, y, width, height) if width > 0 and height > 0 else _WHOLE


def _box_column(rows: _Rows) -> NDArray[np.int32] | None:
    if not rows.boxes:
        return None
    boxes = np.array(rows.boxes, np.int32).reshape(-1, 4)
    return None if (boxes == _WHOLE).all() else boxes


def _image_folder(lists: Path, names: list[str]) -> Path:
    """The folder that the names of the lists are relative to."""
    base = lists
    while base.name.lower() == _LIST_FOLDER.lower():
        base = base.parent
    # a list's own folder comes before what may lie one level deeper
    for folder in (descend(base, _IMAGE_FOLDER), find(base, _IMAGE_FOLDER), base):
        if folder is not None and (not names or (folder / names[0]).parent.is_dir()):
            return folder
    raise EdgefelError(
        f"{base}: no folder {_IMAGE_FOLDER} that has {Path(names[0]).parent.as_posix()}/, the folder of the first "
        "listed image; unpack the images there"
    )


def _set_folders(root: Path) -> dict[str, Path]:
    """The folders of this layout by split, those that there are."""
    found = {split: find(root, name) for split, name in _FOLDERS.items()}
    return {split: folder for split, folder in found.items() if folder is not None and folder.is_dir()}


def _part(folder: Path, name: str) -> Path:
    part = descend(folder, name)
    if part is None or not part.is_dir():
        raise EdgefelError(f"{folder / name}: no such folder; unpack {folder.name} again")
    return part


def _has_annotations(folder: Path | None) -> bool:
    if folder is None:
        return False
    try:
        with os.scandir(folder) as entries:
            # each image has four annotations, so that the first hundred tell
            return any(entry.name.endswith(_EXP) for entry in itertools.islice(entries, 100))
    except OSError:
        return False


def _annotation(path: str, known: dict[bytes, int]) -> int:
    """The class number in a `*_exp.npy`.

    known: numbers by the bytes of the whole file. A hundred thousand files have about a dozen contents, so that NumPy
    parses a dozen of them.
    """
    try:
        handle = open_regular(path)
        try:
            content = os.read(handle, _EXP_BYTES)
        finally:
            os.close(handle)
    except OSError as error:
        raise EdgefelError(f"{path}: cannot be read ({error.strerror}); unpack it again") from None
    number = known.get(content)
    if number is None:
        number = known[content] = _number(_scalar(content, path), path)
    return number


def _scalar(content: bytes, path: str) -> str:
    """The single value of a NumPy file, as text.

    NumPy's own reader evaluates the header as Python and lets a dozen kinds of exceptions through for a broken one;
    what `numpy.save` writes for one number is known to the letter. Nothing is unpickled.
    """
    start = 10 + int.from_bytes(content[8:10], "little")
    header = _NPY_HEADER.fullmatch(content, 0, start)
    dtype = None if header is None else np.dtype(header[1].decode("ascii"))
    raw = content[start:]
    if dtype is None or len(raw) != dtype.itemsize:
        raise EdgefelError(f"{path}: is not a NumPy file with one number or text; unpack it again")
    if dtype.kind == "U":  # NumPy would not look whether these are characters
        order = "be" if dtype.str.startswith(">") else "le"
        return raw.decode(f"utf-32-{order}", "replace").rstrip("\0")
    value = np.frombuffer(raw, dtype).item()
    return value.decode("ascii", "replace") if isinstance(value, bytes) else str(value)
