"""One scene in every form of image that is read."""

from __future__ import annotations

import io
import struct

import cv2
import numpy as np
from PIL import Image


def scene() -> np.ndarray:
    """Smooth and without any symmetry, RGB [48, 64, 3]."""
    y, x = np.mgrid[:48, :64]
    return np.stack([4 * x, 5 * y, 255 - 2 * (x + y)], axis=2).clip(0, 255).astype(np.uint8)


def grey() -> np.ndarray:
    """One channel of it [48, 64]."""
    return scene()[..., 0]


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def by_opencv(suffix: str, pixels: np.ndarray) -> bytes:
    return cv2.imencode(suffix, pixels)[1].tobytes()


DEEP = grey().astype(np.uint16)


FORMS = {
    "grey": (by_opencv(".png", grey()), grey()),
    "grey and alpha": (encoded(Image.fromarray(scene()).convert("LA"), "PNG"), None),
    "cut out": (encoded(Image.fromarray(scene()).convert("RGBA"), "PNG"), scene()),
    "palette": (encoded(Image.fromarray(scene()).convert("P", palette=1, colors=256), "PNG"), scene()),
    "CMYK": (encoded(Image.fromarray(scene()).convert("CMYK"), "JPEG", quality=95), scene()),
    "progressive": (encoded(Image.fromarray(scene()), "JPEG", quality=95, progressive=True), scene()),
    "16 bits": (by_opencv(".png", DEEP * 257), grey()),
    "16 bits in TIFF": (by_opencv(".tif", DEEP * 257), grey()),
    "14 bits in 16": (by_opencv(".png", DEEP * 64), grey()),
    "12 bits in 16": (by_opencv(".png", DEEP * 16), grey()),
    "12 bits in 16, TIFF": (by_opencv(".tif", DEEP * 16), grey()),
    "10 bits in 16": (by_opencv(".png", DEEP * 4), grey()),
    "8 bits in 16": (by_opencv(".png", DEEP), grey()),
    "12 bits in 16, colour": (by_opencv(".png", scene()[..., ::-1].astype(np.uint16) * 16), scene()),
    "real numbers to 1": (by_opencv(".tif", (scene()[..., ::-1] / 255).astype(np.float32)), scene()),
    "real numbers to 255": (by_opencv(".tif", scene()[..., ::-1].astype(np.float32)), scene()),
    "grey real numbers": (by_opencv(".tif", (grey() / 255).astype(np.float32)), grey()),
    "BMP": (by_opencv(".bmp", scene()[..., ::-1]), scene()),
    "PNM": (by_opencv(".ppm", scene()[..., ::-1]), scene()),
    "JPEG 2000": (by_opencv(".jp2", scene()[..., ::-1]), scene()),
}
if cv2.haveImageWriter(".gif"):
    FORMS["GIF"] = (encoded(Image.fromarray(scene()).quantize(256), "GIF"), scene())
if cv2.haveImageWriter(".avif"):
    FORMS["AVIF"] = (by_opencv(".avif", scene()[..., ::-1]), scene())


def sized(width: int, height: int) -> dict[str, bytes]:
    """Images of a few bytes that say they have this size, by kind."""
    small = scene()[:8, :8, ::-1]
    png, bmp, jpeg = (
        bytearray(by_opencv(".png", small)),
        bytearray(by_opencv(".bmp", small)),
        bytearray(by_opencv(".jpg", small)),
    )
    png[16:24] = struct.pack(">II", width, height)
    bmp[18:26] = struct.pack("<ii", width, -height)
    frame = jpeg.index(b"\xff\xc0") + 5
    jpeg[frame : frame + 4] = struct.pack(">HH", height, width)
    tiff = b"II*\0\x08\0\0\0\x03\0" + b"".join(
        struct.pack("<HHII", tag, 4, 1, value) for tag, value in ((256, width), (257, height), (258, 8))
    )
    sides = struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
    return {
        "PNG": bytes(png),
        "BMP": bytes(bmp),
        "JPEG": bytes(jpeg),
        "TIFF": tiff + bytes(64),
        "WebP": b"RIFF\x1e\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + sides + bytes(16),
        "GIF": b"GIF89a" + struct.pack("<HH", width, height) + bytes(32),
        "PNM": b"P6\n%d %d\n255\n" % (width, height) + bytes(32),
        "AVIF": b"\0\0\0\x18ftypavif\0\0\0\0mif1"
        + b"\0\0\0\x14ispe\0\0\0\0"
        + struct.pack(">II", width, height),
        "JPEG 2000": b"\xff\x4f\xff\x51" + struct.pack(">HHIIII", 47, 0, width, height, 0, 0) + bytes(64),
    }
