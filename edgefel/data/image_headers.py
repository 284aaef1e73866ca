"""Image headers: format and size before decoding, so that nothing too large is decoded."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass, field

# Enough for phones of 108 megapixels. Decoding takes 3 bytes per pixel, twice; EDGEFEL_MAX_PIXELS changes the limit.
MOST_PIXELS = 120_000_000
PIXELS_VARIABLE = "EDGEFEL_MAX_PIXELS"


@dataclass(frozen=True)
class Header:
    """kind: name of the format. width, height: in pixels, as stored. bits: per channel. readable: by OpenCV."""

    kind: str
    width: int
    height: int
    bits: int = 8
    readable: bool = field(default=True, kw_only=True)


def read_header(data: bytes) -> Header | None:
    """The header of an encoded image; None if there is none or it is incomplete. Raises nothing."""
    # of AVIF and related formats, the first box, which lists brands
    box = max(int.from_bytes(data[:4], "big"), 16) if data[4:8] == b"ftyp" else 256
    head = data[: min(box, 256)]
    for signature, kind, parse in _FORMATS:
        if re.match(signature, head, re.DOTALL):
            if parse is None:
                return Header(kind, 0, 0, readable=False)
            try:
                sizes = parse(data)
            except (struct.error, IndexError, ValueError, OverflowError):
                return None
            return None if sizes is None else Header(kind, *sizes)
    return None


_Sizes = tuple[int, ...]  # width, height, and bits per channel where they are not 8


def _png(data: bytes) -> _Sizes | None:
    return struct.unpack_from(">IIB", data, 16) if data[12:16] == b"IHDR" else None


_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_MOST_SEGMENTS = 100_000
_ALONE = frozenset(range(0xD0, 0xD9)) | {0x01, 0xFF, 0x00}


def _jpeg(data: bytes) -> _Sizes | None:
    at = 2
    for _ in range(_MOST_SEGMENTS):
        at = data.index(b"\xff", at) + 1
        marker = data[at]
        if marker in _ALONE:  # without a length; fill bytes
            at += marker != 0xFF
            continue
        (length,) = struct.unpack_from(">H", data, at + 1)
        if marker in _START_OF_FRAME:
            bits, height, width = struct.unpack_from(">BHH", data, at + 3)
            return width, height, bits
        if marker == 0xD9:
            return None
        at += 1 + max(length, 2)
    return None


def _webp(data: bytes) -> _Sizes | None:
    chunk = data[12:16]
    if chunk == b"VP8X":
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if chunk == b"VP8L":
        (packed,) = struct.unpack_from("<I", data, 21)
        return 1 + (packed & 0x3FFF), 1 + (packed >> 14 & 0x3FFF)
    if chunk == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    return None


def _bmp(data: bytes) -> _Sizes:
    (size,) = struct.unpack_from("<I", data, 14)
    width, height = struct.unpack_from("<HH" if size == 12 else "<ii", data, 18)
    return width, abs(height)


_TIFF_TYPES = {1: "B", 3: "H", 4: "I", 16: "Q"}


def _tiff(data: bytes) -> _Sizes:
    order = "<" if data[:1] == b"I" else ">"
    big = struct.unpack_from(order + "H", data, 2)[0] == 43
    (at,) = struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)
    (count,) = struct.unpack_from(order + ("Q" if big else "H"), data, at)
    at, step = at + (8 if big else 2), 20 if big else 12
    found = {256: 0, 257: 0, 258: 1}
    for entry in range(at, at + step * min(count, 4096), step):
        tag, kind = struct.unpack_from(order + "HH", data, entry)
        if tag not in found or kind not in _TIFF_TYPES:
            continue
        letter = _TIFF_TYPES[kind]
        (number,) = struct.unpack_from(order + ("Q" if big else "I"), data, entry + 4)
        place = entry + (12 if big else 8)
        if number * struct.calcsize(letter) > (8 if big else 4):  # the values are elsewhere
            (place,) = struct.unpack_from(order + ("Q" if big else "I"), data, place)
        (found[tag],) = struct.unpack_from(order + letter, data, place)
    return tuple(found.values())


_PNM = re.compile(
    rb"P([1-6])(?:\s|#[^\n]*\n)+(\d{1,9})(?:\s|#[^\n]*\n)+(\d{1,9})(?:(?:\s|#[^\n]*\n)+(\d{1,9}))?"
)


def _pnm(data: bytes) -> _Sizes | None:
    found = _PNM.match(data[:4096])
    if found is None:
        return None
    one_bit = found[1] in b"14"
    most = 1 if one_bit or found[4] is None else int(found[4])
    return int(found[2]), int(found[3]), 16 if most > 255 else 8


def _jpeg_2000(data: bytes) -> _Sizes:
    at = data.find(b"ihdr", 0, 1 << 16) if data[:4] == b"\0\0\0\x0c" else -1
    if at >= 0:
        height, width, _, bits = struct.unpack_from(">IIHB", data, at + 4)
        return width, height, 1 + (bits & 0x7F)
    at = data.index(b"\xff\x51", 0, 1 << 16)
    right, below, left, top = struct.unpack_from(">IIII", data, at + 6)
    return right - left, below - top, 1 + (data[at + 40] & 0x7F)


def _avif(data: bytes) -> _Sizes | None:
    """The largest declared size, which is that of the whole image."""
    places = re.finditer(b"ispe", data[: 1 << 20])
    sizes = [struct.unpack_from(">II", data, found.end() + 4) for found in places]
    return tuple(map(max, zip(*sizes, strict=True))) if sizes else None


# signature, name of the format, and the parser of its header, None where it is not read; the first that matches
_FORMATS: tuple[tuple[bytes, str, Callable[[bytes], _Sizes | None] | None], ...] = (
    (rb"\x89PNG\r\n\x1a\n", "PNG", _png),
    (rb"\xff\xd8\xff", "JPEG", _jpeg),
    (rb"RIFF....WEBP", "WebP", _webp),
    (rb"BM", "BMP", _bmp),
    (rb"II[*+]\0|MM\0[*+]", "TIFF", _tiff),
    (rb"GIF8[79]a", "GIF", lambda data: struct.unpack_from("<HH", data, 6)),
    (rb"P[1-6][\s#]", "PNM", _pnm),
    (rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51", "JPEG 2000", _jpeg_2000),
    (rb"....ftyp.*avi[fs]", "AVIF", _avif),
    (rb"....ftyp.*(hei[cxms]|hev[cx]|mif1|msf1)", "HEIC", None),
    (rb"....ftyp", "video or HEIF", None),
    (rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL", None),
    (rb"8BPS", "Photoshop", None),
    (rb"\x76\x2f\x31\x01", "OpenEXR", None),
    (rb"#\?RADIANCE|#\?RGBE", "Radiance HDR", None),
    (rb"%PDF", "PDF", None),
)
