"""Matroska with MPEG-4: clusters of a few seconds, written frame by frame; `finish` adds index and length.

Source: RFC 9559 (Matroska) and RFC 8794 (EBML).
"""

from __future__ import annotations

import struct

from edgefel.data.recording.container import File, decoder_config, is_key

# milliseconds: a cluster ends at the first key frame after the first value, and at the second value in any case
_CLUSTER, _LONGEST_CLUSTER = 2000, 30000
_UNKNOWN = b"\x01" + b"\xff" * 7
_SEEK_BYTES = 96
_INFO, _TRACKS, _CUES = 0x1549A966, 0x1654AE6B, 0x1C53BB6B


class Matroska:
    """A container: takes compressed frames, and can be played after each of them. Times are whole milliseconds."""

    def __init__(self, file: File, size: tuple[int, int], fps: float, first: bytes) -> None:
        """size: (width, height). fps: the nominal rate, which frames need not keep. first: the first frame."""
        self._file, self._fps = file, fps
        self._cluster_time = self._last = -1
        self._cluster_start = 0
        self._cues: list[tuple[int, int]] = []
        # version and read version, longest id and size, document type with its version and read version
        versions = _number(0x4286, 1), _number(0x42F7, 1), _number(0x42F2, 4), _number(0x42F3, 8)
        document = _element(0x4282, b"matroska"), _number(0x4287, 4), _number(0x4285, 2)
        file.append(_element(0x1A45DFA3, *versions, *document) + _id(0x18538067) + _UNKNOWN)
        self._segment = file.size
        file.append(_void(_SEEK_BYTES))
        self._places = {_INFO: file.size - self._segment}
        nanoseconds = _number(0x2AD7B1, 1_000_000)  # per tick
        programs = _element(0x4D80, b"edgefel") + _element(0x5741, b"edgefel")
        # the length will take the place of the padding
        file.append(_element(_INFO, _void(11), nanoseconds, programs))
        self._length = file.size - len(programs) - len(nanoseconds) - 11
        self._places[_TRACKS] = file.size - self._segment
        file.append(_element(_TRACKS, _entry(size, fps, first)))

    def add(self, data: bytes, time: float) -> None:
        key = is_key(data)
        now = max(round(1e3 * time), self._last + 1)
        age = now - self._cluster_time
        head = b""
        if self._cluster_time < 0 or age > _LONGEST_CLUSTER or (key and age >= _CLUSTER):
            self._end_cluster()
            self._cluster_time, self._cluster_start, age = now, self._file.size, 0
            if key:
                self._cues.append((now, self._cluster_start - self._segment))
            head = _id(0x1F43B675) + _UNKNOWN + _number(0xE7, now)
        block = struct.pack(">BhB", 0x81, age, 0x80 if key else 0) + data
        self._file.append(head + _element(0xA3, block))
        self._last = now

    def finish(self) -> None:
        self._end_cluster()
        self._places[_CUES] = self._file.size - self._segment
        cues = (
            _element(0xBB, _number(0xB3, time), _element(0xB7, _number(0xF7, 1), _number(0xF1, place)))
            for time, place in self._cues
        )
        self._file.append(_element(_CUES, *cues))
        length = self._last + 1e3 / self._fps
        self._file.replace(self._length, _element(0x4489, struct.pack(">d", length)))
        entries = (
            _element(0x4DBB, _element(0x53AB, _id(kind)), _number(0x53AC, place))
            for kind, place in self._places.items()
        )
        seek = _element(0x114D9B74, *entries)
        self._file.replace(self._segment, seek + _void(_SEEK_BYTES - len(seek)))
        self._file.replace(self._segment - 8, _size(self._file.size - self._segment))

    def _end_cluster(self) -> None:
        if self._cluster_time >= 0:
            start = self._cluster_start + 4
            self._file.replace(start, _size(self._file.size - start - 8))


def _entry(size: tuple[int, int], fps: float, first: bytes) -> bytes:
    numbers = _number(0xD7, 1), _number(0x73C5, 1), _number(0x83, 1), _number(0x9C, 0)
    codec = _element(0x86, b"V_MPEG4/ISO/ASP"), _number(0x23E383, round(1e9 / fps))
    sides = _element(0xE0, _number(0xB0, size[0]), _number(0xBA, size[1]))
    return _element(0xAE, *numbers, *codec, sides, _element(0x63A2, decoder_config(first)))


def _id(value: int) -> bytes:
    return value.to_bytes((value.bit_length() + 7) // 8, "big")


def _size(value: int) -> bytes:
    """Of 8 bytes."""
    return struct.pack(">Q", 1 << 56 | value)


def _element(kind: int, *parts: bytes) -> bytes:
    content = b"".join(parts)
    length = len(content)
    return _id(kind) + (bytes((0x80 | length,)) if length < 127 else _size(length)) + content


def _number(kind: int, value: int) -> bytes:
    return _element(kind, value.to_bytes(max(1, (value.bit_length() + 7) // 8), "big"))


def _void(count: int) -> bytes:
    """Padding of 2 to 128 bytes."""
    return bytes((0xEC, 0x80 | count - 2)) + bytes(count - 2)
