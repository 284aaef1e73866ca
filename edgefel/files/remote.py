"""Files at addresses such as s3://bucket/key, by fsspec. `edgefel.files.read` opens them as it opens files on a disk.

Any address that fsspec knows: https://filesystem-spec.readthedocs.io. Its packages come with `edgefel[objects]`, and
credentials from where they look for them (for S3: environment, configuration files, the machine's role).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PosixPath
from typing import Any

from edgefel.errors import EdgefelError, MissingDependencyError
from edgefel.text import one_line

# read ahead when a shard is read in order: few requests, and at most two blocks in memory
_BLOCK = 8 << 20
# whose errors are no OSError
_PACKAGES = ("botocore", "aiohttp", "gcsfs", "adlfs", "asyncio")


class Address(PosixPath):
    """An address where a path is expected. Joining, parents, names and suffixes are a path's; the questions below go
    to the file system of its protocol. Not universal_pathlib's paths, which are no `Path` and fetch whole blocks.
    """

    __slots__ = ()

    def __str__(self) -> str:
        protocol, colon, rest = super().__str__().partition(":/")
        return f"{protocol}://{rest}" if colon else protocol

    # those of Path take options in some versions of Python
    def is_file(self, **options: Any) -> bool:
        """Raises EdgefelError if that cannot be found out."""
        return _kind(self) == "file"

    def is_dir(self, **options: Any) -> bool:
        """Raises EdgefelError if that cannot be found out."""
        return _kind(self) == "directory"

    def exists(self, **options: Any) -> bool:
        """Raises EdgefelError if that cannot be found out."""
        return _kind(self) is not None

    def absolute(self) -> Address:
        return self

    def resolve(self, strict: bool = False) -> Address:
        return self


def is_address(place: str | os.PathLike[str]) -> bool:
    """Whether it names a file system by its protocol, as s3://bucket/key does."""
    return "://" in os.fspath(place)


def as_path(place: str | os.PathLike[str]) -> Path:
    """An Address, or a path on a disk, also of file:///tmp."""
    text = os.fspath(place)
    if text.startswith("file://"):
        return Path(text.removeprefix("file://"))
    return Address(text) if is_address(text) else Path(text)


def joined(place: str, name: str) -> str:
    """The file `name` in the folder `place`; `name` itself if it is an address, or on a disk an absolute path."""
    if is_address(name):
        return name
    return f"{place.rstrip('/')}/{name.lstrip('/')}" if is_address(place) else str(Path(place, name))


def open_address(place: str | os.PathLike[str], *, ahead: bool = True) -> Any:
    """A binary stream, closed by its user, that can be read from any byte on. Raises OSError.

    ahead: also fetch what follows, for reading in order; else only what is asked for, which is not kept.
    """
    system, path = _system(place)
    with as_os_error():
        return system.open(path, "rb", block_size=_BLOCK, cache_type="readahead" if ahead else "none")


def fetch(place: str | os.PathLike[str], most: int) -> bytes:
    """A whole file. Raises OSError, also for more than `most` bytes."""
    # one request, and one byte more than allowed
    data = fetch_range(place, 0, most + 1)
    if len(data) > most:
        raise OSError(f"has more than {most >> 20} MiB")
    return data


def fetch_range(place: str | os.PathLike[str], start: int, size: int) -> bytes:
    """`size` bytes from `start` on, fewer where the file ends before. Raises OSError."""
    system, path = _system(place)
    with as_os_error():
        return bytes(system.cat_file(path, start=start, end=start + size))


def list_address(place: str) -> list[tuple[str, int]]:
    """Names, relative to `place`, and sizes of all files below it, sorted; one with the name "" if it is a file.

    Raises EdgefelError if there is nothing, or it cannot be listed.
    """
    system, path = _system(place)
    with _named(place):
        found = system.find(path, detail=True)
    if not found:
        raise EdgefelError(f"{place}: nothing is there; is the address right?")
    start = system._strip_protocol(path).rstrip("/")
    return sorted(
        (name.removeprefix(start).lstrip("/"), int(about.get("size") or 0)) for name, about in found.items()
    )


def list_folder(place: str | os.PathLike[str]) -> tuple[list[str], list[str]]:
    """Names of the files and of the folders directly in a folder, sorted. Raises EdgefelError."""
    system, path = _system(place)
    with _named(place):
        found = system.ls(path, detail=True)
    start = system._strip_protocol(path).rstrip("/")
    files, folders = set[str](), set[str]()
    for about in found:
        name = about["name"].removeprefix(start).strip("/")
        if name:  # a key that stands for the folder itself has none
            (folders if about["type"] == "directory" else files).add(name)
    return sorted(files), sorted(folders)


def state_of(place: str | os.PathLike[str]) -> str:
    """What changes when the file does: size, time, hash, as far as its file system says them. Raises OSError."""
    system, path = _system(place)
    with as_os_error():
        return repr(sorted((name, str(value)) for name, value in system.info(path).items()))


@contextmanager
def as_os_error() -> Iterator[None]:
    """Turns what the packages of protocols raise (botocore's errors are no OSError) into OSError."""
    try:
        yield
    except (OSError, EdgefelError, GeneratorExit):
        raise
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in _PACKAGES:
            raise
        raise OSError(one_line(error)) from error


def _kind(place: Address) -> str | None:
    """ "file", "directory", or None for nothing."""
    system, path = _system(place)
    try:
        with as_os_error():
            return str(system.info(path)["type"])
    except FileNotFoundError:
        return None
    except OSError as error:
        raise EdgefelError(f"{place}: cannot be reached ({one_line(error)})") from None


@contextmanager
def _named(place: str | os.PathLike[str]) -> Iterator[None]:
    try:
        with as_os_error():
            yield
    except OSError as error:
        raise EdgefelError(f"{place}: cannot be listed ({one_line(error)})") from None


def _system(place: str | os.PathLike[str]) -> tuple[Any, str]:
    place = os.fspath(place)
    try:
        import fsspec
    except ImportError:
        raise MissingDependencyError("fsspec", "objects", place) from None
    try:
        # a listing that is kept would hide what others write meanwhile
        return fsspec.core.url_to_fs(place, use_listings_cache=False)
    except ImportError as error:  # of the protocol's own package
        raise MissingDependencyError(error.name or "of the protocol", "objects", place) from None
    except ValueError as error:
        raise EdgefelError(f"{place}: {one_line(error)}") from None
