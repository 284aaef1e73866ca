"""Unfinished output, under a hidden name beside its target: claimed, swept, moved into place.

`.NAME.edgefel-HOST.tmp` is locked for as long as its process lives, however that ends. The next command that writes
into the same folder removes what dead processes of this machine have left there, and nothing else.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import hashlib
import os
import platform
import re
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

from edgefel.errors import EdgefelError

# errors of systems and file systems without such locks
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EBADF)
_NOREPLACE, _EXCHANGE = 1, 2
_AT_FDCWD = -100
_LONGEST = 180  # bytes of a name that are kept; file systems allow 255


def try_lock(descriptor: int, *, wait: bool = False) -> bool | None:
    """Locks an open file or folder until it is closed or its process ends.

    False if another process holds the lock, None where there are no such locks.
    """
    try:
        import fcntl
    except ImportError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return None
        raise
    return True


@contextmanager
def claimed_file(target: Path) -> Iterator[Path]:
    """A new empty file beside `target`, to be written into; removed at the end unless it was moved.

    It has the suffix of `target`, by which image and video writers choose their format.
    """
    sweep(target.parent)
    while True:
        name = f".{_short(target.stem)}.{secrets.token_hex(4)}.{_mark()}.tmp{target.suffix}"
        path = target.with_name(name)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        if try_lock(descriptor) is not False and is_at(descriptor, path):
            break
        os.close(descriptor)  # swept before it was locked
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


@contextmanager
def claimed_folder(target: Path, *, sole: bool = True) -> Iterator[Path]:
    """A new empty folder beside `target`, to work in; removed at the end.

    sole: raises EdgefelError while another process has one for the same `target`, and restores what a crash of
    `replace_folder` has left; else there can be several.
    """
    sweep(target.parent)
    several = not sole
    while True:
        mark = f"{secrets.token_hex(4)}.{_mark()}" if several else _mark()
        path = target.with_name(f".{_short(target.name)}.{mark}.tmp")
        gone = _remove_dead(path)
        if gone is None:
            several = True  # without locks it is unknown whether it is still in use: it stays
            continue
        if not gone:
            raise EdgefelError(
                f"{target}: another process is writing there; wait for it, or choose another output"
            )
        try:
            path.mkdir()
        except FileExistsError:
            continue
        descriptor = _open_folder(path)
        if descriptor is None or (try_lock(descriptor) is not False and is_at(descriptor, path)):
            break
        _close(descriptor)  # removed as dead before it was locked
    try:
        if sole:
            _recover(target)
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        _close(descriptor)


def sweep(folder: Path) -> None:
    """Removes what dead processes of this machine have left unfinished in `folder`; once in each process."""
    _sweep(os.path.realpath(folder))


@functools.cache
def _sweep(place: str) -> None:
    ours = re.compile(rf"\..+\.{_mark()}\.tmp(\.[^.]*)?")
    with suppress(OSError), os.scandir(place) as entries:
        for name in [entry.name for entry in entries if ours.fullmatch(entry.name)]:
            with suppress(OSError):
                _remove_dead(Path(place, name))


def rename_new(source: Path, target: Path) -> bool:
    """Moves a file or a folder to a free name; False, and nothing done, if the name is taken."""
    if (done := _renameat2(source, target, _NOREPLACE)) is not None:
        return done
    is_folder = source.is_dir()
    try:
        if is_folder:
            source.rename(target)  # replaces an empty folder only
        else:
            os.link(source, target)
    except OSError as error:
        if os.path.lexists(target):
            return False
        if is_folder or error.errno == errno.ENOENT:
            raise
        source.rename(target)  # a file system without hard links; not atomic
        return True
    if not is_folder:
        source.unlink()
    return True


def put_aside(source: Path, target: Path, word: str = "finished") -> Path:
    """Moves what cannot be put at `target` to a free name beside it, `NAME.finished`, and returns that."""
    stem, suffix = (target.name, "") if source.is_dir() else (target.stem, target.suffix)
    for number in count(1):
        ending = word if number == 1 else f"{word}-{number}"
        place = target.with_name(f"{_short(stem)}.{ending}{suffix}")
        if rename_new(source, place):
            break
    return place


def replace_folder(source: Path, target: Path, accept: Callable[[Path], bool]) -> bool:
    """Exchanges the folder `source`, in a `claimed_folder`, and the folder `target`.

    accept: whether the old folder may go; asked before, and again once nothing can be added to it by its name. False,
    and nothing done, if it declines. Atomic where the system supports it; else the next `claimed_folder` recovers from
    a crash in between.
    """
    if not accept(target):
        return False
    if not _renameat2(source, target, _EXCHANGE):
        return _replace_in_two_steps(source, target, accept)
    accepted = False
    try:
        accepted = accept(source)
    finally:
        if not accepted:
            _renameat2(source, target, _EXCHANGE)
    return accepted


def sync_folder(folder: Path) -> None:
    """Makes renames in `folder` durable through a power cut, where the file system can."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _replace_in_two_steps(source: Path, target: Path, accept: Callable[[Path], bool]) -> bool:
    old = _old(target)
    target.rename(old)
    try:
        accepted = accept(old)
        if accepted:
            source.rename(target)
    except BaseException:
        rename_new(old, target)
        raise
    if not accepted:
        if not rename_new(old, target):
            put_aside(old, target, "old")
        return False
    # under this name it is a leftover, and no longer restored after a crash
    old.rename(source)
    return True


def _recover(target: Path) -> None:
    """Restores the folder that was moved away for one that was never put in its place."""
    old = _old(target)
    if old.is_dir() and not rename_new(old, target):
        put_aside(old, target, "old")


def _old(target: Path) -> Path:
    return target.with_name(f".{_short(target.name)}.{_mark()}.old")


def _remove_dead(path: Path) -> bool | None:
    """Removes a leftover. True if nothing is left; False if a process uses it, None if that is unknown."""
    try:
        is_folder = stat.S_ISDIR(path.lstat().st_mode)
        descriptor = (
            _open_folder(path) if is_folder else os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
        )
    except FileNotFoundError:
        return True
    if descriptor is None:
        return None
    try:
        if not (locked := try_lock(descriptor)):
            return locked
        if is_at(descriptor, path):
            _discard(path)
    finally:
        _close(descriptor)
    return True


def _discard(path: Path) -> None:
    """Removes a file or folder that this process has locked; its name is free at once."""
    aside = path.with_name(f".{secrets.token_hex(8)}.{_mark()}.tmp")
    with suppress(FileNotFoundError):
        path.rename(aside)
        if aside.is_dir():
            shutil.rmtree(aside, ignore_errors=True)
        else:
            aside.unlink()


def _open_folder(path: Path) -> int | None:
    """None where folders cannot be opened (Windows)."""
    if not hasattr(os, "O_DIRECTORY"):
        return None
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)


def _close(descriptor: int | None) -> None:
    if descriptor is not None:
        os.close(descriptor)


def is_at(descriptor: int | None, path: Path) -> bool:
    """Whether an open file or folder still has this name."""
    if descriptor is None:
        return True
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False


def _short(name: str) -> str:
    """The name, shortened so that a prefix and suffix can be added."""
    encoded = os.fsencode(name)
    if len(encoded) <= _LONGEST:
        return name
    return f"{encoded[:_LONGEST].decode(errors='ignore')}.{hashlib.sha256(encoded).hexdigest()[:8]}"


@functools.cache
def _mark() -> str:
    """Identifies this machine: locks of another one, on a shared disk, may be invisible here."""
    try:
        identity = Path("/etc/machine-id").read_text(encoding="ascii")
    except (OSError, ValueError):
        identity = ""
    return f"edgefel-{hashlib.sha256(f'{platform.node()} {identity}'.encode()).hexdigest()[:8]}"


def _renameat2(source: Path, target: Path, flag: int) -> bool | None:
    """False if the target is taken; None where the system or file system lacks the call. Raises OSError."""
    call = getattr(_libc(), "renameat2", None)
    if call is None:
        return None
    if not call(_AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target), flag):
        return True
    code = ctypes.get_errno()
    if code in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP):
        return None
    if code == errno.EEXIST:
        return False
    raise OSError(code, os.strerror(code), str(target))


@functools.cache
def _libc() -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL(None, use_errno=True)
    except (OSError, TypeError):
        return None
