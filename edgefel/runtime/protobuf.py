"""Reads and writes fields of protocol buffers, for ONNX files on machines without the `onnx` package.

Source: https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator

VARINT, FIXED64, BYTES, GROUP, END_GROUP, FIXED32 = range(6)
Buffer = bytes | mmap.mmap


def fields(data: Buffer, at: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Number, wire type, and the value of a varint or where bytes begin, and where they end, of each field.

    Raises IndexError or ValueError for what is no message.
    """
    groups = 0
    while at < end:
        tag, at = _varint(data, at)
        number, wire = tag >> 3, tag & 7
        value = stop = at
        if wire == VARINT:
            value, at = _varint(data, at)
            stop = at
        elif wire == BYTES:
            size, value = _varint(data, at)
            at = stop = value + size
        elif wire in (FIXED64, FIXED32):
            at += 8 if wire == FIXED64 else 4
            stop = at
        elif wire in (GROUP, END_GROUP):
            groups += 1 if wire == GROUP else -1
        if wire > FIXED32 or at > end or groups < 0:
            raise ValueError("no protocol buffer")
        if not groups:  # readers skip unknown groups with all that is in them
            yield number, wire, value, stop


def field(number: int, content: bytes) -> bytes:
    """A field that holds bytes, a text or a message."""
    return _encoded(number << 3 | BYTES) + _encoded(len(content)) + content


def _encoded(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _varint(data: Buffer, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("no protocol buffer")
