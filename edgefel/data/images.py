"""Reading and writing of all images: regular files, sizes checked before decoding, 8-bit RGB."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgefel.data.image_headers import MOST_PIXELS, PIXELS_VARIABLE, Header, read_header
from edgefel.errors import EdgefelError, EdgefelWarning
from edgefel.files.read import read_regular, reason
from edgefel.text import one_line

# Bytes of an encoded image: the largest is a 16-bit TIFF of MOST_PIXELS
MOST_BYTES = 1 << 30
# Longer side by shorter side: beyond it there is no face, and resizing leaves no pixel of the shorter side.
MOST_ELONGATED = 100

_OPTIONAL = frozenset(suffix for suffix in (".avif", ".gif") if cv2.haveImageWriter(suffix))
IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff"}) | _OPTIONAL
# Image formats that are not read; files are counted where a folder is searched
_PHONE_AND_WEB = ".heic .heif .hif .avif .gif .jxl .jp2 .j2k .jpf .jpx .jfif .jpe"
_CAMERA_RAW = ".dng .cr2 .cr3 .crw .nef .nrw .arw .sr2 .srf .raf .orf .rw2 .pef .raw"
_GRAPHICS = ".psd .psb .xcf .svg .ico .tga .exr .hdr .pcx .ppm .pgm .pnm .pbm .eps"
OTHER_SUFFIXES = frozenset(f"{_PHONE_AND_WEB} {_CAMERA_RAW} {_GRAPHICS}".split()) - IMAGE_SUFFIXES


class UnreadableImageError(EdgefelError):
    """An image cannot be read; callers may skip, count and name it."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}; replace it or leave it out")
        self.path = path
        self.reason = reason


def read_image_file(path: Path) -> bytes:
    """The encoded image. Raises UnreadableImageError for what is missing, no regular file, or too large."""
    try:
        return read_regular(path, MOST_BYTES)
    except OSError as error:
        raise UnreadableImageError(path, f"cannot be read ({reason(error)})") from None
    except ValueError:  # a NUL in a listed name
        raise UnreadableImageError(path, "is not a file name") from None


def read_rgb(path: Path) -> NDArray[np.uint8]:
    """RGB image [H, W, 3], uint8, of a file; see `decode_rgb`. Raises UnreadableImageError."""
    return decode_rgb(read_image_file(path), path)


def decode_rgb(data: bytes, path: Path) -> NDArray[np.uint8]:
    """RGB image [H, W, 3], uint8, rotated by its EXIF orientation; the first frame of an animation.

    10, 12 and 14 bits in 16, and real numbers, are scaled to 8 bits by the range that they use. path: for the message.
    Raises UnreadableImageError for an invalid or incomplete image, or one of more than `max_pixels()`.
    """
    if is_cut_off(data):
        raise UnreadableImageError(path, "is cut off: the end of the file is missing")
    header = read_header(data)
    if (problem := _problem(header, data)) is not None:
        raise UnreadableImageError(path, problem)
    assert header is not None
    flags = cv2.IMREAD_COLOR | (cv2.IMREAD_ANYDEPTH if header.bits > 8 else 0)
    try:
        image: NDArray[Any] | None = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
        if image is None and header.kind == "TIFF" and header.bits > 8:
            # OpenCV reads real numbers only with this flag, which ignores the EXIF orientation
            image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
            image = None if image is None else _three_channels(np.asarray(image))
    except (cv2.error, MemoryError) as error:
        raise UnreadableImageError(path, f"cannot be decoded ({one_line(error)})") from None
    if image is None:
        raise UnreadableImageError(path, f"a {header.kind} file that is damaged or that OpenCV cannot decode")
    if image.dtype != np.uint8:
        image = to_uint8(np.asarray(image), path)
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def write_image(
    path: Path, image: NDArray[np.uint8], parameters: Sequence[int] = (), *, suffix: str | None = None
) -> None:
    """Writes uint8 RGB [H, W, 3] in the format of the suffix (of `path`, unless it is given).

    parameters: of cv2.imencode. Raises OSError if it cannot be written, EdgefelError for an unknown format.
    """
    suffix = suffix or path.suffix
    try:
        # not imwrite, which crashes for a name that is not UTF-8 and gives no reason for a failure
        done, data = cv2.imencode(suffix, np.ascontiguousarray(image[..., ::-1]), parameters)
    except cv2.error as error:
        raise EdgefelError(
            f"{path}: OpenCV cannot write {suffix} ({one_line(error)}); choose .png or .jpg"
        ) from None
    if not done:
        raise EdgefelError(f"{path}: OpenCV cannot write it; choose .png or .jpg")
    path.write_bytes(data.tobytes())


def max_pixels() -> int:
    """The maximum number of pixels of an image: MOST_PIXELS, or the environment variable EDGEFEL_MAX_PIXELS.

    Worker processes inherit the variable. Raises EdgefelError if it is not a number.
    """
    text = os.environ.get(PIXELS_VARIABLE, "")
    if not text:
        return MOST_PIXELS
    if not text.isdecimal() or not 0 < int(text[:20]) <= 1 << 30:
        raise EdgefelError(f"{PIXELS_VARIABLE} is {text[:40]!r}; give a whole number from 1 to {1 << 30}")
    return int(text)


def is_cut_off(data: bytes) -> bool:
    """Whether a JPEG lacks its end.

    OpenCV 4.10 decodes a truncated baseline JPEG and fills the rest. 4.11 to 4.14 refuse it, but not one that continues
    with zeros, as after a crash of the system. All of them refuse a truncated PNG.
    """
    # after the last start of scan; a camera's thumbnail has its own end before that
    return data.startswith(b"\xff\xd8") and data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda")


@dataclass(frozen=True)
class Found:
    """The images in a folder, at any depth. files: those read, sorted. left_out: number of others by suffix."""

    files: tuple[Path, ...]
    left_out: Mapping[str, int]


def find_images(root: Path, others: frozenset[str] = OTHER_SUFFIXES) -> Found:
    """Searches a folder by file names, without those that begin with a dot; links to folders are not followed.

    others: suffixes that are counted in `left_out`. Raises EdgefelError for a folder that cannot be listed.
    """
    files: list[Path] = []
    counts: Counter[str] = Counter()

    def refuse(error: OSError) -> None:
        raise EdgefelError(
            f"{error.filename}: cannot be listed ({reason(error)}); make it readable, or move it away"
        )

    for folder, folders, names in os.walk(root, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        seen = [name for name in names if not name.startswith(".")]
        files += [Path(folder, name) for name in seen if suffix_of(name) in IMAGE_SUFFIXES]
        counts.update(left_out(seen, others))
    return Found(tuple(sorted(files)), dict(counts.most_common()))


def suffix_of(name: str) -> str:
    """The suffix in lower case, with its dot."""
    return os.path.splitext(name)[1].lower()  # noqa: PTH122 - millions of names


def left_out(names: Iterable[str], others: frozenset[str] = OTHER_SUFFIXES) -> dict[str, int]:
    """Number of image files that are not read, by suffix, most frequent first."""
    return dict(Counter(suffix for name in names if (suffix := suffix_of(name)) in others).most_common())


def left_out_text(counts: Mapping[str, int]) -> str:
    """E.g. "left out 12 .heic, 3 .jxl: not read here; convert them to JPEG or PNG"; "" if there are none."""
    images, videos = (
        ", ".join(
            f"{count} {suffix}" for suffix, count in counts.items() if (suffix in OTHER_SUFFIXES) is image
        )
        for image in (True, False)
    )
    said = [f"left out {images}: not read here; convert them to JPEG or PNG"] if images else []
    said += [f"left out {videos}: give videos one by one"] if videos else []
    return "; ".join(said)


def say_left_out(root: Path, counts: Mapping[str, int]) -> None:
    """Warns about images in a data set that are not read."""
    if counts:
        warnings.warn(f"{root}: {left_out_text(counts)}", EdgefelWarning, stacklevel=3)


def _problem(header: Header | None, data: bytes) -> str | None:
    if not data:
        return "the file is empty"
    if header is None:
        return "not an image that OpenCV can decode"
    if not header.readable:
        return f"a {header.kind} file, which is not read here; convert it to JPEG or PNG"
    width, height = header.width, header.height
    if width < 1 or height < 1:
        return f"a {header.kind} file of {width}x{height} pixels"
    return size_problem(width, height)


def size_problem(width: int, height: int) -> str | None:
    """Why an image of this many pixels, at least one each way, is not read; None if it is."""
    if width * height > max_pixels():
        return f"{width}x{height} pixels are more than {max_pixels()}; shrink it, or give --max-pixels"
    if max(width, height) > MOST_ELONGATED * min(width, height):
        return f"{width}x{height} pixels are a line, not an image of a face"
    return None


def to_uint8(image: NDArray[Any], path: Path) -> NDArray[np.uint8]:
    """Converts more bits, or real numbers, to uint8 of the same shape.

    path: for the message. Raises UnreadableImageError for values out of range and other types.
    """
    if image.dtype == np.uint16:
        # cameras store 10, 12 or 14 bits in 16 without recording it: unscaled, such images are black
        bits = next(bits for bits in (8, 10, 12, 14, 16) if int(image.max()).bit_length() <= bits)
        return np.asarray(image >> (bits - 8), np.uint8)
    if image.dtype.kind == "f":
        if not np.isfinite(image).all():
            raise UnreadableImageError(path, "holds values that are not finite")
        peak, least = float(image.max()), float(image.min())
        full = next((full for full in (1.0, 255.0, 65535.0) if peak <= full), None)
        if full is None or least < 0:
            raise UnreadableImageError(path, f"values from {least:g} to {peak:g}, not 0 to 1, 255 or 65535")
        return np.asarray(np.rint(image * (255.0 / full)), np.uint8)
    raise UnreadableImageError(path, f"holds values of type {image.dtype}, which are not read here")


def _three_channels(image: NDArray[Any]) -> NDArray[Any]:
    image = image.reshape(*image.shape[:2], -1)
    return image[..., :3] if image.shape[2] >= 3 else np.repeat(image[..., :1], 3, axis=2)
