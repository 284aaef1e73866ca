"""The one preprocessing: its exact arithmetic."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from edgefel.errors import EdgefelError
from edgefel.runtime.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing, default_preprocessing


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_the_arithmetic_written_out():
    image = picture(256, 256)
    tensor = Preprocessing(256, 224).to_tensor(image)
    assert tensor.shape == (3, 224, 224)
    assert tensor.dtype == np.float32
    cropped = image[16:240, 16:240].astype(np.float64)
    expected = (cropped / 255 - IMAGENET_MEAN) / IMAGENET_STD
    np.testing.assert_allclose(tensor, expected.transpose(2, 0, 1), atol=2e-6)


@pytest.mark.parametrize(("side", "interpolation"), [(100, cv2.INTER_LINEAR), (400, cv2.INTER_AREA)])
def test_growing_is_bilinear_and_shrinking_takes_areas(side, interpolation):
    image = picture(side, side)
    expected = cv2.resize(image, (128, 128), interpolation=interpolation)
    assert np.array_equal(Preprocessing(128, 112).resize_image(image), expected)


def test_stride_2_keeps_every_second_pixel_bit_for_bit():
    image = picture(300, 280)
    full = Preprocessing(256, 224).to_tensor(image)
    assert np.array_equal(Preprocessing(256, 224, stride=2).to_tensor(image), full[:, ::2, ::2])


def test_a_batch_is_its_pictures():
    preprocessing = default_preprocessing(112)
    images = [picture(90, 120, 1), picture(128, 128, 2)]
    batch = preprocessing.batch(images)
    assert batch.shape == (2, 3, 112, 112)
    for row, image in zip(batch, images, strict=True):
        assert np.array_equal(row, preprocessing.to_tensor(image))


def test_defaults_and_round_trip():
    assert default_preprocessing(224) == Preprocessing(256, 224)
    assert default_preprocessing(112) == Preprocessing(128, 112)
    for preprocessing in (Preprocessing(256, 224, stride=2), default_preprocessing(112)):
        assert Preprocessing.from_dict(preprocessing.to_dict()) == preprocessing
    assert Preprocessing(256, 224, stride=2).output_size == 112


@pytest.mark.parametrize(
    "settings",
    [
        {"resize": 100, "crop": 112},
        {"resize": 256, "crop": 224, "stride": 3},
        {"resize": 0, "crop": 0},
        {"resize": 128, "crop": 112, "std": (1.0, 0.0, 1.0)},
        {"resize": 128, "crop": 112, "colour": "BGR"},
    ],
)
def test_impossible_settings_are_refused(settings):
    with pytest.raises(EdgefelError, match="preprocessing"):
        Preprocessing(**settings)
