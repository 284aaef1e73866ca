"""FER+: the faces of FER-2013 with the votes of ten people."""

from __future__ import annotations

import codecs
import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgefel.data.dataset import FileStore, ImageDataset, ImageStore
from edgefel.data.labels import FER_PLUS, expression_labels, match_labels
from edgefel.data.readers.base import numbered_dataset, own_groups, require_columns
from edgefel.data.readers.search import find_file, find_folders, list_names, read_rows
from edgefel.data.votes import LABELS_CSV, VOTES_CSV, VOTES_FILES, Votes
from edgefel.errors import EdgefelError, EdgefelWarning
from edgefel.files.read import open_regular, reading
from edgefel.text import counted

PIXELS_CSV = "fer2013.csv"
_SOURCE = "https://github.com/microsoft/FERPlus"
SIDE = 48
_SPLITS = {"training": "train", "publictest": "val", "privatetest": "test"}
_FOLDERS = {"train": "FER2013Train", "val": "FER2013Valid", "test": "FER2013Test"}
# behind FER_PLUS in the makers' files
_NO_EXPRESSION = ("unknown", "nf")
# what may stand around a field of a CSV file
_AROUND = b' "\r\n'
# the repository of the votes keeps the folders in data/, and an archive of it has a folder of its own
_DEPTH = 3


class PixelRows:
    """The images of `fer2013.csv`, which holds their pixels as text; each is read when asked for.

    starts, lengths int64 [N]: bytes of each image's text in the file. names: of the images.
    """

    def __init__(
        self, path: Path, starts: NDArray[np.int64], lengths: NDArray[np.int64], names: Sequence[str]
    ) -> None:
        self._path, self._starts, self._lengths, self._names = path, starts, lengths, names

    def path(self, index: int) -> Path:
        """Path of the CSV file, followed by the image's name."""
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
    set's makers writes: PNG files, and a `label.csv` in each. In the published set the votes of the two differ.
    votes: the file to use; None uses `fer2013new.csv`, to which the published counts refer, or where that is missing
    `label.csv`, with a warning. Another warning counts the disagreements. Training, PublicTest and PrivateTest are
    train, val and test; each image is a group of its own.

    The label follows the majority rule of the makers' `ferplus.py`: single votes are dropped, and a class needs more
    than half of the remaining votes, those for "unknown" and "not a face" (NF) included. Images without a majority,
    with a majority for one of these two, or without a name are left out. The soft label is each expression's share of
    the remaining votes for expressions. num_classes: 8, or 7, which leaves out contempt and the votes for it.

    Barsoum, Zhang, Canton Ferrer and Zhang, "Training Deep Networks for Facial Expression Recognition with
    Crowd-Sourced Label Distribution", ICMI 2016 (arXiv 1608.01041); https://github.com/microsoft/FERPlus.
    """

    def __init__(self, num_classes: int = 8, votes: str | None = None) -> None:
        """Raises EdgefelError for a number other than 7 or 8, and for an unknown file of votes."""
        if votes is not None and votes not in VOTES_FILES:
            raise EdgefelError(f"votes {votes!r}: choose one of {', '.join(VOTES_FILES)}")
        self.labels = expression_labels(num_classes)
        self.votes = votes
        self.classes = FER_PLUS[:num_classes]  # contempt is the last one
        self.name = "fer-plus" if num_classes == 8 else f"fer-plus-{num_classes}"
        without = "" if num_classes == 8 else ", without contempt"
        self.title = f"FER+: FER-2013 with ten votes for each face{without} (Barsoum et al., ICMI 2016)"

    def recognizes(self, root: Path) -> bool:
        """Whether `fer2013new.csv` exists, or one of the three folders with a `label.csv`."""
        return any(map(_Files.within(root).has, VOTES_FILES))

    def read(self, root: Path) -> ImageDataset:
        """Raises EdgefelError where votes or images are missing, malformed, or do not belong together."""
        files = _Files.within(root)
        file = self._chosen(files)
        bare = [folder for split, folder in files.folders.items() if split not in files.lists]
        if file == LABELS_CSV and bare:
            raise EdgefelError(f"{bare[0]}: no {LABELS_CSV}; put {VOTES_CSV} beside it, or make it again")
        rows = files.rows(file)
        store = _store(files, file, rows)
        label, soft, clear = _majority(rows.votes)
        named = np.array([bool(name) for name in rows.names])
        chosen = np.flatnonzero(clear & named & (label < len(self.classes)))
        if not chosen.size:
            raise EdgefelError(f"{root}: no image whose votes have a majority; get the set again")
        votes = _compared(f"{self.name}:{file}", file, rows, files)
        if votes.disagreement is not None:
            warnings.warn(f"{root}: {votes.disagreement}", EdgefelWarning, stacklevel=2)
        columns = list(match_labels(self.classes, self.labels).columns)
        kept = soft[chosen][:, columns]
        if len(columns) < len(FER_PLUS):  # the majority is for one of these, so that their sum is not 0
            kept /= kept.sum(axis=1, keepdims=True)
        names, splits = ([column[row] for row in chosen.tolist()] for column in (rows.names, rows.splits))
        numbers, shares = label[chosen], np.ascontiguousarray(kept)
        dataset = numbered_dataset(
            root,
            self.labels,
            store,
            numbers,
            self.classes,
            own_groups(names),
            splits,
            soft=shares,
            rows=chosen,
        )
        return replace(dataset, votes=votes)

    def _chosen(self, files: _Files) -> str:
        """The file of votes to read; warns where it is not the one that the published counts refer to."""
        there = [name for name in VOTES_FILES if files.has(name)]
        if self.votes is not None and self.votes not in there:
            advice = f"give --votes {there[0]}" if there else "is it FER+?"
            raise EdgefelError(f"{files.root}: no {self.votes} of FER+ in it; {advice}")
        if not there:
            raise EdgefelError(
                f"{files.root}: no {VOTES_CSV}; take it from {_SOURCE} and put it beside {PIXELS_CSV}"
            )
        if self.votes is None and there[0] != VOTES_CSV:
            warnings.warn(
                f"{files.root}: labels are those of {LABELS_CSV}, as there is no {VOTES_CSV}; the published counts are "
                f"of that one, and the two differ ({_SOURCE} has it)",
                EdgefelWarning,
                stacklevel=3,
            )
        return self.votes or there[0]


@dataclass(frozen=True)
class _Rows:
    """Names ("" for images that are no faces), splits, and votes int64 [N, 10] for the classes, unknown and NF."""

    names: Sequence[str]
    splits: Sequence[str]
    votes: NDArray[np.int64]


@dataclass(frozen=True)
class _Files:
    """Where the parts of a set are. folders: of images, by split; lists: the `label.csv` of those that have one."""

    root: Path
    votes_csv: Path | None
    folders: dict[str, Path]
    lists: dict[str, Path]

    @classmethod
    def within(cls, root: Path) -> _Files:
        found = {split: find_folders(root, (name,), _DEPTH) for split, name in _FOLDERS.items()}
        folders = {split: places[0] for split, places in found.items() if places}
        lists = {split: find_file(folder, LABELS_CSV, 0) for split, folder in folders.items()}
        known = {split: path for split, path in lists.items() if path is not None}
        return cls(root, find_file(root, VOTES_CSV, _DEPTH), folders, known)

    def has(self, file: str) -> bool:
        """Whether there is this one of VOTES_FILES."""
        return self.votes_csv is not None if file == VOTES_CSV else bool(self.lists)

    def rows(self, file: str) -> _Rows:
        """The rows of one of VOTES_FILES, which must exist."""
        if file == VOTES_CSV and self.votes_csv is not None:
            path, rows = self.votes_csv, list(_read_votes(self.votes_csv))
        else:
            path, rows = next(iter(self.folders.values())), list(_read_label_files(self.lists))
        if not rows:
            raise EdgefelError(f"{path}: lists no images; take the file again")
        names, splits, votes = zip(*rows, strict=True)
        return _Rows(names, splits, np.array(votes, np.int64))


def _majority(votes: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.bool_]]:
    """The class with the majority [N], the distribution [N, 8], and whether an expression has the majority [N]."""
    kept = np.where(votes > 1, votes, 0)
    label = kept.argmax(axis=1)
    count = len(FER_PLUS)
    clear = (2 * kept.max(axis=1) > kept.sum(axis=1)) & (label < count)
    expressions = kept[:, :count]
    soft = expressions / np.maximum(expressions.sum(axis=1, keepdims=True), 1)
    return label, soft.astype(np.float32), clear


def _store(files: _Files, file: str, rows: _Rows) -> ImageStore:
    """The store of the images of the rows; `fer2013.csv` matches only `fer2013new.csv`, row by row."""
    pixels_csv = find_file(files.root, PIXELS_CSV, _DEPTH)
    if file == VOTES_CSV and files.votes_csv and pixels_csv:
        return _pixel_rows(pixels_csv, rows, files.votes_csv)
    for split in dict.fromkeys(rows.splits):
        folder = files.folders.get(split)
        if folder is None or not list_names(folder, ".png"):
            raise EdgefelError(
                f"{folder or files.root / _FOLDERS[split]}: no images; put {PIXELS_CSV} of FER-2013 beside "
                f"{VOTES_CSV}, or write them with generate_training_data.py of {_SOURCE}"
            )
    homes = {split: folder.relative_to(files.root).as_posix() for split, folder in files.folders.items()}
    names = [f"{homes[split]}/{name}" for split, name in zip(rows.splits, rows.names, strict=True)]
    return FileStore(files.root, names)


def _compared(layout: str, file: str, rows: _Rows, files: _Files) -> Votes:
    """The differences between the chosen rows and the other file of votes, by image."""
    other = LABELS_CSV if file == VOTES_CSV else VOTES_CSV
    if not files.has(other):
        return Votes(layout, file)
    try:
        others = files.rows(other)
    except EdgefelError as error:
        message = f"{files.root}: {file} cannot be compared with {other} ({error})"
        warnings.warn(message, EdgefelWarning, stacklevel=3)
        return Votes(layout, file)
    # a few names are listed twice: the last row counts
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


def _read_votes(path: Path) -> Iterator[tuple[str, str, list[int]]]:
    """Name, split and votes of each row of `fer2013new.csv`."""
    table = read_rows(path)
    header = [field.strip().lower() for field in table[0]] if table else []
    columns = ("usage", "image name", *FER_PLUS, *_NO_EXPRESSION)
    require_columns(f"{path} line 1", header, columns, f"take it from {_SOURCE}")
    usage, name, *places = (header.index(column) for column in columns)
    for line, row in enumerate(table[1:], start=2):
        where = f"{path} line {line}"
        if len(row) != len(header):
            raise EdgefelError(f"{where}: {len(row)} fields, not {len(header)}; take the file again")
        yield row[name].strip(), _split(row[usage], where), _votes([row[place] for place in places], where)


def _read_label_files(lists: dict[str, Path]) -> Iterator[tuple[str, str, list[int]]]:
    """As `_read_votes`, of each `label.csv`: name, ten votes; an older script puts a box behind the name."""
    for split, path in lists.items():
        for line, row in enumerate(read_rows(path), start=1):
            where = f"{path} line {line}"
            if len(row) not in (11, 12) or not row[0].strip():
                raise EdgefelError(f"{where}: not a name and ten votes; make it again or take the file again")
            yield row[0].strip(), split, _votes(row[-10:], where)


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
    if min(votes) < 0 or max(votes) > 1000:
        raise EdgefelError(f"{where}: votes {','.join(fields)[:60]!r} are not ten numbers; take it again")
    return votes


def _pixel_rows(path: Path, rows: _Rows, votes_csv: Path) -> PixelRows:
    """The images of `fer2013.csv`, after a check that its rows are those of the votes."""
    places = list(_pixel_places(path))
    for (line, _, _, split), voted in zip(places, rows.splits, strict=False):
        if split != voted:
            raise EdgefelError(
                f"{path} line {line}: an image of {split}, but in {votes_csv} it is one of {voted}; the two files must "
                "have the same order, get both again"
            )
    if len(places) != len(rows.splits):
        raise EdgefelError(
            f"{path}: {counted(len(places), 'image')}, but {votes_csv} has votes for {len(rows.splits)}; "
            "get both again"
        )
    _, starts, lengths, _ = zip(*places, strict=True)
    return PixelRows(path, np.array(starts, np.int64), np.array(lengths, np.int64), rows.names)


def _pixel_places(path: Path) -> Iterator[tuple[int, int, int, str]]:
    """Line number, start and length of the pixels in bytes, and split, of each image.

    The file has 300 MB: it is read line by line, and the pixels are not parsed here.
    """
    with reading(path), os.fdopen(open_regular(path), "rb") as stream:
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
