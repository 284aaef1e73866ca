"""Preprocessing against a float64 implementation written out step by step."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from edgefel.errors import EdgefelError
from edgefel.runtime.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing, default_preprocessing


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def plain(pixels: np.ndarray, crop: int, stride: int) -> np.ndarray:
    """float64 [3, crop / stride, crop / stride] of resized pixels, one value at a time."""
    start = (len(pixels) - crop) // 2
    size = crop // stride
    out = np.empty((3, size, size))
    for channel in range(3):
        for row in range(size):
            for column in range(size):
                value = int(pixels[start + row * stride, start + column * stride, channel])
                out[channel, row, column] = (value / 255 - IMAGENET_MEAN[channel]) / IMAGENET_STD[channel]
    return out


@pytest.mark.parametrize(("resize", "crop", "stride"), [(32, 28, 1), (32, 28, 2), (33, 28, 1), (21, 21, 3)])
def test_every_value_is_the_float64_one_rounded_once(resize, crop, stride):
    pixels = picture(resize, resize)
    tensor = Preprocessing(resize, crop, stride).to_tensor(pixels)
    assert tensor.dtype == np.float32
    np.testing.assert_array_equal(tensor, plain(pixels, crop, stride).astype(np.float32))


def test_known_values():
    grey = np.full((8, 8, 3), 255, np.uint8)
    grey[:, :, 1] = 0
    tensor = Preprocessing(8, 8).to_tensor(grey)
    np.testing.assert_allclose(
        tensor[:, 0, 0], [(1 - 0.485) / 0.229, -0.456 / 0.224, (1 - 0.406) / 0.225], rtol=1e-6
    )


@pytest.mark.parametrize("size", [(300, 280), (100, 131), (256, 256), (500, 90)])
def test_stride_two_is_stride_one_subsampled(size):
    image = picture(*size)
    full = Preprocessing(256, 224, 1).to_tensor(image)
    np.testing.assert_array_equal(Preprocessing(256, 224, 2).to_tensor(image), full[:, ::2, ::2])


def test_resize_shrinks_by_area_and_grows_by_interpolation():
    preprocessing = Preprocessing(16, 16)
    large, small, mixed = picture(48, 48), picture(9, 11), picture(40, 10)
    means = large.reshape(16, 3, 16, 3, 3).astype(np.float64).mean(axis=(1, 3))
    assert np.abs(preprocessing.resize_image(large) - means).max() <= 0.5 + 1e-6
    for image in (small, mixed):
        expected = cv2.resize(image, (16, 16), interpolation=cv2.INTER_LINEAR)
        np.testing.assert_array_equal(preprocessing.resize_image(image), expected)
    same = picture(16, 16)
    np.testing.assert_array_equal(preprocessing.resize_image(same), same)


def test_a_view_with_gaps_is_as_good_as_a_copy():
    view = picture(60, 80)[5:45:2, ::-1]
    preprocessing = Preprocessing(32, 28)
    np.testing.assert_array_equal(preprocessing.to_tensor(view), preprocessing.to_tensor(view.copy()))


def test_batch_is_its_images_one_by_one():
    preprocessing = Preprocessing(32, 28, 2)
    images = [picture(20, 30, 1), picture(64, 64, 2), picture(32, 32, 3)]
    batch = preprocessing.batch(images)
    assert batch.shape == (3, 3, 14, 14)
    assert batch.flags.c_contiguous
    for tensor, image in zip(batch, images, strict=True):
        np.testing.assert_array_equal(tensor, preprocessing.to_tensor(image))
    assert preprocessing.batch([]).shape == (0, 3, 14, 14)


def test_defaults():
    assert default_preprocessing(224) == Preprocessing(256, 224, 1, IMAGENET_MEAN, IMAGENET_STD)
    assert default_preprocessing(112) == Preprocessing(128, 112)
    assert Preprocessing(256, 224, 2).output_size == 112


def test_round_trip_through_json():
    preprocessing = Preprocessing(100, 80, 4, mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))
    assert Preprocessing.from_dict(json.loads(json.dumps(preprocessing.to_dict()))) == preprocessing


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"resize": 0}, "resize is 0"),
        ({"resize": 32.0}, "resize is 32.0"),
        ({"stride": True}, "stride is True"),
        ({"crop": 40}, "larger than resize"),
        ({"stride": 3}, "not a multiple"),
        ({"mean": [0.1, 0.2]}, "three numbers"),
        ({"mean": None}, "three numbers"),
        ({"mean": [0.1, 0.2, float("nan")]}, "finite"),
        ({"std": [0.1, 0.0, 0.3]}, "greater than 0"),
        ({"colour": "BGR"}, "'RGB'"),
        ({"gamma": 2}, "unknown gamma"),
    ],
)
def test_impossible_settings(changes, message):
    values = {**Preprocessing(32, 28).to_dict(), **changes}
    with pytest.raises(EdgefelError, match=message):
        Preprocessing.from_dict(values)


def test_missing_settings_and_no_settings():
    with pytest.raises(EdgefelError, match="missing stride, mean, std, colour"):
        Preprocessing.from_dict({"resize": 32, "crop": 28})
    with pytest.raises(EdgefelError, match="expected an object"):
        Preprocessing.from_dict([1])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((8, 8), np.uint8),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((8, 8, 3), np.float32),
        np.zeros((0, 8, 3), np.uint8),
    ],
    ids=["grey", "alpha", "float", "empty"],
)
def test_only_uint8_rgb_pictures(image):
    with pytest.raises(EdgefelError, match="expected uint8 RGB"):
        Preprocessing(8, 8).to_tensor(image)
