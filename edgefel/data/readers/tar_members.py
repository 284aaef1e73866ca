"""The members of a tar archive, in order, read with little memory; for shards in WebDataset's layout."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from typing import IO, Any

from edgefel.data.images import MOST_BYTES
from edgefel.text import counted

IMAGES = frozenset({"jpg", "jpeg", "png", "webp"})
# the last two are raised for invalid or too large numbers in extended headers
UNREADABLE = (OSError, tarfile.TarError, ValueError, OverflowError)


def members(stream: IO[bytes]) -> Iterator[tuple[tarfile.TarInfo, Any]]:
    """The files of an archive, each with the archive's stream, in which it starts at offset_data.

    Raises what is in UNREADABLE for what is no whole archive without compression, when it comes to the place.
    """
    with tarfile.open(fileobj=stream, mode="r:") as archive:
        while (member := archive.next()) is not None:
            if member.issparse():  # its size is not the number of its bytes
                raise tarfile.ReadError(f"the member {member.name!r} is sparse")
            if member.isreg():
                yield member, archive.fileobj
            # tarfile keeps every header that it has read
            archive.members = []  # type: ignore[attr-defined]
        # tarfile takes a broken header for the end; two blocks of zeros are the end
        archive.fileobj.seek(archive.offset)
        if archive.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise tarfile.ReadError(f"it breaks off at byte {archive.offset}, without a mark of its end")


def encoded_images(stream: IO[bytes]) -> Iterator[tuple[str, bytes]]:
    """The names and bytes of the images in an archive. Raises what `members` raises."""
    for member, archive in members(stream):
        if split_name(member.name)[1] not in IMAGES:
            continue
        if member.size > MOST_BYTES:
            raise OSError(f"the member {member.name!r} has more than {MOST_BYTES >> 20} MiB")
        archive.seek(member.offset_data)
        data = archive.read(member.size)
        if len(data) != member.size:
            raise OSError(f"it ends before the {counted(member.size, 'byte')} of the member {member.name!r}")
        yield member.name, data


def split_name(name: str) -> tuple[str, str]:
    """Key and lower-case extension of a member; no extension for hidden files."""
    folder, slash, base = name.rpartition("/")
    stem, _, kind = base.partition(".")
    return (folder + slash + stem, kind.lower()) if stem else (name, "")
