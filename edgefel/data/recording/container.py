"""What the containers share: the file, and what an MPEG-4 frame says of itself."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from edgefel.errors import EdgefelError


class File:
    """An empty file to which whole pieces are appended; a piece that fails half-way is cut off again.

    Raises EdgefelError if the disk is full or the file was removed. Pipes are supported.
    """

    def __init__(self, descriptor: int, path: Path, piece: str = "frame") -> None:
        """piece: what is appended, for messages."""
        self._descriptor, self._path, self._piece = descriptor, path, piece
        self._regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
        self.size = 0

    def append(self, data: bytes) -> None:
        view, done = memoryview(data), 0
        try:
            while done < len(view):
                done += os.write(self._descriptor, view[done:])
            self.size += done
        except BaseException as error:
            if self._regular:
                os.ftruncate(self._descriptor, self.size)
                os.lseek(self._descriptor, self.size, os.SEEK_SET)
            if isinstance(error, OSError) and not isinstance(error, BrokenPipeError):
                raise self._failed(error.strerror or str(error)) from None
            raise
        if self._regular and os.fstat(self._descriptor).st_nlink == 0:
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
            f"{self._path}: not every {self._piece} could be written ({reason}); what was written before is whole; "
            "free disk space, or save elsewhere"
        )


def is_key(data: bytes) -> bool:
    """Whether an MPEG-4 frame decodes without earlier ones; FFmpeg puts the sequence header before such frames."""
    return data.startswith(b"\0\0\1\xb0")


def decoder_config(data: bytes) -> bytes:
    """The sequence header of the first MPEG-4 frame: all before the start code of a group (B3) or a VOP (B6)."""
    ends = [place for code in (b"\0\0\1\xb3", b"\0\0\1\xb6") if (place := data.find(code)) >= 0]
    return data[: min(ends)]
