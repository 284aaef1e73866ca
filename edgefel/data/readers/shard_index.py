"""Where each image of tar shards lies and what it shows: found once, then kept in the cache folder."""

from __future__ import annotations

import array
import contextlib
import hashlib
import json
import tarfile
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgefel.data.dataset import SPLITS
from edgefel.data.labels import EXPRESSIONS_8
from edgefel.data.readers.names import PackedNames
from edgefel.data.readers.shard_labels import Description, describe
from edgefel.errors import EdgefelError
from edgefel.files.cache import cache_folder
from edgefel.files.write import atomic_file
from edgefel.text import counted

IMAGES = frozenset({"jpg", "jpeg", "png", "webp"})
LABELS = frozenset({"cls", "json"})
# a part of the key of what is cached: raise it with any change of what the columns mean
_VERSION = 1
# labels are a line or a small object; what is larger is something else, and is not read into memory
_LARGEST_LABEL = 1 << 20
_FIRST_MEMBERS = 16
# the last two come of numbers in extended headers that are none, or too large for a file
_UNREADABLE = (OSError, tarfile.TarError, ValueError, OverflowError)


@dataclass(frozen=True)
class ShardIndex:
    """Columns of N images.

    shard int32, offset and size int64 in bytes, names of the members; label int16 and soft float32 [N, 8] by
    EXPRESSIONS_8, split int8 (0 for none, then SPLITS), group int32 into group_names, box int32 [N, 4]. soft and box
    are None unless every image has one.
    """

    shard: NDArray[np.int32]
    offset: NDArray[np.int64]
    size: NDArray[np.int64]
    names: PackedNames
    label: NDArray[np.int16]
    split: NDArray[np.int8]
    group: NDArray[np.int32]
    group_names: PackedNames
    soft: NDArray[np.float32] | None
    box: NDArray[np.int32] | None

    def has_contempt(self) -> bool:
        """Whether a label or a soft label is the eighth."""
        contempt = EXPRESSIONS_8.index("contempt")
        return bool(
            (self.label == contempt).any() or (self.soft is not None and self.soft[:, contempt].any())
        )


def open_index(shards: Sequence[Path], splits: Sequence[str], classes: Sequence[str]) -> ShardIndex:
    """The cached index, unless a shard's name, size or time of change differs; else one made from the headers.

    splits: of each shard, "" for none. classes: canonical names by the set's own numbers, empty if not known.
    Raises EdgefelError for a shard that is no tar archive, and for samples that are not whole.
    """
    cached: Path | None = None
    # without a cache folder the index is made anew each time, which costs time and nothing else
    with contextlib.suppress(EdgefelError):
        cached = cache_folder("shards") / f"{_digest(shards, splits, classes)}.npz"
    if cached is not None and (index := _load(cached)) is not None:
        return index
    builder = _Builder(classes)
    for number, (shard, split) in enumerate(zip(shards, splits, strict=True)):
        builder.add_shard(number, shard, split)
    index = builder.finish()
    if cached is not None:
        with contextlib.suppress(OSError):
            _store(cached, index)
    return index


def looks_like_samples(shard: Path) -> bool:
    """Whether the first members are an image with a label of the same key. Never raises."""
    seen: dict[str, set[str]] = {}
    with contextlib.suppress(*_UNREADABLE):
        for count, (member, _) in enumerate(_members(shard)):
            key, kind = _split_name(member.name)
            seen.setdefault(key, set()).add(kind)
            if seen[key] & IMAGES and seen[key] & LABELS:
                return True
            if count + 1 >= _FIRST_MEMBERS:
                break
    return False


def _digest(shards: Sequence[Path], splits: Sequence[str], classes: Sequence[str]) -> str:
    key: list[Any] = [_VERSION, list(classes)]
    for shard, split in zip(shards, splits, strict=True):
        try:
            state = shard.stat()
        except OSError as error:
            raise EdgefelError(f"{shard}: cannot be read ({error.strerror or error})") from None
        key.append([str(shard.resolve()), state.st_size, state.st_mtime_ns, split])
    return hashlib.sha256(json.dumps(key).encode()).hexdigest()


class _Builder:
    """Collects samples in compact columns while the headers go by."""

    def __init__(self, classes: Sequence[str]) -> None:
        self.classes = classes
        self.shard, self.offset, self.size = array.array("i"), array.array("q"), array.array("q")
        self.label, self.split, self.group = array.array("h"), array.array("b"), array.array("i")
        self.soft, self.box = array.array("f"), array.array("i")
        self.names: list[str] = []
        self.groups: dict[str, int] = {}

    def add_shard(self, number: int, shard: Path, split: str) -> None:
        """Raises EdgefelError with the shard, and the key where there is one."""
        key, pending = "", dict[str, Any]()
        try:
            for member, stream in _members(shard):
                its_key, kind = _split_name(member.name)
                if kind not in IMAGES and kind not in LABELS:
                    continue
                if its_key != key:
                    self._add(number, shard, key, split, pending)
                    key, pending = its_key, {}
                where = f"{shard}: sample {key}"
                slot = "image" if kind in IMAGES else kind
                if slot in pending:
                    raise EdgefelError(f"{where}: has two members for its {slot}; keep one of them")
                pending[slot] = member if kind in IMAGES else _text(stream, member, where)
            self._add(number, shard, key, split, pending)
        except _UNREADABLE as error:
            raise EdgefelError(
                f"{shard}: cannot be read as a tar archive ({error}); shards are not compressed, and whole: "
                "copy or write it again"
            ) from None

    def _add(self, number: int, shard: Path, key: str, split: str, pending: dict[str, Any]) -> None:
        if not pending:
            return
        where = f"{shard}: sample {key}"
        member = pending.pop("image", None)
        if member is None:
            raise EdgefelError(
                f"{where}: has a label but no image beside it ({', '.join(sorted(IMAGES))}); "
                "the members of a sample must follow each other"
            )
        if not pending:
            raise EdgefelError(
                f"{where}: has no label; add {key}.cls or {key}.json right after the image, or take it out"
            )
        said = describe(pending.get("cls"), pending.get("json"), self.classes, where)
        self.shard.append(number)
        self.offset.append(member.offset_data)
        self.size.append(member.size)
        self.names.append(member.name)
        self._describe(said, f"{shard.name}/{key}", split, where)

    def _describe(self, said: Description, own_group: str, split: str, where: str) -> None:
        self.label.append(said.label)
        self.split.append(("", *SPLITS).index(split if said.split is None else said.split))
        self.group.append(self.groups.setdefault(said.group or own_group, len(self.groups)))
        self.soft.extend(said.soft or ())
        self.box.extend(said.box or ())
        # a column is for every sample or for none
        for column, width, what in ((self.soft, len(EXPRESSIONS_8), "soft"), (self.box, 4, "box")):
            if len(column) not in (0, width * len(self.label)):
                raise EdgefelError(
                    f"{where}: samples with {what} and without it are mixed; give {what} for all of them or for none"
                )

    def finish(self) -> ShardIndex:
        """The columns as arrays."""
        count = len(self.label)
        return ShardIndex(
            np.array(self.shard, np.int32),
            np.array(self.offset, np.int64),
            np.array(self.size, np.int64),
            PackedNames.pack(self.names),
            np.array(self.label, np.int16),
            np.array(self.split, np.int8),
            np.array(self.group, np.int32),
            PackedNames.pack(self.groups),
            np.array(self.soft, np.float32).reshape(count, -1) if self.soft else None,
            np.array(self.box, np.int32).reshape(count, 4) if self.box else None,
        )


def _members(shard: Path) -> Iterator[tuple[tarfile.TarInfo, Any]]:
    """The files of an archive with the stream that they lie in, at offset_data."""
    with tarfile.open(shard, "r:") as archive:
        while (member := archive.next()) is not None:
            if member.issparse():  # its size is not that of its bytes, and may be any number
                raise tarfile.ReadError(f"the member {member.name!r} is sparse")
            if member.isreg():
                yield member, archive.fileobj
            # tarfile keeps every header that it has read
            archive.members = []  # type: ignore[attr-defined]
        # tarfile takes a broken header for the end; two blocks of zeros are the end
        archive.fileobj.seek(archive.offset)
        if archive.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise tarfile.ReadError(f"it breaks off at byte {archive.offset}, without a mark of its end")


def _split_name(name: str) -> tuple[str, str]:
    """Key and lower-case extension of a member; no extension for hidden files."""
    folder, slash, base = name.rpartition("/")
    stem, _, kind = base.partition(".")
    return (folder + slash + stem, kind.lower()) if stem else (name, "")


def _text(stream: Any, member: tarfile.TarInfo, where: str) -> str:
    if member.size > _LARGEST_LABEL:
        raise EdgefelError(
            f"{where}: {member.name} has {counted(member.size, 'byte')}, which is no label; take it out"
        )
    stream.seek(member.offset_data)
    try:
        return str(stream.read(member.size), "utf-8-sig")
    except UnicodeDecodeError as error:
        raise EdgefelError(f"{where}: {member.name} is not UTF-8 text ({error}); correct it") from None


def _store(path: Path, index: ShardIndex) -> None:
    columns: dict[str, Any] = {}
    for name, value in vars(index).items():
        if isinstance(value, PackedNames):
            columns |= {f"{name}.data": value.data, f"{name}.ends": value.ends}
        elif value is not None:
            columns[name] = value
    with atomic_file(path) as temporary, temporary.open("wb") as stream:
        np.savez(stream, **columns)


def _load(path: Path) -> ShardIndex | None:
    """None where there is none, or a broken one."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            columns: dict[str, Any] = {"soft": None, "box": None}
            columns |= {name: stored[name] for name in stored.files if "." not in name}
            for name in ("names", "group_names"):
                columns[name] = PackedNames(stored[f"{name}.data"], stored[f"{name}.ends"])
            return ShardIndex(**columns)
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile):
        return None
