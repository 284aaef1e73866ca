"""Reads FER+: the faces of FER-2013 with ten people's votes."""

from __future__ import annotations

import codecs
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgefel.data.dataset import FileStore, ImageDataset, ImageStore, SampleTable
from edgefel.data.labels import FER_PLUS, expression_labels, match_labels
from edgefel.data.readers.base import to_canonical
from edgefel.data.readers.search import find_file, find_folders, list_names, read_rows
from edgefel.data.votes import LABELS_CSV, VOTES_CSV, VOTES_FILES, Votes
from edgefel.errors import EdgefelError, EdgefelWarning
from edgefel.files.read import open_regular
from edgefel.text import counted

PIXELS_CSV = "fer2013.csv"
SIDE = 48
_SPLITS = {"training": "train", "publictest": "val", "privatetest": "test"}
_FOLDERS = {"train": "FER2013Train", "val": "FER2013Valid", "test": "FER2013Test"}
# of the makers' files; contempt is the last one
CLASSES = FER_PLUS
_NO_EXPRESSION = ("unknown", "nf")
# what may stand around a field of a CSV file
_AROUND = b' "\r\n'
# the repository of the votes keeps the folders in data/, and an archive of it has a folder of its own
_DEPTH = 3


class PixelRows:
    """The images of `fer2013.csv`, which holds their pixels as text: each is read from its place when asked for.

    path: of the CSV file. starts, lengths int64 [N]: each image's text, in bytes. names: of the images.
    """

    def __init__(
        self, path: Path, starts: NDArray[np.int64], lengths: NDArray[np.int64], names: list[str]
    ) -> None:
        self._path, self._starts, self._lengths, self._names = path, starts, lengths, names

    def path(self, index: int) -> Path:
        """Of the CSV file, with the image's name behind it."""
        return self._path / self._names[index]

    def read(self, index: int) -> bytes:
        """The image as binary PGM, 48x48, 8 bits. Raises OSError, also where the text is not its pixels."""
        with self._path.open("rb") as stream:
            stream.seek(int(self._starts[index]))
            text = stream.read(int(self._lengths[index]))
        try:
            pixels = bytes(map(int, text.split()))  # refuses what is not 0 to 255
        except ValueError:
            raise OSError("its pixels are not numbers from 0 to 255") from None
        if len(pixels) != SIDE * SIDE:
            raise OSError(f"{counted(len(pixels), 'pixel')}, not {SIDE} x {SIDE}")
        return b"P5 %d %d 255\n" % (SIDE, SIDE) + pixels


class FerPlus:
    """`fer2013new.csv`, the votes, with the images in `fer2013.csv` or in FER2013Train, FER2013Valid, FER2013Test.

    The two CSV files have the same rows in the same order. The folders are what `generate_training_data.py` of the
    set's makers writes: PNG files, and a `label.csv` in each. In the set as published the votes of the two differ.
    votes: whose are taken; None takes `fer2013new.csv`, to which the published counts refer, and where that is missing
    `label.csv`, with a warning. Another warning counts where the two disagree. Training, PublicTest and PrivateTest are
    train, val and test; an image is a group of its own.

    The label is the majority's by the rule of the makers' `ferplus.py`: an expression with a single vote has none; then
    one has the majority with more than half of the votes that are left, those for "unknown" and "not a face" (NF)
    included. An image without a majority, or whose majority is for one of these two, is left out, as is one without a
    name. The soft label is the share of the votes that are left for each of the expressions. num_classes: 8, or 7,
    which leaves out the images of contempt, and the votes for it of the others.

    Barsoum, Zhang, Canton Ferrer and Zhang, "Training Deep Networks for Facial Expression Recognition with
    Crowd-Sourced Label Distribution", ICMI 2016 (arXiv 1608.01041); https://github.com/microsoft/FERPlus.
    """

    def __init__(self, num_classes: int = 8, votes: str | None = None) -> None:
        """Raises EdgefelError for a number other than 7 or 8, and for an unknown file of votes."""
        if votes is not None and votes not in VOTES_FILES:
            raise EdgefelError(f"votes {votes!r}: choose one of {', '.join(VOTES_FILES)}")
        self.labels = expression_labels(num_classes)
        self.votes = votes
        # contempt is the last one
        self.classes = CLASSES[:num_classes]
        self.name = "fer-plus" if num_classes == 8 else f"fer-plus-{num_classes}"
        without = "" if num_classes == 8 else ", without contempt"
        self.title = f"FER+: FER-2013 with ten votes for each face{without} (Barsoum et al., ICMI 2016)"

    def with_votes(self, votes: str) -> FerPlus:
        """The same classes by a given file of votes; raises EdgefelError for an unknown one."""
        return FerPlus(len(self.classes), votes)

    def recognizes(self, root: Path) -> bool:
        """Whether there is `fer2013new.csv`, or one of the three folders with a `label.csv`."""
        if find_file(root, VOTES_CSV, _DEPTH) is not None:
            return True
        return _has_label_files(_image_folders(root))

    def read(self, root: Path) -> ImageDataset:
        """Raises EdgefelError where votes or images are missing, malformed, or do not belong together."""
        votes_csv = find_file(root, VOTES_CSV, _DEPTH)
        folders = _image_folders(root)
        file = self._chosen(root, votes_csv, folders)
        rows = _read_file(file, votes_csv, folders)
        store = _store(root, file, votes_csv, folders, rows)
        label, soft, clear = _majority(rows.votes)
        named = np.array([bool(name) for name in rows.names])
        chosen = np.flatnonzero(clear & named & (label < len(self.classes)))
        if not chosen.size:
            raise EdgefelError(f"{root}: no image whose votes have a majority; get the set again")
        votes = _compared(f"{self.name}:{file}", file, rows, root, votes_csv, folders)
        if votes.disagreement is not None:
            warnings.warn(f"{root}: {votes.disagreement}", EdgefelWarning, stacklevel=2)
        canonical = to_canonical(label[chosen], self.classes, self.labels, str(votes_csv or root))
        columns = list(match_labels(self.classes, self.labels).columns)
        kept = soft[chosen][:, columns]
        if len(columns) < len(CLASSES):  # the majority is for one of these, so that their sum is not 0
            kept /= kept.sum(axis=1, keepdims=True)
        table = SampleTable(
            store,
            canonical,
            np.arange(chosen.size),
            [rows.names[row] for row in chosen],
            [rows.splits[row] for row in chosen],
            soft=np.ascontiguousarray(kept),
            rows=chosen,
        )
        return ImageDataset(root, self.labels, table, votes=votes)

    def _chosen(self, root: Path, votes_csv: Path | None, folders: dict[str, Path]) -> str:
        """The file of votes that is read; a warning where that is not what was published."""
        there = {VOTES_CSV: votes_csv is not None, LABELS_CSV: _has_label_files(folders)}
        if self.votes is not None and not there[self.votes]:
            other = next((f"; give --votes {name}" for name in VOTES_FILES if there[name]), "")
            raise EdgefelError(f"{root}: no {self.votes} of FER+ in it{other or '; is it FER+?'}")
        if self.votes is not None:
            return self.votes
        if there[VOTES_CSV]:
            return VOTES_CSV
        if not there[LABELS_CSV]:
            raise EdgefelError(
                f"{root}: no {VOTES_CSV}; take it from https://github.com/microsoft/FERPlus and put it beside "
                f"{PIXELS_CSV}"
            )
        warnings.warn(
            f"{root}: labels are those of {LABELS_CSV}, as there is no {VOTES_CSV}; the published counts are of that "
            "one, and the two differ (https://github.com/microsoft/FERPlus has it)",
            EdgefelWarning,
            stacklevel=3,
        )
        return LABELS_CSV


@dataclass(frozen=True)
class _Rows:
    """Rows of the list: name ("" for what is no face), split, and votes int64 [N, 10] for the classes, unknown, NF."""

    names: list[str]
    splits: list[str]
    votes: NDArray[np.int64]


def _majority(
    votes: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.bool_]]:
    """The class with the majority [N], the distribution [N, 8], and whether an expression has the majority [N]."""
    kept = np.where(votes > 1, votes, 0)
    label = kept.argmax(axis=1)
    count = len(CLASSES)
    clear = (2 * kept.max(axis=1) > kept.sum(axis=1)) & (label < count)
    expressions = kept[:, :count]
    soft = expressions / np.maximum(expressions.sum(axis=1, keepdims=True), 1)
    return label, soft.astype(np.float32), clear


def _has_label_files(folders: dict[str, Path]) -> bool:
    return any(find_file(folder, LABELS_CSV, 0) for folder in folders.values())


def _read_file(file: str, votes_csv: Path | None, folders: dict[str, Path]) -> _Rows:
    """The rows of one of VOTES_FILES, which is there."""
    return _read_votes(votes_csv) if file == VOTES_CSV and votes_csv else _read_label_files(folders)


def _store(
    root: Path, file: str, votes_csv: Path | None, folders: dict[str, Path], rows: _Rows
) -> ImageStore:
    """Where the images of the rows lie. `fer2013.csv` goes with `fer2013new.csv` alone, row by row."""
    pixels_csv = find_file(root, PIXELS_CSV, _DEPTH)
    if file == VOTES_CSV and votes_csv and pixels_csv:
        return _pixel_rows(pixels_csv, rows, votes_csv)
    return _image_files(root, folders, rows)


def _compared(
    layout: str, file: str, rows: _Rows, root: Path, votes_csv: Path | None, folders: dict[str, Path]
) -> Votes:
    """How the rows that are taken differ from those of the other file of votes, image by image."""
    other = LABELS_CSV if file == VOTES_CSV else VOTES_CSV
    if not (_has_label_files(folders) if other == LABELS_CSV else votes_csv):
        return Votes(layout, file)
    # folders without a list have nothing to compare
    listed = {split: folder for split, folder in folders.items() if find_file(folder, LABELS_CSV, 0)}
    try:
        others = _read_file(other, votes_csv, listed)
    except EdgefelError as error:
        warnings.warn(
            f"{root}: {file} cannot be compared with {other} ({error})", EdgefelWarning, stacklevel=3
        )
        return Votes(layout, file)
    # of a name that is listed twice, as a few are, the last row
    places = {name: row for row, name in enumerate(others.names) if name}
    owns = {name: row for row, name in enumerate(rows.names)}
    pairs = [(row, places[name]) for name, row in owns.items() if name in places]
    own, its = np.array(pairs, np.int64).reshape(-1, 2).T
    label, _, clear = _majority(rows.votes)
    label_there, _, clear_there = _majority(others.votes)
    return Votes(
        layout,
        file,
        other,
        compared=len(pairs),
        votes_differ=int((rows.votes[own] != others.votes[its]).any(axis=1).sum()),
        class_differs=int((clear[own] & clear_there[its] & (label[own] != label_there[its])).sum()),
    )


def _read_votes(path: Path) -> _Rows:
    """The rows of `fer2013new.csv`."""
    table = read_rows(path)
    header = [field.strip().lower() for field in table[0]] if table else []
    columns = ("usage", "image name", *CLASSES, *_NO_EXPRESSION)
    missing = [column for column in columns if column not in header]
    if missing:
        raise EdgefelError(
            f"{path} line 1: no column {missing[0]!r}; take the file from https://github.com/microsoft/FERPlus"
        )
    usage, name, *places = (header.index(column) for column in columns)
    names, splits, votes = [], [], []
    for line, row in enumerate(table[1:], start=2):
        where = f"{path} line {line}"
        if len(row) != len(header):
            raise EdgefelError(f"{where}: {len(row)} fields, not {len(header)}; take the file again")
        names.append(row[name].strip())
        splits.append(_split(row[usage], where))
        votes.append(_votes([row[place] for place in places], where))
    return _rows(names, splits, votes, path)


def _read_label_files(folders: dict[str, Path]) -> _Rows:
    """The rows of each `label.csv`: name, ten votes; an older script puts a box behind the name."""
    names, splits, votes = [], [], []
    for split, folder in folders.items():
        path = find_file(folder, LABELS_CSV, 0)
        if path is None:
            raise EdgefelError(
                f"{folder}: no {LABELS_CSV}; put {VOTES_CSV} beside the folder, or make it again"
            )
        for line, row in enumerate(read_rows(path), start=1):
            where = f"{path} line {line}"
            if len(row) not in (11, 12) or not row[0].strip():
                raise EdgefelError(f"{where}: not a name and ten votes; make it again or take the file again")
            names.append(row[0].strip())
            splits.append(split)
            votes.append(_votes(row[-10:], where))
    return _rows(names, splits, votes, next(iter(folders.values())))


def _rows(names: list[str], splits: list[str], votes: list[list[int]], path: Path) -> _Rows:
    if not names:
        raise EdgefelError(f"{path}: lists no images; take the file again")
    return _Rows(names, splits, np.array(votes, np.int64))


def _split(usage: str, where: str) -> str:
    split = _SPLITS.get(usage.strip().lower())
    if split is None:
        raise EdgefelError(
            f"{where}: usage {usage.strip()[:40]!r} is unknown; it is Training, PublicTest or PrivateTest"
        )
    return split


def _votes(fields: list[str], where: str) -> list[int]:
    try:
        votes = [int(field) for field in fields]
    except ValueError:
        votes = [-1]
    if not all(0 <= vote <= 1000 for vote in votes):
        raise EdgefelError(
            f"{where}: votes {','.join(fields)[:60]!r} are not ten numbers; take the file again"
        )
    return votes


def _image_folders(root: Path) -> dict[str, Path]:
    """The folder of images of each split that has one."""
    found = {split: find_folders(root, (name,), _DEPTH) for split, name in _FOLDERS.items()}
    return {split: folders[0] for split, folders in found.items() if folders}


def _image_files(root: Path, folders: dict[str, Path], rows: _Rows) -> FileStore:
    for split in dict.fromkeys(rows.splits):
        folder = folders.get(split)
        if folder is None or not any(name.lower().endswith(".png") for name in list_names(folder)):
            raise EdgefelError(
                f"{folder or root / _FOLDERS[split]}: no images; put {PIXELS_CSV} of FER-2013 beside {VOTES_CSV}, or "
                "write them with generate_training_data.py of https://github.com/microsoft/FERPlus"
            )
    homes = {split: folder.relative_to(root).as_posix() for split, folder in folders.items()}
    names = [f"{homes[split]}/{name}" for split, name in zip(rows.splits, rows.names, strict=True)]
    return FileStore(root, names)


def _pixel_rows(path: Path, rows: _Rows, votes_csv: Path) -> PixelRows:
    """The images of `fer2013.csv`, after a check that its rows are those of the votes."""
    starts: list[int] = []
    lengths: list[int] = []
    for line, start, length, split in _pixel_places(path):
        row = len(starts)
        if row < len(rows.splits) and split != rows.splits[row]:
            raise EdgefelError(
                f"{path} line {line}: an image of {split}, but in {votes_csv} it is one of {rows.splits[row]}; the "
                "two files must have the same order, get both again"
            )
        starts.append(start)
        lengths.append(length)
    if len(starts) != len(rows.splits):
        raise EdgefelError(
            f"{path}: {counted(len(starts), 'image')}, but {votes_csv} has votes for {len(rows.splits)}; "
            "get both again"
        )
    return PixelRows(path, np.array(starts, np.int64), np.array(lengths, np.int64), rows.names)


def _pixel_places(path: Path) -> Iterator[tuple[int, int, int, str]]:
    """Line, start and length of the pixels in bytes, and split, of each image.

    The file has 300 MB, so it is gone through line by line, and the pixels are not turned into numbers here.
    """
    try:
        stream = os.fdopen(open_regular(path), "rb")
    except OSError as error:
        raise EdgefelError(f"{path}: cannot be read ({error.strerror}); check its permissions") from None
    with stream:
        header = stream.readline()
        columns = [name.strip(_AROUND).lower() for name in header.removeprefix(codecs.BOM_UTF8).split(b",")]
        if not {b"pixels", b"usage"} <= set(columns):
            raise EdgefelError(f"{path} line 1: no columns pixels and Usage; get FER-2013 again")
        pixels, usage = columns.index(b"pixels"), columns.index(b"usage")
        offset = len(header)
        for number, line in enumerate(stream, start=2):
            fields = line.split(b",")
            if line.strip():
                field = fields[pixels] if len(fields) == len(columns) else b""
                text = field.strip(_AROUND)
                if text.count(b" ") != SIDE * SIDE - 1:
                    raise EdgefelError(
                        f"{path} line {number}: not an image of {SIDE} x {SIDE} pixels; get FER-2013 again"
                    )
                split = _split(
                    fields[usage].strip(_AROUND).decode("utf-8", "replace"), f"{path} line {number}"
                )
                before = sum(len(other) + 1 for other in fields[:pixels]) + field.index(text[:1])
                yield number, offset + before, len(text), split
            offset += len(line)
