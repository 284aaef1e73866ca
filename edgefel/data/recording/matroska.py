"""Matroska: clusters of a few seconds, written frame by frame; the end adds an index and the length.

Source: RFC 9559 (Matroska) and RFC 8794 (EBML).
"""

from __future__ import annotations

import struct

from edgefel.data.recording.container import File, Track

_CODECS = {"mpeg4": b"V_MPEG4/ISO/ASP", "jpeg": b"V_MJPEG"}
# milliseconds: a cluster ends at the first frame that stands alone after the first, and at the second in any case
_CLUSTER, _LONGEST_CLUSTER = 2000, 30000
_UNKNOWN = b"\x01" + b"\xff" * 7
_SEEK_BYTES = 96
_INFO, _TRACKS, _CUES = 0x1549A966, 0x1654AE6B, 0x1C53BB6B


class Matroska:
    """A `Container`. Times are whole milliseconds."""

    def __init__(self, file: File, track: Track) -> None:
        self._file, self._track = file, track
        self._cluster_time = self._last = -1
        self._cluster_start = 0
        self._cues: list[tuple[int, int]] = []
        head = (
            _element(0x4286, b"\1") + _element(0x42F7, b"\1") + _element(0x42F2, b"\4"),
            _element(0x42F3, b"\x08") + _element(0x4282, b"matroska"),
            _element(0x4287, b"\4") + _element(0x4285, b"\2"),
        )
        file.append(_element(0x1A45DFA3, b"".join(head)) + _id(0x18538067) + _UNKNOWN)
        self._segment = file.size
        file.append(_void(_SEEK_BYTES))
        info = _element(0x2AD7B1, _uint(1_000_000))
        info += _element(0x4D80, b"edgefel") + _element(0x5741, b"edgefel")
        self._places = {_INFO: file.size - self._segment}
        # the length is not known yet, and takes the place of this
        before = _void(11)
        file.append(_element(_INFO, before + info))
        self._length = file.size - len(info) - len(before)
        self._places[_TRACKS] = file.size - self._segment
        file.append(_element(_TRACKS, _element(0xAE, self._entry())))

    def add(self, data: bytes, time: float, key: bool) -> None:
        now = max(round(1e3 * time), self._last + 1)
        age = now - self._cluster_time
        head = b""
        if self._cluster_time < 0 or age > _LONGEST_CLUSTER or (key and age >= _CLUSTER):
            self._end_cluster()
            self._cluster_time, self._cluster_start, age = now, self._file.size, 0
            if key:
                self._cues.append((now, self._cluster_start - self._segment))
            head = _id(0x1F43B675) + _UNKNOWN + _element(0xE7, _uint(now))
        block = struct.pack(">BhB", 0x81, age, 0x80 if key else 0) + data
        self._file.append(head + _element(0xA3, block))
        self._last = now

    def finish(self) -> None:
        if self._last < 0:
            return
        self._end_cluster()
        self._places[_CUES] = self._file.size - self._segment
        points = [
            _element(
                0xBB,
                _element(0xB3, _uint(time))
                + _element(0xB7, _element(0xF7, b"\1") + _element(0xF1, _uint(place))),
            )
            for time, place in self._cues
        ]
        if points:
            self._file.append(_element(_CUES, b"".join(points)))
        else:
            del self._places[_CUES]
        length = self._last + 1e3 / self._track.fps
        self._file.replace(self._length, _element(0x4489, struct.pack(">d", length)))
        entries = (
            _element(0x4DBB, _element(0x53AB, _id(kind)) + _element(0x53AC, _uint(place)))
            for kind, place in self._places.items()
        )
        seek = _element(0x114D9B74, b"".join(entries))
        self._file.replace(self._segment, seek + _void(_SEEK_BYTES - len(seek)))
        self._file.replace(self._segment - 8, _size(self._file.size - self._segment))

    def _end_cluster(self) -> None:
        if self._cluster_time >= 0:
            start = self._cluster_start + 4
            self._file.replace(start, _size(self._file.size - start - 8))

    def _entry(self) -> bytes:
        track = self._track
        video = _element(0xB0, _uint(track.size[0])) + _element(0xBA, _uint(track.size[1]))
        parts = [
            *(_element(0xD7, b"\1"), _element(0x73C5, b"\1"), _element(0x83, b"\1"), _element(0x9C, b"\0")),
            _element(0x86, _CODECS[track.codec]),
            _element(0x23E383, _uint(round(1e9 / track.fps))),
            _element(0xE0, video),
        ]
        if track.config:
            parts.append(_element(0x63A2, track.config))
        return b"".join(parts)


def _id(value: int) -> bytes:
    return value.to_bytes((value.bit_length() + 7) // 8, "big")


def _uint(value: int) -> bytes:
    return value.to_bytes(max(1, (value.bit_length() + 7) // 8), "big")


def _size(value: int) -> bytes:
    """In 8 bytes."""
    return struct.pack(">Q", 1 << 56 | value)


def _element(kind: int, content: bytes) -> bytes:
    length = len(content)
    return _id(kind) + (bytes((0x80 | length,)) if length < 127 else _size(length)) + content


def _void(count: int) -> bytes:
    """So many bytes, from 2 to 128, that mean nothing."""
    return bytes((0xEC, 0x80 | count - 2)) + bytes(count - 2)
