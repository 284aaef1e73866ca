"""Index of the images in tar shards: places and labels, built once and kept in the cache folder."""

from __future__ import annotations

import array
import contextlib
import hashlib
import json
import math
import tarfile
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgefel.data.dataset import SPLIT_NAMES, SPLITS, Box
from edgefel.data.labels import EXPRESSIONS_8
from edgefel.data.readers.base import PackedNames, known_label
from edgefel.data.readers.tar_members import IMAGES, UNREADABLE, members, split_name
from edgefel.errors import EdgefelError
from edgefel.files.cache import cache_folder
from edgefel.files.documents import parse_json
from edgefel.files.read import open_binary, reading
from edgefel.files.remote import is_address, state_of
from edgefel.files.write import atomic_file
from edgefel.text import counted

LABELS = frozenset({"cls", "json"})
# part of the cache key: increase it when the meaning of the columns changes
_VERSION = 1
# labels are a line or a small object; larger members are not read into memory
_LARGEST_LABEL = 1 << 20
_FIRST_MEMBERS = 16


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


def open_index(shards: Sequence[Path], splits: Sequence[str], classes: Sequence[str]) -> ShardIndex:
    """The cached index if names, sizes and modification times of the shards match it, else a new one.

    splits: of each shard, "" for none. classes: canonical names by the set's own numbers, empty if not known.
    Raises EdgefelError for a shard that is no tar archive, and for incomplete samples.
    """
    cached: Path | None = None
    # without a cache folder the index is built each time
    with contextlib.suppress(EdgefelError):
        cached = cache_folder("shards") / f"{_digest(shards, splits, classes)}.npz"
    if cached is not None and (index := _load(cached)) is not None:
        return index
    index = _build(shards, splits, classes)
    if cached is not None:
        with contextlib.suppress(OSError):
            _store(cached, index)
    return index


def looks_like_samples(shard: Path) -> bool:
    """Whether the first members are an image with a label of the same key. Never raises."""
    seen: dict[str, set[str]] = {}
    with contextlib.suppress(*UNREADABLE):
        for member, _ in islice(_members(shard), _FIRST_MEMBERS):
            key, kind = split_name(member.name)
            seen.setdefault(key, set()).add(kind)
            if seen[key] & IMAGES and seen[key] & LABELS:
                return True
    return False


def _digest(shards: Sequence[Path], splits: Sequence[str], classes: Sequence[str]) -> str:
    key: list[Any] = [_VERSION, list(classes)]
    for shard, split in zip(shards, splits, strict=True):
        with reading(shard):
            if is_address(shard):
                state: list[Any] = [state_of(shard)]
            else:
                state = [shard.stat().st_size, shard.stat().st_mtime_ns]
        key.append([str(shard.resolve()), *state, split])
    return hashlib.sha256(json.dumps(key).encode()).hexdigest()


# type codes of `array`; columns that all samples have or none, with their widths
_COLUMNS = {"shard": "i", "offset": "q", "size": "q", "label": "h", "split": "b", "group": "i"}
_OPTIONAL = {"soft": ("f", len(EXPRESSIONS_8)), "box": ("i", 4)}


def _build(shards: Sequence[Path], splits: Sequence[str], classes: Sequence[str]) -> ShardIndex:
    """Collects the samples in compact columns while the headers are read."""
    codes = _COLUMNS | {name: code for name, (code, _) in _OPTIONAL.items()}
    columns: dict[str, Any] = {name: array.array(code) for name, code in codes.items()}
    names: list[str] = []
    groups: dict[str, int] = {}
    for number, (shard, split) in enumerate(zip(shards, splits, strict=True)):
        try:
            for key, member, said in _samples(shard, classes):
                names.append(member.name)
                said |= {"shard": number, "offset": member.offset_data, "size": member.size}
                said["split"] = SPLIT_NAMES.index(said.get("split", split))
                said["group"] = groups.setdefault(said.get("group") or f"{shard.name}/{key}", len(groups))
                for what, value in said.items():
                    columns[what].extend(value if isinstance(value, tuple) else (value,))
                for what, (_, width) in _OPTIONAL.items():
                    if len(columns[what]) not in (0, width * len(names)):
                        raise EdgefelError(
                            f"{shard}: sample {key}: samples with {what} and without it are mixed; give {what} for "
                            "all of them or for none"
                        )
        except UNREADABLE as error:
            raise EdgefelError(
                f"{shard}: cannot be read as a tar archive ({error}); shards are not compressed, and whole: "
                "copy or write it again"
            ) from None
    arrays: dict[str, Any] = {name: np.array(column) for name, column in columns.items()}
    for what, (_, width) in _OPTIONAL.items():
        arrays[what] = arrays[what].reshape(len(names), width) if arrays[what].size else None
    return ShardIndex(names=PackedNames.pack(names), group_names=PackedNames.pack(groups), **arrays)


def _samples(shard: Path, classes: Sequence[str]) -> Iterator[tuple[str, tarfile.TarInfo, dict[str, Any]]]:
    """Key, member of the image, and description of each sample. Raises EdgefelError with shard and key."""
    parts = ((*split_name(member.name), member, stream) for member, stream in _members(shard))
    known = (part for part in parts if part[1] in IMAGES or part[1] in LABELS)
    for key, parts_of in groupby(known, key=itemgetter(0)):
        where = f"{shard}: sample {key}"
        found: dict[str, Any] = {}
        for _, kind, member, stream in parts_of:
            slot = "image" if kind in IMAGES else kind
            if slot in found:
                raise EdgefelError(f"{where}: has two members for its {slot}; keep one of them")
            found[slot] = member if kind in IMAGES else _text(stream, member, where)
        image = found.pop("image", None)
        if image is None:
            raise EdgefelError(
                f"{where}: has a label but no image beside it ({', '.join(sorted(IMAGES))}); "
                "the members of a sample must follow each other"
            )
        if not found:
            raise EdgefelError(
                f"{where}: has no label; add {key}.cls or {key}.json right after the image, or take it out"
            )
        yield key, image, describe(found.get("cls"), found.get("json"), classes, where)


def _members(shard: Path) -> Iterator[tuple[tarfile.TarInfo, Any]]:
    with open_binary(shard) as stream:
        yield from members(stream)


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


def describe(cls: str | None, text: str | None, classes: Sequence[str], where: str) -> dict[str, Any]:
    """label and soft by EXPRESSIONS_8, split, group and box, as far as `KEY.cls` and `KEY.json` give them.

    classes: canonical names by the set's own numbers, empty if not known.
    Raises EdgefelError for what is malformed, unknown, or contradicts the other.
    """
    labels = []
    if cls is not None:
        name = cls.strip()
        labels.append(_label(int(name) if name.lstrip("-").isdecimal() else name, classes, f"{where}.cls"))
    if text is None:
        return {"label": labels[0]}
    where = f"{where}.json"
    try:
        said = parse_json(text, where)
    except EdgefelError as error:
        raise EdgefelError(f"{error}; correct it") from None
    if not isinstance(said, dict):
        raise EdgefelError(f'{where}: not a JSON object with "label"; correct it')
    if "label" in said:
        labels.append(_label(said["label"], classes, where))
    if not labels:
        raise EdgefelError(f'{where}: has no "label"; give a name or a number')
    if len(set(labels)) > 1:
        cls_name, json_name = (EXPRESSIONS_8[label] for label in labels)
        raise EdgefelError(f"{where}: says {json_name}, but the .cls file {cls_name}; correct one of them")
    split = said.get("split")
    if split is not None and split not in (*SPLITS, ""):
        raise EdgefelError(f"{where}: split {split!r} is unknown; use {', '.join(SPLITS)} or leave it out")
    group = said.get("group", said.get("subject"))
    group = None if group is None else str(group)
    found: dict[str, Any] = {"label": labels[0], "split": split, "group": group}
    if said.get("soft") is not None:
        found["soft"] = _soft(said["soft"], classes, where)
    if said.get("box") is not None:
        found["box"] = _box(said["box"], where)
    return {name: value for name, value in found.items() if value is not None}


def _label(value: object, classes: Sequence[str], where: str) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        if not classes:
            raise EdgefelError(
                f"{where}: class {value} is a number, and nothing says what it means; put classes.txt beside the "
                "shards, with the name of each class on a line, in order"
            )
        if not 0 <= value < len(classes):
            raise EdgefelError(
                f"{where}: class {value} is unknown; its classes are 0 to {len(classes) - 1}: {', '.join(classes)}"
            )
        return EXPRESSIONS_8.index(classes[value])
    return EXPRESSIONS_8.index(known_label(value, where))


def _soft(value: object, classes: Sequence[str], where: str) -> tuple[float, ...]:
    """Probabilities by EXPRESSIONS_8, of an object by name or of a list in the order of the classes."""
    if isinstance(value, list):
        if len(value) != len(classes):
            raise EdgefelError(
                f"{where}: soft is a list of {len(value)} for {len(classes)} known classes; give an object by name, "
                "or one number for each line of classes.txt"
            )
        value = dict(zip(classes, value, strict=True))
    if not isinstance(value, dict) or not all(_is_number(number) for number in value.values()):
        raise EdgefelError(f"{where}: soft does not hold numbers; give the probability of each label by name")
    soft = [0.0] * len(EXPRESSIONS_8)
    for name, number in value.items():
        soft[_label(name, classes, where)] += number
    if not (min(soft) >= 0 and math.isclose(sum(soft), 1.0, abs_tol=1e-3)):
        raise EdgefelError(f"{where}: soft is not a distribution (each >= 0, sum 1); correct it")
    return tuple(soft)


def _box(value: object, where: str) -> Box:
    if not isinstance(value, list) or len(value) != 4 or not all(_is_number(number) for number in value):
        raise EdgefelError(f"{where}: box {value!r} is not [x, y, width, height] in pixels; correct it")
    x, y, width, height = (round(number) for number in value)
    if width <= 0 or height <= 0:
        raise EdgefelError(f"{where}: box {value!r} has no area; give [x, y, width, height] in pixels")
    return x, y, width, height


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


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
    """The index at `path`; None for a missing or broken file."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            columns: dict[str, Any] = {"soft": None, "box": None}
            columns |= {name: stored[name] for name in stored.files if "." not in name}
            for name in ("names", "group_names"):
                columns[name] = PackedNames(stored[f"{name}.data"], stored[f"{name}.ends"])
            return ShardIndex(**columns)
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile):
        return None
