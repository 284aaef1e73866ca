"""How images are resized: areas in integers, Pillow's and OpenCV's bilinear filters, and golden bytes."""

from __future__ import annotations

import json

import cv2
import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vectors.preprocessing_vectors import FOLDER, digest

from edgefel.data.images import read_rgb
from edgefel.data.preprocessing import Preprocessing

GOLDEN = json.loads((FOLDER / "golden.json").read_text())
SIZES = [(100, 100), (97, 151), (21, 75), (19, 23), (300, 224), (1, 1), (700, 512), (32, 40)]


def original(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_resize_shrinks_by_area_and_grows_by_interpolation():
    preprocessing = Preprocessing(16, 16)
    large, small, mixed = original(48, 48), original(9, 11), original(40, 10)
    means = large.reshape(16, 3, 16, 3, 3).astype(np.float64).mean(axis=(1, 3))
    assert np.abs(preprocessing.resize_image(large) - means).max() <= 0.5 + 1e-6
    for image in (small, mixed):
        expected = cv2.resize(image, (16, 16), interpolation=cv2.INTER_LINEAR)
        np.testing.assert_array_equal(preprocessing.resize_image(image), expected)
    same = original(16, 16)
    np.testing.assert_array_equal(preprocessing.resize_image(same), same)


def overlaps(length: int, size: int) -> np.ndarray:
    """[size, length]: how much of each pixel each output covers, in units of 1 / size."""
    edges, pixels = np.arange(size + 1) * length, np.arange(length + 1) * size
    covered = np.minimum(edges[1:, None], pixels[1:]) - np.maximum(edges[:-1, None], pixels[:-1])
    return np.maximum(covered, 0).astype(np.float64)  # products and sums of integers this small are exact


@settings(deadline=None)
@given(
    st.integers(1, 60), st.integers(1, 150), st.integers(1, 150), st.sampled_from((2, 3, 256)), st.booleans()
)
def test_means_of_areas_are_those_of_integers_with_halves_up(size, taller, wider, levels, to_detail):
    """Sums of floats round otherwise on other processors: one reference in integers holds for all."""
    height, width = size + taller, size + wider
    image = (original(height, width).astype(int) % levels).astype(
        np.uint8
    )  # of few levels: many means are halves
    covered = overlaps(height, size), image.astype(np.float64), overlaps(width, size)
    sums = np.einsum("ip,pqc,jq->ijc", *covered, optimize=True)
    expected = ((2 * sums + height * width) // (2 * height * width)).astype(np.uint8)
    preprocessing = Preprocessing(size, size)
    if to_detail:
        preprocessing = Preprocessing(size + 1, size + 1, detail=size)
        expected = Preprocessing(size + 1, size + 1).resize_image(expected)
    np.testing.assert_array_equal(preprocessing.resize_image(image), expected)


def test_a_large_image_is_reduced_part_by_part():
    image = original(2000, 1500)
    columns = image.reshape(8, 250, 1500, 3).astype(np.int64).sum(1)
    expected = np.floor(np.einsum("iqc,jq->ijc", columns, overlaps(1500, 8)) / (250 * 1500) + 0.5)
    np.testing.assert_array_equal(Preprocessing(8, 8).resize_image(image), expected)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("side", [32, 224])
def test_antialias_is_pillows_bilinear_byte_for_byte(size, side):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    resized = Preprocessing(side, side, resample="antialias").resize_image(image)
    expected = np.asarray(PIL.Image.fromarray(image).resize((side, side), PIL.Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(resized, expected)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_bilinear_interpolates_between_two_pixels_however_much_it_shrinks(size):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    resized = Preprocessing(32, 32, resample="bilinear").resize_image(image)
    ways = []
    for length in size:
        way = np.zeros((32, length))
        places = np.clip((np.arange(32) + 0.5) * length / 32 - 0.5, 0, length - 1)
        below = np.floor(places).astype(int)
        way[np.arange(32), below] += 1 - (places - below)
        way[np.arange(32), np.minimum(below + 1, length - 1)] += places - below
        ways.append(way)
    expected = np.einsum("ip,pqc,jq->ijc", ways[0], image.astype(np.float64), ways[1], optimize=True)
    assert np.abs(resized - expected).max() <= 1.0


def weights_of(length: int, size: int, shrinking: bool) -> np.ndarray:
    """[size, length]: what each input pixel gives to each output pixel; area when shrinking, else bilinear."""
    if shrinking:
        return overlaps(length, size) / length
    ratio = length / size
    weights = np.zeros((size, length))
    for row in range(size):
        place = min(max((row + 0.5) * ratio - 0.5, 0.0), length - 1.0)
        left = min(int(place), length - 2)
        weights[row, left : left + 2] = 1 - (place - left), place - left
    return weights


@pytest.mark.parametrize("name", GOLDEN["cases"])
def test_golden_vectors(name):
    """Byte for byte. Each part has its own check, so that a failure says which arithmetic changed."""
    case = GOLDEN["cases"][name]
    preprocessing = Preprocessing.from_dict(case["preprocessing"])
    image, stored = (read_rgb(FOLDER / f"{stem}.png") for stem in (name, f"{name}.resized"))
    assert (image.shape[:2], digest(image)) == (tuple(case["size"]), case["image"])
    assert digest(stored) == case["resized"]
    resized = preprocessing.resize_image(image)
    off = int(np.abs(resized.astype(int) - stored).max())
    assert off == 0, (
        f"OpenCV {cv2.__version__} resizes up to {off} grey levels away from {GOLDEN['opencv']}: models see other "
        f"pixels than they were trained and judged with. Take another OpenCV, or show by 'edgefel parity' that "
        f"accuracy holds and make the vectors anew with tests/vectors/preprocessing_vectors.py"
    )
    start, step = (preprocessing.resize - preprocessing.crop) // 2, preprocessing.stride
    window = stored[start : start + preprocessing.crop, start : start + preprocessing.crop][::step, ::step]
    tensor = (window.astype(np.float64) / 255 - preprocessing.mean) / preprocessing.std
    np.testing.assert_array_equal(
        preprocessing.to_tensor(image), tensor.transpose(2, 0, 1).astype(np.float32)
    )
    assert digest(preprocessing.to_tensor(image)) == case["tensor"]
    np.testing.assert_array_equal(preprocessing.pixel_batch([image])[0], window)
    assert digest(preprocessing.pixel_batch([image])) == case["pixels"]


@pytest.mark.parametrize("name", GOLDEN["cases"])
def test_golden_pixels_are_area_means_or_interpolations(name):
    """By matrices in float64. OpenCV's fixed-point weights may round the other way: one level."""
    image, stored = (read_rgb(FOLDER / f"{stem}.png") for stem in (name, f"{name}.resized"))
    size = len(stored)
    shrinking = min(image.shape[:2]) > size
    down, across = (weights_of(length, size, shrinking) for length in image.shape[:2])
    expected = np.einsum("ip,pqc,jq->ijc", down, image.astype(np.float64), across)
    assert np.abs(stored - expected).max() <= 1.0
    assert np.abs(stored - expected).mean() < 0.3


@pytest.mark.parametrize("size", [(48, 48), (97, 151), (19, 23), (128, 128), (48, 97)], ids=str)
@pytest.mark.parametrize("resample", ["area", "antialias", "bilinear"])
def test_a_larger_image_shows_no_more_detail_than_the_training_images(size, resample):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    plain, own = (
        Preprocessing(128, 112, resample=resample),
        Preprocessing(128, 112, resample=resample, detail=48),
    )
    reduced = image
    if min(size) > 48:
        down, across = (weights_of(length, 48, True) for length in size)
        reduced = np.rint(np.einsum("ip,pqc,jq->ijc", down, image.astype(np.float64), across)).astype(
            np.uint8
        )
    found, expected = own.batch([image]), plain.batch([reduced])
    if min(size) <= 48:  # the training images themselves, and smaller ones
        np.testing.assert_array_equal(found, expected)
    else:
        assert np.abs(found - expected).max() <= 1.01 / 255 / min(plain.std)
        assert np.abs(found - plain.batch([image])).max() > 0.5
