"""From a face crop to the model's input: resize, centre crop, stride, normalise. Torch-free.

The resampling filter belongs to the weights: networks need the one that they were trained with. Training, calibration,
parity checks and the device use the same object; checkpoints and bundle manifests store it as a plain dict.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from edgefel.errors import EdgefelError

Image = npt.NDArray[np.uint8]
Tensor = npt.NDArray[np.float32]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
MOST_PIXELS = 4096  # on a side

# area: edgefel's recipe, means of areas where both sides shrink, else bilinear. antialias: bilinear with a filter as
# wide as the reduction, byte for byte Pillow's and therefore torchvision's Resize of images. bilinear: OpenCV's, which
# skips pixels when it shrinks by more than 2, as mmcv's Resize.
RESAMPLING = ("area", "antialias", "bilinear")
COLOURS = ("RGB", "grey")
# of red, green, blue: those of ITU-R BT.601, as OpenCV rounds them, in halves up
LUMA = (9798 / 2**15, 19235 / 2**15, 3735 / 2**15)


@dataclass(frozen=True)
class Preprocessing:
    """How a uint8 RGB face crop becomes a float32 tensor; checked at construction.

    resize: side in pixels that the crop is resized to.
    crop: side of the centre crop taken from it.
    stride: every stride-th pixel of it is kept, starting with the first; the side of the tensor is
        crop / stride. Stride 2 is the nearest-neighbour resample that the full-size encoder starts with.
    mean, std: per channel, on the scale 0..1 (ImageNet's by default).
    colour: "RGB", the order of the channels, or "grey" where all training images are: a network that has seen no colour
        reads something into it, so images lose theirs (ITU-R BT.601's luma in all three channels).
    resample: one of RESAMPLING.
    detail: side in pixels of the training images where that is smaller than `resize`. Images larger than that are first
        reduced to it, by area: from a camera come finer details than the network was ever shown. None: nothing is lost.
    """

    resize: int
    crop: int
    stride: int = 1
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    colour: str = "RGB"
    resample: str = "area"
    detail: int | None = None

    def __post_init__(self) -> None:
        for name in ("resize", "crop", "stride"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise EdgefelError(f"preprocessing: {name} is {value!r}; it must be an integer of at least 1")
        if self.resize > MOST_PIXELS:
            raise EdgefelError(f"preprocessing: resize is {self.resize}; it must be at most {MOST_PIXELS}")
        if self.detail is not None and (type(self.detail) is not int or not 0 < self.detail < self.resize):
            raise EdgefelError(
                f"preprocessing: detail is {self.detail!r}; it must be an integer from 1 to resize - 1"
            )
        if self.crop > self.resize:
            raise EdgefelError(f"preprocessing: crop {self.crop} is larger than resize {self.resize}")
        if self.crop % self.stride:
            raise EdgefelError(f"preprocessing: crop {self.crop} is not a multiple of stride {self.stride}")
        for name in ("mean", "std"):
            object.__setattr__(self, name, _triple(name, getattr(self, name)))
        if min(self.std) <= 0:
            raise EdgefelError(f"preprocessing: std is {self.std}; every value must be greater than 0")
        if self.colour not in COLOURS:
            raise EdgefelError(
                f"preprocessing: colour is {self.colour!r}; this edgefel knows {', '.join(COLOURS)}"
            )
        if self.resample not in RESAMPLING:
            raise EdgefelError(
                f"preprocessing: resample is {self.resample!r}; this edgefel knows {', '.join(RESAMPLING)}"
            )

    @property
    def output_size(self) -> int:
        """Side of the tensor in pixels."""
        return self.crop // self.stride

    @property
    def summary(self) -> str:
        """A description of sizes and resampling."""
        cropped = "no crop" if self.crop == self.resize else f"crop {self.crop} from the middle"
        reduced = "" if self.detail is None else f"reduce to {self.detail}, "
        grey = ", grey" if self.colour == "grey" else ""
        return f"{reduced}resize to {self.resize} ({self.resample}), {cropped}{grey}"

    @property
    def after_resizing(self) -> Preprocessing:
        """What is left to do with images of `resize_image`."""
        return self if self.detail is None else replace(self, detail=None)

    def scaled(self, output_size: int) -> Preprocessing:
        """The same framing, resampling and normalisation for a model of that input size; stride 1."""
        if output_size == self.output_size:
            return self
        resize = round(self.resize * output_size / self.crop)
        detail = self.detail if self.detail is not None and self.detail < resize else None
        return replace(self, resize=resize, crop=output_size, stride=1, detail=detail)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; `from_dict` reads them back. Defaults of newer fields are left out, as in older files."""
        values = {**vars(self), "mean": list(self.mean), "std": list(self.std)}
        return {name: value for name, value in values.items() if name not in _NEWER or value != _NEWER[name]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Preprocessing:
        """Reads `to_dict`'s values; raises EdgefelError for missing, unknown or impossible ones."""
        if not isinstance(values, Mapping):
            raise EdgefelError(f"preprocessing: expected an object with fields, got {values!r}")
        known = [field.name for field in fields(cls)]
        if missing := [name for name in known if name not in values and name not in _NEWER]:
            raise EdgefelError(f"preprocessing: missing {', '.join(missing)}")
        if unknown := sorted(set(values) - set(known)):
            raise EdgefelError(f"preprocessing: unknown {', '.join(unknown)}; known are {', '.join(known)}")
        return cls(**values)

    def resize_image(self, rgb: Image) -> Image:
        """uint8 RGB [H, W, 3] of any size -> uint8 [resize, resize, 3]."""
        _check_image(rgb)
        resized = self._resized(rgb)
        if self.colour == "grey":
            return np.asarray(
                cv2.cvtColor(cv2.cvtColor(resized, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB), np.uint8
            )
        return resized

    def _resized(self, rgb: Image) -> Image:
        height, width = rgb.shape[:2]
        if (height, width) == (self.resize, self.resize) and self.detail is None:
            return rgb
        if self.detail is not None and min(height, width) > self.detail:
            height = width = self.detail
            rgb = _area_mean(rgb, self.detail)
        if self.resample == "antialias":
            return _antialiased(rgb, self.resize)
        if height > self.resize and width > self.resize and self.resample == "area":
            return _area_mean(rgb, self.resize)
        return np.asarray(
            cv2.resize(rgb, (self.resize, self.resize), interpolation=cv2.INTER_LINEAR), np.uint8
        )

    def to_tensor(self, rgb: Image) -> Tensor:
        """uint8 RGB [H, W, 3] of any size -> float32 [3, output_size, output_size].

        Every value is (x / 255 - mean) / std computed in float64 and rounded once.
        """
        return np.asarray(self.batch([rgb])[0])

    def batch(self, images: Sequence[Image]) -> Tensor:
        """N uint8 RGB images [H, W, 3] of any sizes -> float32 [N, 3, output_size, output_size]."""
        size = self.output_size
        pixels = self.pixel_batch(images)
        out = np.empty((len(images), 3, size, size), dtype=np.float32)
        if not len(images):
            return out
        # plane by plane, which OpenCV's look-up does faster than three channels at once
        rows = pixels.reshape(-1, size, 3)
        for channel, table in enumerate(self.normalisation_table()):
            plane = cv2.LUT(cv2.extractChannel(rows, channel), table)
            out[:, channel] = plane.reshape(len(images), size, size)
        return out

    def pixel_batch(self, images: Sequence[Image]) -> Image:
        """As `batch` without the normalisation: uint8 RGB [N, output_size, output_size, 3].

        For models that normalise in the graph; `batch` is `normalisation_table` at these bytes, channels first.
        """
        size = self.output_size
        out = np.empty((len(images), size, size, 3), dtype=np.uint8)
        for pixels, image in zip(out, images, strict=True):
            pixels[:] = self._pixels(image)
        return out

    def normalisation_table(self) -> Tensor:
        """float32 [3, 256]: the value of every byte per channel, (x / 255 - mean) / std rounded once."""
        return _normalisation_table(self.mean, self.std)

    def _pixels(self, image: Image) -> Image:
        """Resized, cropped and taken at the stride; a view."""
        start = (self.resize - self.crop) // 2
        window = slice(start, start + self.crop, self.stride)
        return self.resize_image(image)[window, window]


# fields that older files lack, and what these mean by it
_NEWER: Mapping[str, Any] = {"resample": "area", "detail": None}


def default_preprocessing(input_size: int) -> Preprocessing:
    """The recipe's preprocessing for a model of that input size: resize to 8/7 of it (224 -> 256, 112 -> 128)."""
    return Preprocessing(resize=input_size * 8 // 7, crop=input_size)


def _triple(name: str, values: Any) -> tuple[float, float, float]:
    try:
        first, second, third = (float(value) for value in values)
    except (TypeError, ValueError, OverflowError):
        raise EdgefelError(f"preprocessing: {name} is {values!r}; it must be three numbers") from None
    if not np.isfinite([first, second, third]).all():
        raise EdgefelError(f"preprocessing: {name} is {values!r}; every value must be finite")
    return first, second, third


def _check_image(rgb: Image) -> None:
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3 or 0 in rgb.shape:
        raise EdgefelError(
            f"face crop of shape {rgb.shape} and type {rgb.dtype}: expected uint8 RGB [H, W, 3]"
        )


@lru_cache(maxsize=8)
def _normalisation_table(mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """float32 [3, 256]: the normalised value of every byte, per channel; a look-up beats three passes."""
    values = np.arange(256, dtype=np.float64) / 255.0
    table = (values - np.asarray(mean)[:, None]) / np.asarray(std)[:, None]
    return np.ascontiguousarray(table.astype(np.float32))


_BAND_VALUES = 1 << 18  # of the table of sums, 2 MB: as much as caches hold


def _area_mean(rgb: Image, size: int) -> Image:
    """uint8 RGB [H, W, 3], H and W at least `size` -> [size, size, 3]: means of areas, halves rounded up.

    The same on every processor, unlike cv2.INTER_AREA, which sums floats: a mean near a half is rounded either way.
    A table of sums (Crow 1984) is linear within a pixel, so that sums in units of 1 / size^2 of a pixel are integers,
    which float64 holds exactly.
    """
    height, width = rgb.shape[:2]
    down, across = _edges(height, size), _edges(width, size)
    band = max(1, _BAND_VALUES * size // (3 * width * height))
    out = np.empty((size, size, 3), dtype=np.uint8)
    for first in range(0, size, band):
        whole, part = (values[first : first + band + 1] for values in down)
        table = cv2.integral(rgb[whole[0] : whole[-1] + 1], sdepth=cv2.CV_64F)
        rows = _between(table, whole - whole[0], part, size)
        sums = cv2.transpose(_between(cv2.transpose(rows), *across, size))
        out[first : first + band] = np.floor(sums / (height * width) + 0.5)
    return out


@lru_cache(maxsize=64)
def _edges(length: int, size: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Where each of `size` outputs over `length` pixels begins, and where the last ends [size + 1]: the pixel, and how
    far into it in units of 1 / size."""
    whole, part = np.divmod(np.arange(size + 1) * length, size)
    return whole, part


def _between(
    table: Any, whole: npt.NDArray[np.int64], part: npt.NDArray[np.int64], size: int
) -> npt.NDArray[np.float64]:
    """Sums up to each pixel, float64 [length + 1, ...] -> `size` times the sums between the edges [edges - 1, ...]."""
    near, far = table[whole], table[np.minimum(whole + 1, len(table) - 1)]
    far -= near
    far *= part[:, None, None]
    near *= size
    near += far
    return np.asarray(near[1:] - near[:-1])


def _antialiased(rgb: Image, size: int) -> Image:
    """uint8 RGB [H, W, 3] -> [size, size, 3] by a triangular filter at least one output pixel wide, first across, then
    down, rounded after each pass as in Pillow."""
    # rows are contiguous in memory and columns are not: both passes run over rows
    across = _filter_rows(cv2.transpose(rgb), size)
    return _filter_rows(cv2.transpose(across), size)


def _filter_rows(image: Any, size: int) -> Image:
    """uint8 [H, W, 3] -> [size, W, 3]."""
    if len(image) == size:
        return np.asarray(image, dtype=np.uint8)
    first, weights = _triangle_filter(len(image), size)
    total = np.full((size, *image.shape[1:]), 1 << (_FILTER_BITS - 1), dtype=np.int32)
    for tap in range(weights.shape[1]):
        rows = image[np.minimum(first + tap, len(image) - 1)]
        total += rows * weights[:, tap, None, None]
    return (total >> _FILTER_BITS).astype(np.uint8)


# Pillow's fixed point: 255 times weights that sum to 1 stay below 2**31.
_FILTER_BITS = 22


@lru_cache(maxsize=64)
def _triangle_filter(length: int, size: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]]:
    """For each of `size` outputs over `length` inputs: the first input in the filter [size], and the weights of it and
    the following ones [size, taps], in units of 2**-_FILTER_BITS."""
    step = length / size
    reach = max(step, 1.0)  # half the width of the triangle
    centres = (np.arange(size) + 0.5) * step
    first = np.maximum((centres - reach + 0.5).astype(np.int64), 0)
    end = np.minimum((centres + reach + 0.5).astype(np.int64), length)
    inputs = first[:, None] + np.arange(int((end - first).max()))
    weights = np.maximum(1.0 - np.abs(inputs - centres[:, None] + 0.5) / reach, 0.0)
    weights[inputs >= end[:, None]] = 0.0
    weights /= weights.sum(1, keepdims=True)
    return first, np.floor(weights * (1 << _FILTER_BITS) + 0.5).astype(np.int32)
