"""Cuts are found in their frame; what a camera or its light does is none. Photograph-like scenes from noise."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import pytest

from edgefel.data.preprocessing import Image
from edgefel.runtime.stream.cuts import FLASH, LEAST, CutFinder, distance, thumbnail


def scene(seed: int, size: tuple[int, int] = (320, 180)) -> Image:
    """Noise with as much in each octave, as photographs have."""
    rng = np.random.default_rng(seed)
    image = np.zeros((size[1], size[0], 3))
    for cells in (2, 4, 8, 16, 32):
        octave = rng.normal(0, 30, (cells, 2 * cells, 3)) + rng.normal(0, 30, (cells, 2 * cells, 1))
        image += cv2.resize(octave, size, interpolation=cv2.INTER_CUBIC)
    return rounded(image + 128)


def rounded(image: np.ndarray) -> Image:
    return np.rint(image).clip(0, 255).astype(np.uint8)


def found(frames: Sequence[Image]) -> list[int]:
    finder = CutFinder()
    return [index for index, frame in enumerate(frames) if finder(frame)]


def shifted(image: Image, x: int, y: int = 0) -> Image:
    return np.roll(image, (y, x), (0, 1))


@pytest.mark.parametrize("size", [(320, 180), (161, 97), (1920, 1080), (64, 480), (33, 17)])
def test_a_cut_is_found_in_its_frame(size):
    frames = [scene(seed, size) for seed in (0, 1, 2) for _ in range(5)]
    assert found(frames) == [5, 10]


@pytest.mark.parametrize("seed", range(20))
def test_each_shot_of_one_frame_is_a_cut(seed):
    frames = [scene(seed)] * 3 + [scene(seed + 100 * number) for number in range(1, 7)]
    # a bright one after a dark one may be a flash, but not for ever
    assert len(found(frames)) >= 5


def test_a_shot_of_one_frame_within_another_makes_two_cuts():
    frames = [scene(0)] * 6
    frames[3] = scene(1)
    assert found(frames) == [3, 4]


@pytest.mark.parametrize("seed", range(10))
def test_noise_grey_and_bars_change_nothing(seed):
    rng = np.random.default_rng(seed)
    frames = [scene(number) for number in (2 * seed, 2 * seed + 1) for _ in range(5)]
    grey = [np.repeat(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)[..., None], 3, 2) for frame in frames]
    noisy = [rounded(frame * 0.5 + rng.normal(0, 25, frame.shape)) for frame in frames]
    barred = [np.pad(frame[:, 100:220], ((0, 0), (100, 100), (0, 0))) for frame in frames]
    for changed in (frames, grey, noisy, barred):
        assert [index for index in found(changed) if not 5 <= index <= 5 + FLASH] == []
        assert len(found(changed)) == 1


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("speed", [3, 12, 25, -25])
def test_a_pan_is_no_cut(seed, speed):
    image = scene(seed, (640, 180))
    assert found([shifted(image, speed * step)[:, :320] for step in range(20)]) == []


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("gain", [0.4, 1.5, 2.5])
def test_a_flash_and_a_step_of_the_exposure_are_no_cuts(seed, gain):
    image = scene(seed)
    bright = rounded(gain * image.astype(np.float64))
    assert found([image] * 4 + [bright] + [image] * 4) == []
    assert found([image] * 4 + [bright] * 6) == []


def test_a_white_frame_is_a_flash_whatever_comes_after_is_compared_with_what_was_before():
    white = np.full_like(scene(0), 255)
    assert found([scene(0)] * 3 + [white] * 2 + [scene(0)] * 3) == []
    assert found([scene(0)] * 3 + [white] * 2 + [scene(1)] * 3) == [5]


def test_a_camera_that_is_switched_on_makes_no_cut():
    image = scene(0).astype(np.float64)
    black = np.zeros_like(scene(0))
    assert found([black] * 3 + [rounded(image * step / 10) for step in range(11)] + [scene(0)] * 3) == []


def test_a_blended_frame_hides_no_cut():
    for seed in range(20):
        first, second = scene(2 * seed), scene(2 * seed + 1)
        blend = cv2.addWeighted(first, 0.5, second, 0.5, 0)
        assert {*found([first] * 5 + [blend] + [second] * 5)} & {5, 6}


def test_what_moved_before_has_to_be_exceeded():
    """The same change ends a calm shot, and not a restless one."""
    restless = [scene(0)]
    for number in range(1, 12):
        restless.append(cv2.addWeighted(restless[-1], 0.75, scene(number), 0.25, 0))
    last = restless[-1]
    changed = cv2.addWeighted(last, 0.6, scene(99), 0.4, 0)
    usual, far = (distance(thumbnail(last), thumbnail(other)) for other in (restless[-2], changed))
    assert LEAST < far < 3 * usual
    assert found([last] * 8 + [changed]) == [8]
    assert found([*restless, changed]) == []


@pytest.mark.parametrize("size", [(1, 1), (2, 500), (500, 2), (31, 17)])
def test_images_of_any_size(size):
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 256, (size[1], size[0], 3), np.uint8) for _ in range(5)]
    assert all(index in range(1, 5) for index in found(frames))


def test_the_distance_is_symmetric_enough_and_zero_of_itself():
    for seed in range(20):
        first, second = thumbnail(scene(seed)), thumbnail(scene(seed + 1))
        assert distance(first, first) == pytest.approx(0, abs=1e-6)
        assert distance(first, second) > LEAST
        assert distance(second, first) > LEAST


def test_the_distance_of_a_shift_is_that_of_numpy():
    """The largest correlation of the inner part with the other, by its definition."""
    first, second = thumbnail(scene(3)).astype(np.float64), thumbnail(shifted(scene(3), 20, 9)).astype(float)
    inner = second[3:15, 5:27]
    best = max(
        np.corrcoef(first[y : y + 12, x : x + 22].ravel(), inner.ravel())[0, 1]
        for y in range(7)
        for x in range(11)
    )
    got = distance(first.astype(np.uint8), second.astype(np.uint8))
    assert got == pytest.approx(1 - best, abs=1e-5)
