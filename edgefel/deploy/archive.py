"""Writes a reproducible tar archive or folder for a device."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import shutil
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any

from edgefel.errors import EdgefelError
from edgefel.files.documents import read_json
from edgefel.files.write import atomic_file, atomic_folder
from edgefel.progress import SILENT, Progress

FORMAT = "edgefel-deploy"
VERSION = 1
INDEX = "index.json"
TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz")
# these suffixes ask for an archive, so no folder of that name is made
_OTHER_ARCHIVES = (".zip", ".7z", ".gz", ".bz2", ".tbz2", ".xz", ".txz", ".zst")
# bytes read at a time
BLOCK = 1 << 20
# 1980-01-01, the oldest date that a zip file (a wheel is one) can hold
OLDEST_TIME = 315532800


@dataclass(frozen=True)
class Entry:
    """One file: its path below the top folder, and its bytes or the file that has them.

    sha256: what the bytes must hash to, where that is known.
    Raises ValueError for a path that leaves the folder.
    """

    path: str
    source: Path | bytes
    executable: bool = False
    sha256: str | None = None

    def __post_init__(self) -> None:
        if not is_safe(self.path):
            raise ValueError(f"path: expected one inside the folder, got {self.path!r}")

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.source) if isinstance(self.source, bytes) else self.source.stat().st_size

    def open(self) -> IO[bytes]:
        """A stream of the bytes."""
        return io.BytesIO(self.source) if isinstance(self.source, bytes) else self.source.open("rb")


@dataclass(frozen=True)
class Written:
    """A file as it was written: path below the top folder, bytes, SHA-256."""

    path: str
    size: int
    sha256: str


def is_safe(path: str) -> bool:
    """Whether a path of an archive stays inside the folder that it is unpacked in."""
    parts = path.split("/")
    return bool(path) and "\\" not in path and "\0" not in path and not {"", ".", ".."} & set(parts)


def build_time() -> int:
    """Seconds since 1970 that all written files carry: $SOURCE_DATE_EPOCH, else 1980-01-01.

    Source: https://reproducible-builds.org/specs/source-date-epoch/. Raises EdgefelError if it is no such number.
    """
    text = os.environ.get("SOURCE_DATE_EPOCH", "")
    if not text:
        return OLDEST_TIME
    # beyond 2107 a zip file has no dates
    if not text.isascii() or not text.isdigit() or int(text) >= 4354819200:
        raise EdgefelError(f"SOURCE_DATE_EPOCH is {text!r}; set it to seconds since 1970, or unset it")
    return int(text)


def is_tar(output: Path) -> bool:
    """Whether a path of this name is written as an archive; all others are folders."""
    return output.name.endswith(TAR_SUFFIXES)


def top_folder(output: Path) -> str:
    """Name of the one folder that everything is in.

    Raises EdgefelError if the output's name has none, or is that of a kind of archive that is not written.
    """
    name = output.name
    if not is_tar(output) and name.lower().endswith((*TAR_SUFFIXES, *_OTHER_ARCHIVES)):
        raise EdgefelError(
            f"{output}: this kind of archive is not written; name it {', '.join(TAR_SUFFIXES)}"
        )
    suffix = next((suffix for suffix in TAR_SUFFIXES if name.endswith(suffix)), "")
    name = name.removesuffix(suffix)
    if not is_safe(name) or name.startswith("-"):
        raise EdgefelError(f"{output}: has no name for the folder inside; name it such as edge.tar")
    return name


def check_output(output: Path, *, overwrite: bool) -> None:
    """Raises EdgefelError if `output` is taken; with `overwrite`, only if it is nothing this module writes."""
    if not output.exists():
        return
    if is_tar(output):
        if not output.is_file():
            raise EdgefelError(f"{output}: exists and is not a file; choose another output")
        if not overwrite:
            raise EdgefelError(f"{output}: exists already; pass --overwrite to replace it")
    elif not output.is_dir():
        raise EdgefelError(f"{output}: exists and is not a folder; choose another output")
    elif any(output.iterdir()):
        if not overwrite:
            raise EdgefelError(f"{output}: the folder is not empty; pass --overwrite to replace it")
        index = read_json(output / INDEX) if (output / INDEX).is_file() else None
        if not isinstance(index, dict) or index.get("format") != FORMAT:
            raise EdgefelError(f"{output}: is no folder of 'edgefel pack', so it is not replaced")


def write(
    entries: Sequence[Entry],
    output: Path,
    header: Mapping[str, Any],
    *,
    overwrite: bool = False,
    progress: Progress = SILENT,
) -> tuple[Written, ...]:
    """Writes `entries` sorted by path, and index.json with their hashes last; `output` appears when it is whole.

    header: what the index says beside the files. Returns what was written, the index included.
    Raises EdgefelError if `output` is taken, or a file's bytes are not those that its entry promises.
    """
    check_output(output, overwrite=overwrite)
    paths = [entry.path for entry in entries]
    if len(set(paths)) != len(paths) or INDEX in paths:
        raise ValueError(f"entries: a path occurs twice, or is {INDEX}")
    progress.start("write files", total=len(entries) + 1)
    with _open(output, overwrite) as put:
        written = []
        for entry in sorted(entries, key=lambda entry: entry.path):
            written.append(_add(put, entry))
            progress.advance()
        index = {
            "format": FORMAT,
            "version": VERSION,
            **header,
            "files": {file.path: {"bytes": file.size, "sha256": file.sha256} for file in written},
        }
        text = json.dumps(index, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
        written.append(_add(put, Entry(INDEX, text.encode())))
        progress.advance()
    return tuple(written)


def _add(put: _Put, entry: Entry) -> Written:
    size = entry.size
    with entry.open() as raw:
        stream = _Hashing(raw)
        put(entry, size, stream)
    digest = stream.digest.hexdigest()
    # the hash covers the bytes written, so a file that changes during the copy is detected
    if stream.count != size or (entry.sha256 is not None and digest != entry.sha256):
        raise EdgefelError(f"{entry.source!s}: its SHA-256 is not the expected one; export or copy it again")
    return Written(entry.path, size, digest)


_Put = Callable[[Entry, int, Any], None]


class _Hashing:
    """A stream that hashes what is read from it."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.digest = hashlib.sha256()
        self.count = 0

    def read(self, size: int = -1) -> bytes:
        block = self._stream.read(size)
        self.digest.update(block)
        self.count += len(block)
        return block


@contextmanager
def _open(output: Path, overwrite: bool) -> Iterator[_Put]:
    """Yields what writes an entry of that size from a stream into the new archive or folder."""
    if not is_tar(output):
        with atomic_folder(output, replace=overwrite) as folder:
            check_output(output, overwrite=overwrite)  # again: what came meanwhile is not replaced
            yield partial(_put_file, folder)
        return
    with atomic_file(output, replace=overwrite) as temporary, ExitStack() as stack:
        out: Any = stack.enter_context(temporary.open("wb"))
        if not output.name.endswith(".tar"):
            # neither a name nor a time in the header: the same contents give the same bytes
            packed = gzip.GzipFile(filename="", fileobj=out, mode="wb", compresslevel=6, mtime=0)
            out = stack.enter_context(packed)
        tar = stack.enter_context(tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT))
        yield partial(_put_member, tar, top_folder(output), build_time())


def _put_member(tar: tarfile.TarFile, top: str, time: int, entry: Entry, size: int, stream: Any) -> None:
    def info(name: str, mode: int, kind: bytes) -> tarfile.TarInfo:
        found = tarfile.TarInfo(name)  # of root, without names
        found.mode, found.type, found.mtime = mode, kind, time
        return found

    name = f"{top}/{entry.path}"
    for folder in reversed(PurePosixPath(name).parents[:-1]):
        if str(folder) not in tar.getnames():
            tar.addfile(info(str(folder), 0o755, tarfile.DIRTYPE))
    member = info(name, 0o755 if entry.executable else 0o644, tarfile.REGTYPE)
    member.size = size
    try:
        tar.addfile(member, stream)
    except OSError as error:
        # tarfile's own words when a file has become shorter; the operating system's errors have a number
        if error.errno is not None:
            raise
        raise EdgefelError(f"{entry.source!s}: changed while it was read; try again") from None


def _put_file(folder: Path, entry: Entry, size: int, stream: Any) -> None:
    path = folder / entry.path
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as out:
        shutil.copyfileobj(stream, out, BLOCK)
    if entry.executable:
        path.chmod(path.stat().st_mode | 0o111)
