"""What is to be labelled, divided into parts: each is the work of a task, and becomes one Parquet file."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edgefel.data.images import IMAGE_SUFFIXES, OTHER_SUFFIXES, left_out_text, suffix_of
from edgefel.errors import EdgefelError
from edgefel.files.read import open_csv, reason
from edgefel.files.remote import is_address, joined, list_address
from edgefel.runtime.bulk.parquet_files import has_images, image_paths, row_groups
from edgefel.runtime.stream.sources import VIDEO_SUFFIXES

Kind = Literal["images", "tar", "parquet", "video"]
# images in files of their own
PER_PART = 1000


@dataclass(frozen=True)
class Part:
    """The work of a task.

    place: path or address of the shard or video; of images, the folder that `names` are in. name: of the shard or video
    within the source. groups: the first row group of a Parquet file, and the one after the last; None for all.
    """

    kind: Kind
    place: str
    name: str = ""
    names: tuple[str, ...] = ()
    groups: tuple[int, int] | None = None


@dataclass(frozen=True)
class LabelPlan:
    """A source and its parts, in the order of their names. left_out: files of kinds that are not read, by suffix.

    digest: of all names and sizes.
    """

    source: str
    parts: tuple[Part, ...]
    left_out: Mapping[str, int]
    digest: str


def plan_labelling(source: str, per_part: int = PER_PART) -> LabelPlan:
    """Divides a source: a folder or an address, with all images, tar shards, Parquet files and videos in it, at any
    depth; one such file; or a manifest, a CSV or Parquet file that lists images in the column `path`.

    per_part: images of a part where they are files of their own, or rows of a Parquet file, at least; a tar shard or a
    video is a part. Files and folders whose name begins with a dot are left out. Nothing is opened but manifests and
    the footers of Parquet files. Raises EdgefelError for a source without anything to label.
    """
    if per_part < 1:
        raise EdgefelError(f"{per_part} images per part: give at least 1")
    place = source if is_address(source) else os.fspath(Path(source))
    found = list(list_address(place) if is_address(source) else _list(Path(source)))
    digest = hashlib.sha256()
    for name, size in found:
        digest.update(f"{name}\0{size}\0".encode("utf-8", "surrogateescape"))
    whole = found[0][0] == "" if len(found) == 1 else False
    if whole and (listed := _manifest(place)) is not None:
        folder = place.rpartition("/")[0] if is_address(place) else str(Path(place).parent)
        parts = list(_image_parts(folder, listed, per_part))
        for name in listed:
            digest.update(name.encode("utf-8", "surrogateescape") + b"\0")
        others: Counter[str] = Counter()
    else:
        parts, others = _parts(place, [name for name, _ in found], per_part)
    if not parts:
        said = f"{left_out_text(others)}; " if others else ""
        kinds = " ".join(sorted(IMAGE_SUFFIXES | VIDEO_SUFFIXES))
        raise EdgefelError(f"{source}: nothing to label in it; {said}known suffixes: .tar .parquet {kinds}")
    return LabelPlan(source, tuple(parts), dict(others.most_common()), digest.hexdigest())


def _parts(place: str, names: list[str], per_part: int) -> tuple[list[Part], Counter[str]]:
    images, parts, others = [], [], Counter[str]()
    for name in names:
        file = joined(place, name) if name else place
        suffix = suffix_of(file)
        shown = name or file.rpartition("/")[2]
        if suffix in IMAGE_SUFFIXES:
            images.append(name)
        elif suffix == ".tar":
            parts.append(Part("tar", file, shown))
        elif suffix == ".parquet":
            parts += [Part("parquet", file, shown, groups=some) for some in row_groups(file, per_part)]
        elif suffix in VIDEO_SUFFIXES and not is_address(file):
            parts.append(Part("video", file, shown))
        elif suffix in OTHER_SUFFIXES or suffix in VIDEO_SUFFIXES:
            others[suffix] += 1
    if images == [""]:  # the source itself
        folder, _, name = place.rpartition("/")
        return [Part("images", folder or ("/" if place.startswith("/") else "."), names=(name,))], others
    return [*_image_parts(place, images, per_part), *parts], others


def _image_parts(place: str, names: list[str], per_part: int) -> Iterator[Part]:
    for start in range(0, len(names), per_part):
        yield Part("images", place, names=tuple(names[start : start + per_part]))


def _list(root: Path) -> Iterable[tuple[str, int]]:
    """As `list_address`."""
    if root.is_file():
        return [("", root.stat().st_size)]
    if not root.exists():
        raise EdgefelError(f"{root}: no such file or folder; give images, shards or a manifest")
    if not root.is_dir():
        raise EdgefelError(f"{root}: is neither a file nor a folder; give images, shards or a manifest")
    return sorted(_walk(root))


def _walk(root: Path) -> Iterator[tuple[str, int]]:
    def refuse(error: OSError) -> None:
        raise EdgefelError(
            f"{error.filename}: cannot be listed ({reason(error)}); make it readable, or move it away"
        )

    start = len(os.fspath(root).rstrip("/")) + 1
    for folder, folders, names in os.walk(root, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            if not name.startswith("."):
                path = os.path.join(folder, name)  # noqa: PTH118 - millions of names
                shard = suffix_of(name) in (".tar", ".parquet")
                yield path[start:], os.stat(path).st_size if shard and os.path.exists(path) else 0  # noqa: PTH110, PTH116


def _manifest(place: str) -> list[str] | None:
    """The images that a manifest lists; None if the file is none. Raises EdgefelError for one that lists nothing."""
    suffix = suffix_of(place)
    if suffix == ".parquet":
        listed = None if has_images(place) else image_paths(place)
    elif suffix == ".csv":
        listed = _csv_paths(place)
    else:
        return None
    if listed is not None and not listed:
        raise EdgefelError(f"{place}: lists no images; add one row per image")
    return listed


def _csv_paths(place: str) -> list[str]:
    with open_csv(place) as table:
        if "path" not in table.columns:
            raise EdgefelError(f"{place}: missing column path; name the column of the images' files path")
        at = table.columns.index("path")
        return [row[at].strip() for row in table if len(row) > at and row[at].strip()]
