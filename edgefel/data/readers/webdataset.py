"""WebDataset shards: tar archives of images, with their labels beside them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from edgefel.data.dataset import ImageDataset
from edgefel.data.images import MOST_BYTES
from edgefel.data.labels import EXPRESSIONS_7, EXPRESSIONS_8, expression_labels
from edgefel.data.readers.base import SPLIT_OF, known_label, numbered_dataset
from edgefel.data.readers.search import list_files, list_folders
from edgefel.data.readers.shard_index import ShardIndex, looks_like_samples, open_index
from edgefel.errors import EdgefelError
from edgefel.files.documents import read_json
from edgefel.files.read import read_range, read_text
from edgefel.files.remote import is_address
from edgefel.text import counted

CLASSES_NAME = "classes.txt"
_DESCRIPTION_NAME = "dataset.json"
_SPLIT_PREFIX = re.compile(rf"({'|'.join(SPLIT_OF)})(?=[-_.\d]|$)", re.IGNORECASE)


class WebDataset:
    """Tar shards such as `train-000012.tar`, in one folder or in folders named after splits; or one .tar file.

    A sample is the run of members with one KEY, the name up to the first dot after the last slash: `KEY.jpg`, .jpeg,
    .png or .webp, with `KEY.cls` (a number or name of a class), `KEY.json`, or both. The JSON object has label (number
    or name), and optionally split, group or subject, soft (probabilities by name, or a list in the order of the
    classes) and box ([x, y, width, height] in pixels). Numbers need `classes.txt` (a name on each line, in order) or
    `dataset.json` (with "labels") beside the shards. The split is what the JSON says, else what the shard's name begins
    with, else the name of its folder. Other members are ignored, and nothing is ever unpickled.

    The first opening reads all headers and labels, but no images, and keeps an index in the cache folder. At an address
    it fetches the shards for that; from then on it fetches images, by range.
    Source: Aizman, Maltby, Breuel, "High Performance I/O For Large Scale Deep Learning", arXiv 2001.01858;
    https://github.com/webdataset/webdataset
    """

    name = "webdataset"
    title = "WebDataset tar shards (Aizman et al., arXiv 2001.01858)"
    classes = EXPRESSIONS_8

    def recognizes(self, root: Path) -> bool:
        """Whether the first shard begins with a labelled image."""
        try:
            shards = _shards(root)
        except EdgefelError:
            return False
        return bool(shards) and looks_like_samples(shards[0])

    def read(self, root: Path) -> ImageDataset:
        """Raises EdgefelError, with shard and key, for incomplete samples and invalid labels."""
        shards = _shards(root)
        if not shards:
            raise EdgefelError(f"{root}: no .tar shards in it; give a folder of shards, or one .tar file")
        classes = _classes(root, shards)
        index = open_index(shards, [_split_of(shard) for shard in shards], classes)
        if not len(index.label):
            raise EdgefelError(f"{root}: {counted(len(shards), 'shard')} and no labelled images in it")
        soft, last = index.soft, EXPRESSIONS_8.index("contempt")
        eight = "contempt" in classes or last in index.label or (soft is not None and soft[:, last].any())
        labels = expression_labels(8 if eight else 7)
        store, groups = ShardStore(shards, index), (index.group, index.group_names)
        soft = None if soft is None else soft[:, : len(labels)]
        numbers, split, box = index.label, index.split, index.box
        return numbered_dataset(root, labels, store, numbers, labels, groups, split, soft=soft, box=box)


class ShardStore:
    """Images in tar shards, read by offset. It holds no open files, so that threads and processes may share it.

    Opening a shard for each image takes a few microseconds, decoding the image hundreds.
    """

    def __init__(self, shards: Sequence[Path], index: ShardIndex) -> None:
        self._shards, self._names = tuple(shards), index.names
        self._shard, self._offset, self._size = index.shard, index.offset, index.size

    def path(self, index: int) -> Path:
        """Path of the shard, followed by the member's name."""
        return self._shards[self._shard[index]] / self._names[index]

    def read(self, index: int) -> bytes:
        """The member's bytes. Raises OSError, also for a shard that has become shorter."""
        size = int(self._size[index])
        if size > MOST_BYTES:
            raise OSError(f"has more than {MOST_BYTES >> 20} MiB")
        data = read_range(self._shards[self._shard[index]], int(self._offset[index]), size)
        if len(data) != size:
            raise OSError(f"the shard ends before the image's {counted(size, 'byte')}")
        return data


def _shards(root: Path) -> list[Path]:
    """The .tar files of a folder, or else of the folders in it, by name. Raises EdgefelError."""
    if root.is_file():
        return [root] if root.suffix.lower() == ".tar" else []
    return _tars(root) or [shard for folder in list_folders(root) for shard in _tars(folder)]


def _tars(folder: Path) -> list[Path]:
    shards = (folder / name for name in list_files(folder, ".tar"))
    return [shard for shard in shards if is_address(shard) or shard.is_file()]  # no pipe, no broken link


def _split_of(shard: Path) -> str:
    prefix = _SPLIT_PREFIX.match(shard.name)
    return SPLIT_OF[prefix[1].lower()] if prefix else SPLIT_OF.get(shard.parent.name.lower(), "")


def _classes(root: Path, shards: Sequence[Path]) -> tuple[str, ...]:
    """Canonical names in the order of the set's own numbers; empty where no file lists them."""
    folders = [shards[0].parent] if root in (shards[0], shards[0].parent) else [root]
    if shards[0].parent.name.lower() in SPLIT_OF:  # one folder of a set that has one for each split
        folders.append(shards[0].parent.parent)
    for folder in dict.fromkeys(folders):
        listed, described = folder / CLASSES_NAME, folder / _DESCRIPTION_NAME
        if listed.is_file():
            lines = enumerate(read_text(listed).splitlines(), start=1)
            return _canonical_names(listed, {f"line {n}": line for n, line in lines if line.strip()})
        if described.is_file():
            description = read_json(described)
            labels = description.get("labels") if isinstance(description, dict) else None
            if not isinstance(labels, list) or not all(isinstance(name, str) for name in labels):
                raise EdgefelError(f'{described}: no list of names in "labels"; give the classes in order')
            return _canonical_names(described, {f"label {n}": name for n, name in enumerate(labels)})
    return ()


def _canonical_names(path: Path, listed: Mapping[str, str]) -> tuple[str, ...]:
    """The classes of a file by their places in it."""
    names: list[str] = []
    for place, name in listed.items():
        label = known_label(name, f"{path} {place}")
        if label in names:
            raise EdgefelError(f"{path} {place}: {label} is listed twice; list each class once, in order")
        names.append(label)
    missing = ", ".join(name for name in EXPRESSIONS_7 if name not in names)
    if missing:
        raise EdgefelError(f"{path}: does not list {missing}; list all classes in the order of their numbers")
    return tuple(names)
