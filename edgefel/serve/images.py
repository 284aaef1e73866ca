"""Images of clients, checked before they are decoded."""

from __future__ import annotations

from pathlib import Path

from edgefel.data.image_headers import read_header
from edgefel.data.images import UnreadableImageError, decode_rgb
from edgefel.data.preprocessing import Image
from edgefel.errors import EdgefelError
from edgefel.serve.limits import Limits
from edgefel.serve.problems import Problem

# kinds of `read_header` that are decoded; TIFF, whose decoder has far more code, and formats of nobody's camera are not
FORMATS = {
    "JPEG": "image/jpeg",
    "PNG": "image/png",
    "WebP": "image/webp",
    "AVIF": "image/avif",
    "GIF": "image/gif",
    "BMP": "image/bmp",
}
# Scans of a progressive JPEG. Encoders make about 10; each is a pass over the whole image, and takes 10 bytes of a file
# that is made to waste time.
MOST_SCANS = 100
_SCAN = b"\xff\xda"


def decode_image(data: bytes, limits: Limits) -> Image:
    """RGB image [H, W, 3], uint8, upright. Raises Problem: not an image (415), too large (413), damaged (422)."""
    if not data:
        raise Problem(400, "empty", "The image is empty.")
    header = read_header(data)
    if header is None or header.kind not in FORMATS or not header.readable:
        kind = f"a {header.kind} file" if header is not None else "not an image, or only the beginning of one"
        raise Problem(415, "unsupported-format", f"This is {kind}; send {', '.join(FORMATS)}.")
    if header.width * header.height > limits.pixels:
        raise Problem(
            413,
            "too-many-pixels",
            f"{header.width}x{header.height} pixels are more than {limits.pixels}; shrink the image.",
        )
    if header.kind == "JPEG" and data.count(_SCAN) > MOST_SCANS:
        raise Problem(422, "unreadable-image", f"The JPEG has more than {MOST_SCANS} scans.")
    try:
        return decode_rgb(data, Path("image"))
    except UnreadableImageError as error:
        raise Problem(422, "unreadable-image", f"The image cannot be read: {error.reason}.") from None
    except EdgefelError as error:
        raise Problem(422, "unreadable-image", str(error)) from None
