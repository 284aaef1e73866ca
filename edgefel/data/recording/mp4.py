"""MP4 with MPEG-4 video that can be played while it is written, and has no fragments when it is finished.

Each frame is a fragment (moof, mdat). `finish` appends the whole index (moov) and turns the `free` box before the
fragments into one large mdat around them, as OBS Studio's "hybrid MP4" does.

Source: ISO/IEC 14496-12 (boxes), 14496-14 and 14496-1 (esds).
"""

from __future__ import annotations

import struct
from array import array

import numpy as np
import numpy.typing as npt

from edgefel.data.recording.container import File, decoder_config, is_key

_SCALE = 90000  # ticks per second
_MATRIX = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
_Whole = npt.NDArray[np.int64]
_KEY, _NO_KEY = 0x02000000, 0x01010000


class Mp4:
    """A container: takes compressed frames, and can be played after each of them. Memory grows by 20 bytes a frame."""

    def __init__(self, file: File, size: tuple[int, int], fps: float, first: bytes) -> None:
        """size: (width, height). fps: the nominal rate, which frames need not keep. first: the first frame."""
        self._file, self._size = file, size
        self._usual = max(1, round(_SCALE / fps))  # ticks of a frame
        self._entry = _entry(size, first)
        self._times, self._offsets = array("Q"), array("Q")
        self._sizes, self._keys = array("I"), array("I")
        file.append(_box(b"ftyp", b"isom", _u32(0x200), b"isomiso5iso6mp41"))
        self._free = file.size
        file.append(_box(b"free", bytes(8)))
        file.append(self._index(np.empty(0, np.int64), 0))

    def add(self, data: bytes, time: float) -> None:
        ticks = round(time * _SCALE)
        if self._times:
            ticks = max(ticks, self._times[-1] + 1)
        number, key = len(self._times) + 1, is_key(data)
        head = self._fragment(number, ticks, len(data), _KEY if key else _NO_KEY)
        self._file.append(head + _u32(8 + len(data)) + b"mdat" + data)
        if key:
            self._keys.append(number)
        self._times.append(ticks)
        self._sizes.append(len(data))
        self._offsets.append(self._file.size - len(data))

    def finish(self) -> None:
        end = self._file.size
        times: _Whole = np.array(self._times, np.int64)
        steps = np.diff(times)
        durations = np.append(steps, steps[-1] if len(steps) else self._usual)
        self._file.append(self._index(durations, self._times[-1] + int(durations[-1])))
        self._file.replace(self._free, struct.pack(">I4sQ", 1, b"mdat", end - self._free))

    def _fragment(self, number: int, ticks: int, size: int, flags: int) -> bytes:
        def moof(offset: int) -> bytes:
            sample = struct.pack(">IiIII", 1, offset, self._usual, size, flags)
            track = _box(
                b"traf",
                _full(b"tfhd", 0, 0x020000, _u32(1)),
                _full(b"tfdt", 1, 0, struct.pack(">Q", ticks)),
                _full(b"trun", 0, 0x000701, sample),
            )
            return _box(b"moof", _full(b"mfhd", 0, 0, _u32(number)), track)

        return moof(len(moof(0)) + 8)

    def _index(self, durations: _Whole, length: int) -> bytes:
        """The moov box. length: of the video in ticks. Without durations it announces fragments."""
        width, height = self._size
        times = struct.pack(">QQIQ", 0, 0, _SCALE, length)
        movie = times + struct.pack(">IH10x", 0x10000, 0x100) + _MATRIX + bytes(24) + _u32(2)
        header = struct.pack(">QQIIQ", 0, 0, 1, 0, length) + bytes(16) + _MATRIX
        header += struct.pack(">II", width << 16, height << 16)
        handler = _full(b"hdlr", 0, 0, bytes(4), b"vide", bytes(12), b"edgefel\0")
        location = _box(b"dinf", _full(b"dref", 0, 0, _u32(1), _full(b"url ", 0, 1)))
        media = _box(
            b"mdia",
            _full(b"mdhd", 1, 0, times, struct.pack(">HH", 0x55C4, 0)),
            handler,
            _box(b"minf", _full(b"vmhd", 0, 1, bytes(8)), location, self._table(durations)),
        )
        track = _box(b"trak", _full(b"tkhd", 1, 3, header), media)
        fragments = b""
        if not len(durations):
            fragments = _box(b"mvex", _full(b"trex", 0, 0, struct.pack(">5I", 1, 1, 0, 0, 0)))
        return _box(b"moov", _full(b"mvhd", 1, 0, movie), track, fragments)

    def _table(self, durations: _Whole) -> bytes:
        count = len(durations)
        boxes = [
            _full(b"stsd", 0, 0, _u32(1), self._entry),
            _full(b"stts", 0, 0, _runs(durations)),
        ]
        if count:
            boxes.append(_full(b"stss", 0, 0, _u32(len(self._keys)), _big_endian(self._keys, ">u4")))
        chunks = struct.pack(">4I", 1, 1, 1, 1) if count else _u32(0)
        boxes.append(_full(b"stsc", 0, 0, chunks))
        boxes.append(_full(b"stsz", 0, 0, _u32(0), _u32(count), _big_endian(self._sizes[:count], ">u4")))
        boxes.append(_full(b"co64", 0, 0, _u32(count), _big_endian(self._offsets[:count], ">u8")))
        return _box(b"stbl", *boxes)


def _entry(size: tuple[int, int], first: bytes) -> bytes:
    decoder = struct.pack(">BB3xII", 0x20, 0x11, 0, 0)  # ISO/IEC 14496-2, video
    decoder += _descriptor(5, decoder_config(first))
    stream = _descriptor(3, struct.pack(">HB", 1, 0) + _descriptor(4, decoder) + _descriptor(6, b"\2"))
    sample = bytes(6) + struct.pack(">H16xHH", 1, *size)
    sample += struct.pack(">III", 0x480000, 0x480000, 0) + struct.pack(">H32xHh", 1, 24, -1)
    return _box(b"mp4v", sample, _full(b"esds", 0, 0, stream))


def _runs(values: _Whole) -> bytes:
    """Run-length encoding: the number of runs, then (count, value) of each, 32 bits each."""
    starts = np.flatnonzero(np.diff(values, prepend=-1))
    counts = np.diff(starts, append=len(values))
    return _u32(len(starts)) + np.stack((counts, values[starts]), axis=1).astype(">u4").tobytes()


def _box(kind: bytes, *parts: bytes) -> bytes:
    return _u32(8 + sum(map(len, parts))) + kind + b"".join(parts)


def _full(kind: bytes, version: int, flags: int, *parts: bytes) -> bytes:
    return _box(kind, _u32(version << 24 | flags), *parts)


def _descriptor(tag: int, content: bytes) -> bytes:
    length = len(content)
    return bytes((tag, *(0x80 | length >> shift & 127 for shift in (21, 14, 7)), length & 127)) + content


def _u32(value: int) -> bytes:
    return struct.pack(">I", value)


def _big_endian(values: array[int], kind: str) -> bytes:
    return np.array(values).astype(kind).tobytes()
