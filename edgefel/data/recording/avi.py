"""AVI with Motion JPEG at a constant rate; before a late frame come empty chunks, which repeat the previous one.

Source: Microsoft's AVI RIFF File Reference.
"""

from __future__ import annotations

import struct

from edgefel.data.recording.container import File

# sizes have 32 bits; a larger file keeps those of an unfinished one, and players read it to its end
_MOST_BYTES = (1 << 32) - (1 << 20)
_KEY = 0x10


class Avi:
    """A container: takes compressed frames, and can be played after each of them. Memory grows by 16 bytes a frame."""

    def __init__(self, file: File, size: tuple[int, int], fps: float, first: bytes) -> None:
        """size: (width, height). fps: the nominal rate. first: the first compressed frame, not needed here."""
        self._file, self._size, self._fps = file, size, fps
        self._index = bytearray()
        self._frames = 0
        file.append(self._head(0xFFFFFFFF, 0xFFFFFFFF))
        self._start = file.size - 4

    def add(self, data: bytes, time: float) -> None:
        place = max(round(time * self._fps), self._frames)
        chunks, index = bytearray(), bytearray()
        for content in (*[b""] * (place - self._frames), data):
            offset = self._file.size + len(chunks) - self._start
            flags = _KEY if content else 0
            index += struct.pack("<4sIII", b"00dc", flags, offset, len(content))
            chunks += struct.pack("<4sI", b"00dc", len(content)) + content + bytes(len(content) % 2)
        self._file.append(bytes(chunks))
        self._index += index
        self._frames = place + 1

    def finish(self) -> None:
        end = self._file.size
        if end + len(self._index) > _MOST_BYTES:
            return
        self._file.append(_riff(b"idx1", self._index))
        self._file.replace(0, self._head(self._file.size - 8, end - self._start))

    def _head(self, riff: int, movi: int) -> bytes:
        """riff, movi: sizes of the file and of the list of frames, in bytes."""
        (width, height), fps, frames = self._size, self._fps, self._frames
        fourcc = b"MJPG"
        header = struct.pack("<14I", round(1e6 / fps), 0, 0, _KEY, frames, 0, 1, 0, width, height, 0, 0, 0, 0)
        scale = 1000
        stream = struct.pack(
            "<4s4sIHHIIIIIIII4H",
            *(b"vids", fourcc, 0, 0, 0, 0, scale, round(fps * scale), 0, frames, 0, 0xFFFFFFFF, 0),
            *(0, 0, width, height),
        )
        bitmap = struct.pack(
            "<IiiHH4sIiiII", 40, width, height, 1, 24, fourcc, 3 * width * height, 0, 0, 0, 0
        )
        tracks = _riff(b"LIST", b"strl" + _riff(b"strh", stream) + _riff(b"strf", bitmap))
        lists = _riff(b"LIST", b"hdrl" + _riff(b"avih", header) + tracks)
        start = struct.pack("<4sI4s", b"RIFF", riff, b"AVI ")
        return start + lists + struct.pack("<4sI4s", b"LIST", movi, b"movi")


def _riff(kind: bytes, content: bytes | bytearray) -> bytes:
    return struct.pack("<4sI", kind, len(content)) + content
