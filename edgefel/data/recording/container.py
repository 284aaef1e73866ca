"""What the containers share: the track, the file, and the interface that the writer uses."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from edgefel.errors import EdgefelError


@dataclass(frozen=True)
class VideoTrack:
    """size: (width, height). fps: the nominal rate, which frames need not keep. first: the first compressed frame."""

    size: tuple[int, int]
    fps: float
    first: bytes


class Container(Protocol):
    """Puts compressed frames into a file that can be played after each of them."""

    def add(self, data: bytes, time: float) -> None:
        """Appends a compressed frame. time: seconds since the first frame, not before the previous one."""
        ...

    def finish(self) -> None:
        """Adds the index and the length after at least one frame; without them players cannot seek quickly."""
        ...


class File:
    """A file to which whole pieces are appended; a piece that fails half-way is cut off again.

    Raises EdgefelError if the disk is full or the file was removed.
    """

    def __init__(self, descriptor: int, path: Path) -> None:
        self._descriptor, self._path = descriptor, path
        self.size = 0

    def append(self, data: bytes) -> None:
        view, done = memoryview(data), 0
        try:
            while done < len(view):
                done += os.write(self._descriptor, view[done:])
            self.size += done
        except BaseException as error:
            os.ftruncate(self._descriptor, self.size)
            os.lseek(self._descriptor, self.size, os.SEEK_SET)
            if isinstance(error, OSError):
                raise self._failed(error.strerror or str(error)) from None
            raise
        if os.fstat(self._descriptor).st_nlink == 0:
            raise self.removed()

    def replace(self, offset: int, data: bytes) -> None:
        """Overwrites existing bytes."""
        try:
            os.lseek(self._descriptor, offset, os.SEEK_SET)
            os.write(self._descriptor, data)
        except OSError as error:
            raise self._failed(error.strerror or str(error)) from None
        finally:
            os.lseek(self._descriptor, self.size, os.SEEK_SET)

    def removed(self) -> EdgefelError:
        return EdgefelError(f"{self._path}: was removed while it was written; write to a folder that stays")

    def _failed(self, reason: str) -> EdgefelError:
        return EdgefelError(
            f"{self._path}: not every frame could be written ({reason}); free disk space, or save elsewhere"
        )


def is_key(data: bytes) -> bool:
    """Whether an MPEG-4 frame decodes without earlier ones; FFmpeg puts the sequence header before such frames."""
    return data.startswith(b"\0\0\1\xb0")


def decoder_config(data: bytes) -> bytes:
    """The sequence header of the first MPEG-4 frame: all before the start code of a group (B3) or a VOP (B6)."""
    ends = [place for code in (b"\0\0\1\xb3", b"\0\0\1\xb6") if (place := data.find(code)) >= 0]
    return data[: min(ends)]
