"""Files at addresses such as s3://bucket/key, by fsspec; local paths by the standard library.

Any address that fsspec knows: https://filesystem-spec.readthedocs.io. Its packages come with `edgefel[objects]`, and
credentials from where they look for them (for S3: environment, configuration files, the machine's role).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from edgefel.errors import EdgefelError, MissingDependencyError
from edgefel.files.read import open_regular, read_regular
from edgefel.text import one_line

# read ahead when a shard is read in order: few requests, and at most two blocks in memory
_BLOCK = 8 << 20


def is_address(place: str) -> bool:
    """Whether it names a file system by its protocol, as s3://bucket/key does."""
    return "://" in place


def joined(place: str, name: str) -> str:
    """The file `name` in the folder `place`; `name` itself if it is an absolute path or an address."""
    if is_address(name):
        return name
    return f"{place.rstrip('/')}/{name}" if is_address(place) else str(Path(place, name))


@contextmanager
def open_binary(place: str) -> Iterator[IO[bytes]]:
    """A file that can be read from any byte on; of an address only what is read is fetched. Raises OSError."""
    if not is_address(place):
        with open(open_regular(place), "rb") as stream:  # noqa: PTH123 - a descriptor
            yield stream
        return
    system, path = _system(place)
    with _as_os_error(), system.open(path, "rb", block_size=_BLOCK, cache_type="readahead") as stream:
        yield stream


def read_binary(place: str, most: int) -> bytes:
    """A whole file. Raises OSError, also for more than `most` bytes."""
    if not is_address(place):
        return read_regular(place, most)
    system, path = _system(place)
    with _as_os_error():
        # one request, and one byte more than allowed
        data = system.cat_file(path, start=0, end=most + 1)
    if len(data) > most:
        raise OSError(f"has more than {most >> 20} MiB")
    return bytes(data)


def list_address(place: str) -> list[tuple[str, int]]:
    """Names, relative to `place`, and sizes of all files below it, sorted; one with the name "" if it is a file.

    Raises EdgefelError if there is nothing, or it cannot be listed.
    """
    system, path = _system(place)
    try:
        with _as_os_error():
            found = system.find(path, detail=True)
    except OSError as error:
        raise EdgefelError(f"{place}: cannot be listed ({one_line(error)})") from None
    if not found:
        raise EdgefelError(f"{place}: nothing is there; is the address right?")
    start = system._strip_protocol(path).rstrip("/")
    return sorted(
        (name.removeprefix(start).lstrip("/"), int(about.get("size") or 0)) for name, about in found.items()
    )


def _system(place: str) -> tuple[Any, str]:
    try:
        import fsspec
    except ImportError:
        raise MissingDependencyError("fsspec", "objects", place) from None
    try:
        return fsspec.core.url_to_fs(place)
    except ImportError as error:  # of the protocol's own package
        raise MissingDependencyError(error.name or "of the protocol", "objects", f"{place}") from None
    except ValueError as error:
        raise EdgefelError(f"{place}: {one_line(error)}") from None


@contextmanager
def _as_os_error() -> Iterator[None]:
    """Turns what the packages of protocols raise (botocore's errors are no OSError) into OSError."""
    try:
        yield
    except (OSError, EdgefelError, GeneratorExit):
        raise
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in (
            "botocore",
            "aiohttp",
            "gcsfs",
            "adlfs",
            "asyncio",
        ):
            raise
        raise OSError(one_line(error)) from error
