"""Checks the integrity of an archive or a folder of `edgefel pack`, without unpacking it."""

from __future__ import annotations

import dataclasses
import hashlib
import lzma
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgefel.deploy.archive import BLOCK, FORMAT, INDEX, VERSION, is_safe
from edgefel.deploy.model_files import manifest_bytes
from edgefel.errors import EdgefelError
from edgefel.files.documents import parse_json
from edgefel.files.write import sha256
from edgefel.runtime.manifest import MANIFEST_NAME, read_manifest

_LONGEST_INDEX = 4 << 20
_MANIFEST = f"model/{MANIFEST_NAME}"
_SHOWN = 5
# what a compressed archive may grow to: model files hardly shrink, and texts by far less than this
_MOST_GROWTH, _SMALL = 200, 1 << 30


@dataclass(frozen=True)
class Verified:
    """What a sound archive or folder holds.

    header: index.json without the files. extra: files of a folder that the index does not list, as an
    installation makes them. engines: whether the manifest lists engines that were built after unpacking.
    index_sha256: of index.json itself, to compare with what `edgefel pack` printed.
    """

    path: Path
    header: dict[str, Any]
    files: int
    bytes: int
    extra: int
    engines: bool
    index_sha256: str


def verify(path: Path) -> Verified:
    """Compares every file with the SHA-256 in index.json.

    Raises EdgefelError for what is not of `edgefel pack`, for an archive whose members leave their folder or
    are no plain files or that grow beyond reason, for links in a folder, and for files that are missing, changed or
    (in an archive) not in the index.
    """
    if path.is_dir():
        return _verify_folder(path)
    if not path.is_file():
        raise EdgefelError(f"{path}: no such file or folder; give what 'edgefel pack' wrote")
    with _unreadable_as_error(path), tarfile.open(path, "r:*") as tar:
        return _verify_tar(path, tar)


@contextmanager
def _unreadable_as_error(path: Path) -> Iterator[None]:
    try:
        yield
    except (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, ValueError, OverflowError) as error:
        # tarfile tells in further lines what each kind of compression found
        reason = str(error).partition("\n")[0].rstrip(":")
        raise EdgefelError(f"{path}: is no archive, or cut short ({reason}); copy it again") from None
    except OSError as error:
        # gzip's own complaints about damaged data have no number
        if error.errno is not None:
            raise
        raise EdgefelError(f"{path}: is damaged ({error}); copy it again") from None


def _verify_tar(path: Path, tar: tarfile.TarFile) -> Verified:
    found: dict[str, str] = {}
    index: dict[str, Any] | None = None
    data = b""
    tops = set()
    total = 0
    limit = max(_SMALL, _MOST_GROWTH * path.stat().st_size)
    for member in tar:
        name = member.name
        if not is_safe(name) or not (member.isfile() or member.isdir()) or member.issparse():
            raise EdgefelError(
                f"{path}: member {name!r} is no plain file inside the folder; do not unpack it"
            )
        top, _, inside = name.partition("/")
        tops.add(top)
        if member.isdir():
            continue
        if inside in found or len(tops) > 1:
            raise EdgefelError(f"{path}: member {name!r} occurs twice, or lies in a second top folder")
        total += member.size
        if total > limit:
            raise EdgefelError(f"{path}: unpacks to more than {limit / 1e9:.0f} GB; do not unpack it")
        stream = tar.extractfile(member)
        assert stream is not None  # a plain file
        if inside == INDEX:
            total -= member.size
            data = stream.read(_LONGEST_INDEX)
            index = _parse_index(path, data)
            continue
        digest = hashlib.sha256()
        while block := stream.read(BLOCK):
            digest.update(block)
        found[inside] = digest.hexdigest()
    if index is None:
        # it is the last member, and tarfile takes a broken header for the end
        raise EdgefelError(
            f"{path}: has no {INDEX}; it is damaged, so copy it again, or not of 'edgefel pack'"
        )
    _compare(path, index.pop("files"), found, extra_allowed=False)
    return Verified(path, index, len(found), total, 0, False, hashlib.sha256(data).hexdigest())


def _verify_folder(path: Path) -> Verified:
    if not (path / INDEX).is_file():
        raise EdgefelError(f"{path}: has no {INDEX}; give what 'edgefel pack' wrote")
    if (path / INDEX).is_symlink():
        raise EdgefelError(f"{path}: {INDEX} is a link; copy the folder again")
    data = (path / INDEX).read_bytes()
    index = _parse_index(path, data)
    wanted: dict[str, Any] = index.pop("files")
    found = {}
    total = 0
    for name in wanted:
        file = path / name
        if any(part.is_symlink() for part in (file, *file.parents[: name.count("/")])):
            raise EdgefelError(f"{path}: {name} is a link, or lies behind one; copy the folder again")
        if file.is_file():
            found[name] = sha256(file)
            total += file.stat().st_size
    engines = found.get(_MANIFEST) != wanted.get(_MANIFEST, {}).get("sha256") and _engines_added(path, wanted)
    if engines:
        found[_MANIFEST] = wanted[_MANIFEST]["sha256"]
    _compare(path, wanted, found, extra_allowed=True)
    extra = sum(1 for file in path.rglob("*") if file.is_file()) - len(found) - 1
    return Verified(path, index, len(found), total, extra, engines, hashlib.sha256(data).hexdigest())


def _engines_added(path: Path, wanted: dict[str, Any]) -> bool:
    """Whether the manifest is the packed one but for engines, which `edgefel engine` adds on the device."""
    try:
        manifest = read_manifest((path / _MANIFEST).parent)
    except EdgefelError:
        return False
    onnx = tuple(file for file in manifest.files if file.kind != "engine")
    packed = manifest_bytes(dataclasses.replace(manifest, files=onnx))
    return hashlib.sha256(packed).hexdigest() == wanted.get(_MANIFEST, {}).get("sha256")


def _parse_index(path: Path, data: bytes) -> dict[str, Any]:
    try:
        index = parse_json(data, f"{path}: {INDEX}")
    except EdgefelError:
        index = None
    if not isinstance(index, dict) or index.get("format") != FORMAT:
        raise EdgefelError(f"{path}: its {INDEX} is not of 'edgefel pack', or damaged")
    if index.get("version") != VERSION:
        raise EdgefelError(
            f"{path}: version {index.get('version')!r}, this edgefel reads {VERSION}; bundle again"
        )
    files = index.get("files")
    sound = isinstance(files, dict) and all(
        is_safe(name) and isinstance(row, dict) and isinstance(row.get("sha256"), str)
        for name, row in files.items()
    )
    if not sound or not files:
        raise EdgefelError(f"{path}: the list of files in {INDEX} is damaged; copy it again")
    return index


def _compare(path: Path, wanted: dict[str, Any], found: dict[str, str], *, extra_allowed: bool) -> None:
    problems = {
        "missing": [name for name in wanted if name not in found],
        "changed": [name for name in wanted if name in found and found[name] != wanted[name]["sha256"]],
        "not in the index": [] if extra_allowed else [name for name in found if name not in wanted],
    }
    texts = []
    for what, names in problems.items():
        if names:
            shown = ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
            texts.append(f"{len(names)} {what} ({shown})")
    if texts:
        raise EdgefelError(f"{path}: {'; '.join(texts)}; copy it again or bundle again")
