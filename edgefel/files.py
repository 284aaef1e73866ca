"""Files that are either whole or absent: atomic writes, hashes, JSON (read by `edgefel.documents`)."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edgefel.documents import read_json as read_json
from edgefel.errors import EdgefelError

_SURROGATE = re.compile("[\ud800-\udfff]")


@contextmanager
def atomic_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yields a temporary path beside `path`; renames it over `path` when the block ends well.

    The temporary name keeps the suffix, since image and video writers choose their format by it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.stem}.", suffix=f".tmp{path.suffix}", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        _sync(temporary)
        # mkstemp makes files private; a result should have the mode that open() would give it
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def check_free(path: Path, *, replace: bool = False) -> None:
    """Raises EdgefelError if `path` exists and is not a folder, or not an empty one unless `replace` is set."""
    if path.exists() and not path.is_dir():
        raise EdgefelError(f"{path}: exists and is not a folder; choose another output folder")
    if path.is_dir() and any(path.iterdir()) and not replace:
        raise EdgefelError(f"{path}: the folder is not empty; choose another one or remove it first")


@contextmanager
def atomic_folder(path: str | os.PathLike[str], *, replace: bool = False) -> Iterator[Path]:
    """Yields a temporary folder beside `path`; renames it to `path` when the block ends well.

    Raises EdgefelError if `path` exists and is not an empty folder, unless `replace` is set; then the old
    folder is moved aside first and removed after the new one is in place.
    """
    path = Path(path)
    check_free(path, replace=replace)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent))
    try:
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                _sync(file)
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o777 & ~mask)
        old = None
        if path.is_dir():
            old = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".old", dir=path.parent))
            path.replace(old)
        temporary.replace(path)
        if old is not None:
            shutil.rmtree(old)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Writes `text` (UTF-8) atomically; undecodable bytes of file names in it become escapes."""
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Writes `value` as indented JSON, atomically. NaN and infinity are refused: they are not JSON."""
    write_text(path, json_text(value, indent=2) + "\n")


def json_text(value: Any, *, indent: int | None = None) -> str:
    """Strict JSON that any encoding can write: characters as they are, but for the lone surrogates that stand for the
    undecodable bytes of a file name, which become escapes."""
    text = json.dumps(value, indent=indent, allow_nan=False, ensure_ascii=False)
    return _SURROGATE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def sha256(path: str | os.PathLike[str]) -> str:
    """Hex SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def lock(descriptor: int, *, wait: bool = False) -> bool:
    """Keeps other processes out of an open file until it is closed, or its process ends, however that ends.

    False if another process holds it and `wait` is not set. Where the system has no such locks nothing is kept out.
    """
    try:
        import fcntl
    except ImportError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _sync(path: Path) -> None:
    with path.open("rb") as stream:
        os.fsync(stream.fileno())
