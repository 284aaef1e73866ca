"""When the whole image is searched, and when only near known faces."""

from __future__ import annotations

import numpy as np
import pytest
from streams import GREEN, RED, SquareDetector, scene

from edgefel.errors import EdgefelError
from edgefel.runtime.stream.search import AdaptiveDetector


class Recorder(SquareDetector):
    """Records the sizes of what it searches."""

    def __init__(self) -> None:
        super().__init__()
        self.searched = []

    def __call__(self, image):
        self.searched.append(image.shape[:2])
        return super().__call__(image)


def searched(images, every):
    """For each image: whether it was searched as a whole, and the boxes."""
    recorder = Recorder()
    detector = AdaptiveDetector(recorder, every)
    found = []
    for image in images:
        recorder.searched.clear()
        boxes = detector(image)
        found.append((image.shape[:2] in recorder.searched, [(box.x, box.y) for box in boxes]))
    return found


def test_a_whole_search_starts_the_count_of_frames_anew():
    """Also one that a change of the resolution brings."""
    images = [scene([(100, 100, 60, RED)], size) for size in [(320, 240)] * 2 + [(640, 480)] * 4]
    recorder = Recorder()
    detector = AdaptiveDetector(recorder, 3)
    for image in images:
        detector(image)
    # patches of 1.6 times the face's side in between
    assert recorder.searched == [(240, 320), (96, 96), (480, 640), (96, 96), (96, 96), (480, 640)]


def test_every_frame_is_searched_by_default():
    assert [whole for whole, _ in searched([scene([(20, 20, 60, RED)])] * 3, 1)] == [True] * 3


def test_a_newcomer_starts_a_whole_search():
    one, two = [(20, 20, 60, RED)], [(20, 20, 60, RED), (200, 100, 60, GREEN)]
    found = searched([scene(one), scene(one), scene(two), scene(two)], 100)
    assert [whole for whole, _ in found] == [True, False, True, False]
    assert [len(boxes) for _, boxes in found] == [1, 1, 2, 2]


def test_a_face_that_moves_within_its_surroundings_does_not():
    found = searched([scene([(20 + 5 * step, 20 + 3 * step, 60, RED)]) for step in range(4)], 100)
    assert [boxes for _, boxes in found] == [[(20 + 5 * step, 20 + 3 * step)] for step in range(4)]
    assert [whole for whole, _ in found][:2] == [True, False]


def test_a_lost_face_starts_a_whole_search_of_the_same_frame():
    """A jump out of the patch: found there at once."""
    near, far = scene([(20, 20, 60, RED)]), scene([(220, 150, 60, RED)])
    assert searched([near, far], 100)[1] == (True, [(220, 150)])
    # only the known face's own surroundings changed
    gone = scene([])
    assert searched([near, gone, gone], 100)[1:] == [(True, []), (False, [])]


def test_another_scene_is_searched_whole():
    rng = np.random.default_rng(0)
    dark = np.zeros((240, 320, 3), np.uint8)
    noisy = rng.integers(0, 12, dark.shape, dtype=np.uint8)
    light, calls = np.full_like(dark, 90), []
    detector = AdaptiveDetector(lambda image: calls.append(image[0, 0, 0]) or [], 100)
    for image in (dark, noisy, light, light):
        detector(image)
    assert calls == [0, 90]


def test_small_and_narrow_images():
    for shape in ((1, 1), (3, 900), (900, 3), (7, 5)):
        images = [np.zeros((*shape, 3), np.uint8), np.full((*shape, 3), 200, np.uint8)]
        assert [whole for whole, _ in searched(images, 9)] == [True, True]


def test_the_interval_is_checked():
    with pytest.raises(EdgefelError, match="every 0 frames"):
        AdaptiveDetector(SquareDetector(), 0)
