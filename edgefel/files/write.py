"""Atomic writes of files and folders, hashes, JSON (read by `edgefel.files.documents`)."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import secrets
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any

from edgefel.errors import EdgefelError
from edgefel.files.unfinished import (
    claimed_file,
    claimed_folder,
    is_at,
    put_aside,
    rename_new,
    replace_folder,
    sync_folder,
    try_lock,
)

LOCK_NAME = ".lock"
# no space left, quota exceeded, file too large
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

_SURROGATE = re.compile("[\ud800-\udfff]")


@contextmanager
def atomic_file(path: str | os.PathLike[str], *, replace: bool = True) -> Iterator[Path]:
    """Yields a temporary file beside `path`, to be written into; renamed to `path` when the block ends without error.

    It has the suffix of `path`. A link is followed: its target is replaced. Raises EdgefelError for a `path` that is
    not a file, and, unless `replace` is set, for an existing file or one that appears meanwhile: that stays as it is,
    and what was written gets a name beside it.
    """
    path = _behind_links(Path(path))
    mode = _mode_of_file(path)
    if mode is not None and not replace:
        raise EdgefelError(f"{path}: exists already; choose another name")
    path.parent.mkdir(parents=True, exist_ok=True)
    with claimed_file(path) as temporary:
        yield temporary
        _sync(temporary)
        if mode is not None:
            temporary.chmod(mode)
        if replace:
            temporary.replace(path)
        elif not rename_new(temporary, path):
            raise EdgefelError(
                f"{path}: appeared meanwhile and is left as it is; what was written is {put_aside(temporary, path)}"
            )
        sync_folder(path.parent)


def check_new_file(path: Path, *, overwrite: bool) -> None:
    """Raises EdgefelError if `path` is a folder, lies below a file, or exists and may not be overwritten."""
    if path.is_dir():
        raise EdgefelError(f"{path}: is a folder; give a file's name")
    nearest = next(folder for folder in path.absolute().parents if folder.exists())
    if not nearest.is_dir():
        raise EdgefelError(
            f"{path}: cannot be written, {nearest} is a file, not a folder; choose another place"
        )
    if path.exists() and not overwrite:
        raise EdgefelError(f"{path}: exists; choose another name, remove it, or allow it with --overwrite")


def check_free(path: Path, *, replace: bool = False) -> None:
    """Raises EdgefelError if `path` cannot become a new folder.

    That is: anything else than a folder, a folder that is not empty unless `replace` is set, the current folder, and a
    mount point.
    """
    if not path.is_dir():
        if path.exists():
            raise EdgefelError(f"{path}: exists and is not a folder; choose another output folder")
        return
    if any(path.iterdir()) and not replace:
        raise EdgefelError(f"{path}: the folder is not empty; choose another one or remove it first")
    current = os.path.samestat(path.stat(), os.stat(os.curdir))  # noqa: PTH116
    if current or os.path.ismount(path):  # Path.is_mount() is true for "."
        what = "the current folder" if current else "a mounted disk"
        raise EdgefelError(f"{path}: is {what}, which cannot be replaced; name a new folder in it")


@contextmanager
def atomic_folder(path: str | os.PathLike[str], *, replace: bool = False) -> Iterator[Path]:
    """Yields a temporary folder beside `path`, to be filled; renamed to `path` when the block ends without error.

    Raises EdgefelError if `path` exists and is not an empty folder, unless `replace` is set; while another process
    writes there; and if something was put there meanwhile: that stays as it is, and the new folder gets a name beside
    it. With `replace`, a folder that has not changed meanwhile is replaced, atomically where the system can.
    """
    path = _behind_links(Path(path))
    check_free(path, replace=replace)
    path.parent.mkdir(parents=True, exist_ok=True)
    with claimed_folder(path) as room:
        check_free(path, replace=replace)  # it may have been restored after a crash
        before = _contents(path)
        # a new name: workers of a killed process may still be writing to the last one
        temporary = room / secrets.token_hex(4)
        temporary.mkdir()
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                _sync(file)
            elif file.is_dir():
                sync_folder(file)
        sync_folder(temporary)
        put_new_folder(temporary, path, before)


def put_new_folder(
    folder: Path, path: Path, before: Mapping[str, tuple[int, ...]] = MappingProxyType({})
) -> None:
    """Renames a finished folder to `path`, which may be absent, empty, or hold the contents `before`.

    Raises EdgefelError if it holds anything else: that stays as it is, and `folder` gets a name beside it.
    """
    reason = "something was put there meanwhile, which is left as it is"
    try:
        if not before:
            folder.rename(path)  # replaces an empty folder only
            done = True
        elif path.is_dir():
            done = replace_folder(folder, path, lambda old: _contents(old) == before)
        else:
            done = rename_new(folder, path)
    except OSError as error:
        done = False
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
            reason = f"cannot be put there ({error.strerror})"
    if not done:
        raise EdgefelError(f"{path}: {reason}; the finished folder is {put_aside(folder, path)}")
    sync_folder(path.parent)


def _contents(folder: Path) -> dict[str, tuple[int, ...]]:
    """The contents of a folder by relative path: inode, bytes and time of every file; () for folders."""
    found: dict[str, tuple[int, ...]] = {}
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):
            state = path.lstat()
            key = () if stat.S_ISDIR(state.st_mode) else (state.st_ino, state.st_size, state.st_mtime_ns)
            found[str(path.relative_to(folder))] = key
    return found


def _behind_links(path: Path) -> Path:
    return Path(os.path.realpath(path)) if path.is_symlink() else path


def _mode_of_file(path: Path) -> int | None:
    """The permissions of the existing file, else None. Raises EdgefelError for a folder or a device."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return None
    if not stat.S_ISREG(mode):
        raise EdgefelError(f"{path}: exists and is not a file; choose another name")
    return stat.S_IMODE(mode)


def write_text(path: str | os.PathLike[str], text: str, *, replace: bool = True) -> None:
    """Writes `text` (UTF-8) atomically; see `atomic_file`. Undecodable bytes of file names in it become escapes."""
    with atomic_file(path, replace=replace) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_json(path: str | os.PathLike[str], value: Any, *, replace: bool = True) -> None:
    """Writes `value` as indented JSON, atomically. NaN and infinity are refused: they are not JSON."""
    write_text(path, json_text(value, indent=2) + "\n", replace=replace)


def json_text(value: Any, *, indent: int | None = None) -> str:
    """Strict JSON. Lone surrogates, which stand for undecodable bytes of file names, become escapes."""
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
    """Locks an open file until it is closed or its process ends, however that ends.

    False if another process holds the lock and `wait` is not set. True, without a lock, where the system has none.
    """
    return try_lock(descriptor, wait=wait) is not False


@contextmanager
def sole_user(folder: Path, otherwise: str) -> Iterator[None]:
    """Locks `folder`, which is created if missing, against other processes that make the same call.

    A created folder that stays empty is removed. Raises EdgefelError with the message `otherwise` if another process
    holds the lock.
    """
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    path = folder / LOCK_NAME
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        with path.open("a") as held:
            if not lock(held.fileno()):
                raise EdgefelError(otherwise)
            if not is_at(held.fileno(), path):  # its last user has just removed it
                continue
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
                with suppress(OSError):
                    for place in made:
                        place.rmdir()
            return


def _sync(path: Path) -> None:
    with path.open("rb") as stream:
        os.fsync(stream.fileno())
