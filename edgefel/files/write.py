"""Files that are either whole or absent: atomic writes, hashes, JSON (read by `edgefel.files.documents`)."""

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
from edgefel.files.documents import read_json as read_json
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
    """Yields a temporary file beside `path`, to be written into; it gets that name when the block ends well.

    Its own name keeps the suffix, since image and video writers choose their format by it. What `path` links to is
    replaced, and not the link. Raises EdgefelError for what is no file, and, where `replace` is not set, for a file
    that is there or appears meanwhile: that stays as it is, and what was written gets a name beside it.
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


def check_free(path: Path, *, replace: bool = False) -> None:
    """Raises EdgefelError if `path` is no place for a new folder.

    That is what exists and is not a folder, a folder that is not empty unless `replace` is set, the current folder, and
    one on which a disk is mounted: another folder cannot take their places.
    """
    if path.exists() and not path.is_dir():
        raise EdgefelError(f"{path}: exists and is not a folder; choose another output folder")
    if path.is_dir() and any(path.iterdir()) and not replace:
        raise EdgefelError(f"{path}: the folder is not empty; choose another one or remove it first")
    if path.is_dir():
        if os.path.samestat(path.stat(), os.stat(os.curdir)):  # noqa: PTH116
            what = "the current folder"
        elif os.path.ismount(path):  # Path has it too, which takes "." for one
            what = "a mounted disk"
        else:
            return
        raise EdgefelError(f"{path}: is {what}, which cannot be replaced; name a new folder in it")


@contextmanager
def atomic_folder(path: str | os.PathLike[str], *, replace: bool = False) -> Iterator[Path]:
    """Yields a temporary folder beside `path`, to be filled; it gets that name when the block ends well.

    Raises EdgefelError if `path` exists and is not an empty folder, unless `replace` is set, while another process
    writes there, and if anything was put there meanwhile: that stays as it is, and the new folder gets a name beside
    it. With `replace`, a folder that nobody has changed meanwhile is replaced, in one step where the system can.
    """
    path = _behind_links(Path(path))
    check_free(path, replace=replace)
    path.parent.mkdir(parents=True, exist_ok=True)
    with claimed_folder(path) as room:
        check_free(path, replace=replace)  # it may have been brought back after a crash
        before = _contents(path)
        # a name that no worker of a killed process, which may live a moment longer, writes to
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
    """Renames a finished folder to `path`, where nothing, an empty folder, or the contents `before` may be.

    Raises EdgefelError if there is something else: that stays as it is, and `folder` gets a name beside it.
    """
    try:
        if not before:
            folder.rename(path)  # which takes an empty folder's place, and no other's
            done = True
        elif path.is_dir():
            done = replace_folder(folder, path, lambda old: _contents(old) == before)
        else:
            done = rename_new(folder, path)
        reason = "something was put there meanwhile, which is left as it is"
    except OSError as error:
        done, reason = False, f"cannot be put there ({error.strerror})"
        if error.errno in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
            reason = "something was put there meanwhile, which is left as it is"
    if not done:
        raise EdgefelError(f"{path}: {reason}; the finished folder is {put_aside(folder, path)}")
    sync_folder(path.parent)


def _contents(folder: Path) -> dict[str, tuple[int, ...]]:
    """What there is in a folder, by relative path: inode, bytes and time of every file; () for folders."""
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
    """The permissions of the file that is there; None without one. Raises EdgefelError for a folder or a device."""
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

    False if another process holds it and `wait` is not set. Where the system, or the file's, has no such locks
    nothing is kept out.
    """
    return try_lock(descriptor, wait=wait) is not False


@contextmanager
def sole_user(folder: Path, otherwise: str) -> Iterator[None]:
    """While it lasts, no other process gets past the same call for `folder`, which is made if it is not there.

    A folder that was made and stays empty is removed. Raises EdgefelError, with the line `otherwise`, if another
    process is there.
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
