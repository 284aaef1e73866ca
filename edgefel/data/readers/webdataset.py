"""WebDataset shards: tar archives of images, with their labels beside them."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from edgefel.data.dataset import ImageDataset, SampleTable
from edgefel.data.images import MOST_BYTES
from edgefel.data.labels import EXPRESSIONS_7, EXPRESSIONS_8, canonical_label, expression_labels
from edgefel.data.readers.base import to_canonical
from edgefel.data.readers.shard_index import ShardIndex, looks_like_samples, open_index
from edgefel.errors import EdgefelError
from edgefel.files.documents import read_json
from edgefel.files.read import read_text
from edgefel.text import counted

CLASSES_NAME = "classes.txt"
_DESCRIPTION_NAME = "dataset.json"
_SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
_SPLIT_PREFIX = re.compile(rf"({'|'.join(_SPLITS)})(?=[-_.\d]|$)", re.IGNORECASE)


class WebDataset:
    """Tar shards such as `train-000012.tar`, in one folder or in folders named after splits; or one .tar file.

    A sample is the run of members with one KEY, the name up to the first dot after the last slash: `KEY.jpg`, .jpeg,
    .png or .webp, with `KEY.cls` (a number or name of a class), `KEY.json`, or both. The JSON object has label (number
    or name), and optionally split, group or subject, soft (probabilities by name, or a list in the order of the
    classes) and box ([x, y, width, height] in pixels). Numbers need `classes.txt` (a name on each line, in order) or
    `dataset.json` (with "labels") beside the shards. The split is what the JSON says, else what the shard's name begins
    with, else the name of its folder. Other members are ignored, and nothing is ever unpickled.

    The first opening reads all headers and labels, but no images, and keeps an index in the cache folder.
    Source: Aizman, Maltby, Breuel, "High Performance I/O For Large Scale Deep Learning", arXiv 2001.01858;
    https://github.com/webdataset/webdataset
    """

    name = "webdataset"
    title = "WebDataset tar shards (Aizman et al., arXiv 2001.01858)"
    classes = EXPRESSIONS_8

    def recognizes(self, root: Path) -> bool:
        """Whether its first shard begins with a labelled image."""
        try:
            shards = _shards(root)
            return bool(shards) and looks_like_samples(shards[0])
        except OSError:
            return False

    def read(self, root: Path) -> ImageDataset:
        """Raises EdgefelError, with shard and key, for what a sample lacks or says that cannot be."""
        try:
            shards = _shards(root)
        except OSError as error:
            raise EdgefelError(f"{root}: cannot be read ({error.strerror or error})") from None
        if not shards:
            raise EdgefelError(f"{root}: no .tar shards in it; give a folder of shards, or one .tar file")
        classes = _classes(root, shards)
        index = open_index(shards, [_split_of(shard) for shard in shards], classes)
        if not len(index.label):
            raise EdgefelError(f"{root}: {counted(len(shards), 'shard')} and no labelled images in it")
        eight = "contempt" in classes or index.has_contempt()
        labels = expression_labels(8 if eight else 7)
        return ImageDataset(root, labels, _table(index, shards, labels, str(root)))


class ShardStore:
    """Images in tar shards, read by offset. It holds no open files, so that threads, forks and pickles may share it.

    Opening a shard for each image costs a few microseconds, against hundreds for decoding it.
    """

    def __init__(self, shards: Sequence[Path], index: ShardIndex) -> None:
        self._shards = tuple(shards)
        self._shard, self._offset, self._size, self._names = (
            index.shard,
            index.offset,
            index.size,
            index.names,
        )

    def path(self, index: int) -> Path:
        """Of the shard, with the member behind it."""
        return self._shards[self._shard[index]] / self._names[index]

    def read(self, index: int) -> bytes:
        """The member's bytes. Raises OSError, also for a shard that has become shorter."""
        size = int(self._size[index])
        if size > MOST_BYTES:
            raise OSError(f"has more than {MOST_BYTES >> 20} MiB")
        with self._shards[self._shard[index]].open("rb", buffering=0) as stream:
            stream.seek(int(self._offset[index]))
            data = stream.read(size)
        if data is None or len(data) != size:
            raise OSError(f"the shard ends before the image's {counted(size, 'byte')}")
        return data


def _table(index: ShardIndex, shards: Sequence[Path], labels: Sequence[str], where: str) -> SampleTable:
    return SampleTable(
        ShardStore(shards, index),
        to_canonical(index.label, EXPRESSIONS_8[: len(labels)], labels, where),
        index.group,
        index.group_names,
        index.split,
        soft=None if index.soft is None else index.soft[:, : len(labels)],
        box=index.box,
    )


def _shards(root: Path) -> list[Path]:
    """The .tar files of a folder, or else of the folders in it, by name. Raises OSError."""
    if root.is_file():
        return [root] if root.suffix.lower() == ".tar" else []
    own = _tars(root)
    if own:
        return own
    folders = sorted(Path(e.path) for e in os.scandir(root) if e.is_dir() and not e.name.startswith("."))
    return [shard for folder in folders for shard in _tars(folder)]


def _tars(folder: Path) -> list[Path]:
    found = (Path(entry.path) for entry in os.scandir(folder) if entry.is_file())
    return sorted(file for file in found if file.suffix.lower() == ".tar" and not file.name.startswith("."))


def _split_of(shard: Path) -> str:
    prefix = _SPLIT_PREFIX.match(shard.name)
    return _SPLITS[prefix[1].lower()] if prefix else _SPLITS.get(shard.parent.name.lower(), "")


def _classes(root: Path, shards: Sequence[Path]) -> tuple[str, ...]:
    """Canonical names in the order of the set's own numbers; empty where no file lists them."""
    folders = [shards[0].parent] if root in (shards[0], shards[0].parent) else [root]
    if shards[0].parent.name.lower() in _SPLITS:  # one folder of a set that has one for each split
        folders.append(shards[0].parent.parent)
    for folder in dict.fromkeys(folders):
        if (folder / CLASSES_NAME).is_file():
            return _canonical_names(*_listed(folder / CLASSES_NAME))
        if (folder / _DESCRIPTION_NAME).is_file():
            path = folder / _DESCRIPTION_NAME
            description = read_json(path)
            listed = description.get("labels") if isinstance(description, dict) else None
            if not isinstance(listed, list) or not all(isinstance(name, str) for name in listed):
                raise EdgefelError(f'{path}: no list of names in "labels"; give the classes in their order')
            return _canonical_names([(f"{path} label {n}", name) for n, name in enumerate(listed)], path)
    return ()


def _listed(path: Path) -> tuple[list[tuple[str, str]], Path]:
    lines = read_text(path).splitlines()
    return [(f"{path} line {n}", line) for n, line in enumerate(lines, start=1) if line.strip()], path


def _canonical_names(listed: Sequence[tuple[str, str]], path: Path) -> tuple[str, ...]:
    names = []
    for where, name in listed:
        label = canonical_label(name)
        if label is None:
            raise EdgefelError(f"{where}: unknown class {name!r}; the labels are {', '.join(EXPRESSIONS_8)}")
        if label in names:
            raise EdgefelError(f"{where}: {label} is listed twice; list each class once, in order")
        names.append(label)
    if not set(EXPRESSIONS_7) <= set(names):
        missing = ", ".join(name for name in EXPRESSIONS_7 if name not in names)
        raise EdgefelError(f"{path}: does not list {missing}; list all classes in the order of their numbers")
    return tuple(names)
