"""Image headers: format and size before decoding, so that nothing too large is decoded."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass

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
    readable: bool = True


def read_header(data: bytes) -> Header | None:
    """The header of an encoded image; None if there is none or it is incomplete. Raises nothing."""
    for signature, parse in _PARSERS:
        if re.match(signature, data, re.DOTALL):
            if isinstance(parse, str):
                return Header(parse, 0, 0, readable=False)
            try:
                return parse(data)
            except (struct.error, IndexError, ValueError, OverflowError):
                return None
    return None


def _png(data: bytes) -> Header | None:
    if data[12:16] != b"IHDR":
        return None
    width, height, bits = struct.unpack_from(">IIB", data, 16)
    return Header("PNG", width, height, bits)


_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_MOST_SEGMENTS = 100_000
_ALONE = frozenset(range(0xD0, 0xD9)) | {0x01, 0xFF, 0x00}


def _jpeg(data: bytes) -> Header | None:
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
            return Header("JPEG", width, height, bits)
        if marker == 0xD9:
            return None
        at += 1 + max(length, 2)
    return None


def _webp(data: bytes) -> Header | None:
    chunk = data[12:16]
    if chunk == b"VP8X":
        return Header(
            "WebP", 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
        )
    if chunk == b"VP8L":
        (packed,) = struct.unpack_from("<I", data, 21)
        return Header("WebP", 1 + (packed & 0x3FFF), 1 + (packed >> 14 & 0x3FFF))
    if chunk == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return Header("WebP", width & 0x3FFF, height & 0x3FFF)
    return None


def _bmp(data: bytes) -> Header:
    (size,) = struct.unpack_from("<I", data, 14)
    width, height = struct.unpack_from("<HH" if size == 12 else "<ii", data, 18)
    return Header("BMP", width, abs(height))


_TIFF_TYPES = {1: "B", 3: "H", 4: "I", 16: "Q"}


def _tiff(data: bytes) -> Header | None:
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
    return Header("TIFF", found[256], found[257], found[258])


def _gif(data: bytes) -> Header:
    return Header("GIF", *struct.unpack_from("<HH", data, 6))


_PNM = re.compile(
    rb"P([1-6])(?:\s|#[^\n]*\n)+(\d{1,9})(?:\s|#[^\n]*\n)+(\d{1,9})(?:(?:\s|#[^\n]*\n)+(\d{1,9}))?"
)


def _pnm(data: bytes) -> Header | None:
    found = _PNM.match(data[:4096])
    if found is None:
        return None
    one_bit = found[1] in b"14"
    most = 1 if one_bit or found[4] is None else int(found[4])
    return Header("PNM", int(found[2]), int(found[3]), 16 if most > 255 else 8)


def _jpeg_2000(data: bytes) -> Header:
    at = data.find(b"ihdr", 0, 1 << 16) if data[:4] == b"\0\0\0\x0c" else -1
    if at >= 0:
        height, width, _, bits = struct.unpack_from(">IIHB", data, at + 4)
        return Header("JPEG 2000", width, height, 1 + (bits & 0x7F))
    at = data.index(b"\xff\x51", 0, 1 << 16)
    right, below, left, top = struct.unpack_from(">IIII", data, at + 6)
    return Header("JPEG 2000", right - left, below - top, 1 + (data[at + 40] & 0x7F))


_AVIF = (b"avif", b"avis")


def _heif(data: bytes) -> Header | None:
    """AVIF and related formats: the largest declared size, which is that of the whole image."""
    (length,) = struct.unpack_from(">I", data, 0)
    brands = data[8 : min(max(length, 16), 256)]
    if not any(brand in brands for brand in _AVIF):
        kind = "HEIC" if re.search(rb"hei[cxms]|hev[cx]|mif1|msf1", brands) else "video or HEIF"
        return Header(kind, 0, 0, readable=False)
    sizes = [
        struct.unpack_from(">II", data, found.end() + 4) for found in re.finditer(b"ispe", data[: 1 << 20])
    ]
    if not sizes:
        return None
    return Header("AVIF", max(width for width, _ in sizes), max(height for _, height in sizes))


# signature -> the parser of the header, or the name of a format that is not read
_PARSERS: tuple[tuple[bytes, Callable[[bytes], Header | None] | str], ...] = (
    (rb"\x89PNG\r\n\x1a\n", _png),
    (rb"\xff\xd8\xff", _jpeg),
    (rb"RIFF....WEBP", _webp),
    (rb"BM", _bmp),
    (rb"II[*+]\0|MM\0[*+]", _tiff),
    (rb"GIF8[79]a", _gif),
    (rb"P[1-6][\s#]", _pnm),
    (rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51", _jpeg_2000),
    (rb"....ftyp", _heif),
    (rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
    (rb"8BPS", "Photoshop"),
    (rb"\x76\x2f\x31\x01", "OpenEXR"),
    (rb"#\?RADIANCE|#\?RGBE", "Radiance HDR"),
    (rb"%PDF", "PDF"),
)
