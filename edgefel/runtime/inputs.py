"""The images that a model is called with: paths, encoded images, arrays."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from edgefel.data.images import UnreadableImageError, decode_rgb, read_rgb, size_problem, to_uint8
from edgefel.data.preprocessing import Image
from edgefel.errors import EdgefelError
from edgefel.runtime.stream.sources import NO_PIXELS, VIDEO_SUFFIXES, SourceImage

ImageInput: TypeAlias = str | os.PathLike[str] | bytes | NDArray[Any]
ONE_IMAGE = (str, os.PathLike, bytes, np.ndarray)
Channels = Literal["rgb", "bgr"]
# an array is taken at once, and what is decoded later as it is
TakenImage: TypeAlias = SourceImage | Path | bytes
# for messages
_OTHERS = "give a path, bytes of an image file, or a NumPy array"


def check_several(images: Iterable[ImageInput]) -> None:
    """Raises EdgefelError for one image, and for what is none."""
    if isinstance(images, ONE_IMAGE):
        raise EdgefelError("map() takes several images; call the model with one")
    if not isinstance(images, Iterable):
        raise EdgefelError(f"a value of type {type(images).__name__} is no image; {_OTHERS}")


def take_image(image: ImageInput, channels: Channels | None, name: str, *, copy: bool) -> TakenImage:
    """What `read_image` reads. Arrays are checked and converted at once: the caller may change them afterwards.

    channels: order of an array's. name: of an array, for messages. copy: also of an array that is uint8 RGB already.
    Raises EdgefelError for another type, shape, dtype or order, and UnreadableImageError for an array's values or size.
    """
    if channels is not None and channels not in get_args(Channels):
        raise EdgefelError(f"channels is {channels!r}; give 'rgb' or 'bgr'")
    if isinstance(image, bytes):
        return image
    if isinstance(image, str | os.PathLike):
        return Path(image)
    if isinstance(image, np.ndarray):
        try:
            rgb = array_to_rgb(image, channels, name)
        except UnreadableImageError as error:
            return SourceImage(None, NO_PIXELS, error=error)
        return SourceImage(None, rgb.copy() if copy and np.may_share_memory(rgb, image) else rgb)
    raise EdgefelError(f"{name}: a value of type {type(image).__name__}; {_OTHERS}")


def read_image(image: TakenImage, name: str = "image") -> SourceImage:
    """Reads and decodes it; one that cannot be read has the error. name: of encoded images, for messages."""
    if isinstance(image, SourceImage):
        return image
    source = str(image) if isinstance(image, Path) else None
    try:
        if isinstance(image, bytes):
            rgb = decode_rgb(image, Path(name))
        elif image.suffix.lower() in VIDEO_SUFFIXES:
            raise UnreadableImageError(image, "a video, which stream() takes")
        elif image.is_dir():
            raise UnreadableImageError(image, "a folder, whose images are to be given, as by Path.glob")
        else:
            rgb = read_rgb(image)
    except UnreadableImageError as error:
        return SourceImage(source, NO_PIXELS, error=error)
    return SourceImage(source, rgb)


def array_to_rgb(array: NDArray[Any], channels: Channels | None, name: str = "image") -> Image:
    """uint8 RGB [H, W, 3], contiguous, of an array [H, W], or [H, W, C] with 1, 3 or 4 channels, the last alpha.

    The array itself if it is that already. uint16 and real numbers are scaled as of image files (`to_uint8`).
    Raises EdgefelError for another shape or dtype, and for colour without an order of channels; UnreadableImageError
    for values out of range and for sizes that are not read from files either.
    """
    if array.ndim == 4:
        raise EdgefelError(f"{name}: an array of shape {array.shape} is several images; give list(array)")
    depth = array.shape[2] if array.ndim == 3 else 1
    if array.ndim not in (2, 3) or depth not in (1, 3, 4) or array.size == 0:
        raise EdgefelError(f"{name}: an array of shape {array.shape}; give [H, W], [H, W, 3] or [H, W, 4]")
    if array.dtype != np.uint8 and array.dtype.kind != "f" and array.dtype.newbyteorder("=") != np.uint16:
        raise EdgefelError(
            f"{name}: an array of {array.dtype}; give uint8, or uint16 or real numbers as image files have"
        )
    if depth > 1 and channels is None:
        raise EdgefelError(
            f"{name}: a colour array can be RGB or BGR; add channels='bgr' if it is of OpenCV, else channels='rgb'"
        )
    height, width = array.shape[:2]
    if (problem := size_problem(width, height)) is not None:
        raise UnreadableImageError(Path(name), problem)
    colour = np.asarray(array).reshape(height, width, depth)[..., :3]
    if colour.dtype != np.uint8:
        colour = to_uint8(colour.astype(colour.dtype.newbyteorder("=")), Path(name))
    if depth == 1:
        colour = np.repeat(colour, 3, axis=2)
    return np.ascontiguousarray(colour[..., ::-1] if depth > 1 and channels == "bgr" else colour)
