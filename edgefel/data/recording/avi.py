"""AVI: frames of a constant rate; one that comes late leaves empty chunks before it, which repeat the frame before.

Source: Microsoft's AVI RIFF File Reference.
"""

from __future__ import annotations

import struct

from edgefel.data.recording.container import File, Track

_FOURCCS = {"mpeg4": b"FMP4", "jpeg": b"MJPG"}
# sizes have 32 bits; a larger file keeps those of one that was never finished, and is read to its end
_MOST_BYTES = (1 << 32) - (1 << 20)
_KEY = 0x10


class Avi:
    """A `Container`. Memory grows by 16 bytes a frame."""

    def __init__(self, file: File, track: Track) -> None:
        self._file, self._track = file, track
        self._index = bytearray()
        self._frames = 0
        file.append(self._head(0xFFFFFFFF, 0xFFFFFFFF))
        self._start = file.size

    def add(self, data: bytes, time: float, key: bool) -> None:
        place = max(round(time * self._track.fps), self._frames)
        chunks = bytearray()
        for _ in range(place - self._frames):
            chunks += self._chunk(b"", 0, len(chunks))
        chunks += self._chunk(data, _KEY if key else 0, len(chunks))
        kept = len(self._index) - 16 * (place - self._frames + 1)
        try:
            self._file.append(bytes(chunks))
        except BaseException:
            del self._index[kept:]
            raise
        self._frames = place + 1

    def finish(self) -> None:
        end = self._file.size
        if not self._frames or end + len(self._index) > _MOST_BYTES:
            return
        self._file.append(struct.pack("<4sI", b"idx1", len(self._index)) + self._index)
        self._file.replace(0, self._head(self._file.size - 8, end - self._start + 4))

    def _chunk(self, data: bytes, flags: int, before: int) -> bytes:
        offset = self._file.size + before - self._start + 4
        self._index += struct.pack("<4sIII", b"00dc", flags, offset, len(data))
        return struct.pack("<4sI", b"00dc", len(data)) + data + bytes(len(data) % 2)

    def _head(self, riff: int, movi: int) -> bytes:
        (width, height), fps = self._track.size, self._track.fps
        fourcc = _FOURCCS[self._track.codec]
        frames = getattr(self, "_frames", 0)
        header = struct.pack("<14I", round(1e6 / fps), 0, 0, _KEY, frames, 0, 1, 0, width, height, 0, 0, 0, 0)
        scale = 1000
        stream = struct.pack(
            "<4s4sIHHIIIIIIII4H",
            *(b"vids", fourcc, 0, 0, 0, 0, scale, round(fps * scale), 0, frames, 0, 0xFFFFFFFF, 0),
            *(0, 0, width, height),
        )
        image = struct.pack("<IiiHH4sIiiII", 40, width, height, 1, 24, fourcc, 3 * width * height, 0, 0, 0, 0)
        tracks = _list(b"strl", _riff(b"strh", stream) + _riff(b"strf", image))
        lists = _list(b"hdrl", _riff(b"avih", header) + tracks)
        return (
            struct.pack("<4sI4s", b"RIFF", riff, b"AVI ")
            + lists
            + struct.pack("<4sI4s", b"LIST", movi, b"movi")
        )


def _riff(kind: bytes, content: bytes) -> bytes:
    return struct.pack("<4sI", kind, len(content)) + content


def _list(kind: bytes, content: bytes) -> bytes:
    return _riff(b"LIST", kind + content)
