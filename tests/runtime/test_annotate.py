"""Annotated images: everything is drawn, and stays in the image."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgefel.data.labels import EXPRESSIONS_8
from edgefel.runtime.alignment import FaceBox
from edgefel.runtime.annotate import FAINT, PALETTE, STRIP_HEIGHT, annotate, annotate_crop
from edgefel.runtime.results import LabelledFace


def face(x: int, y: int, side: int, label: int = 1, share: float = 0.65) -> LabelledFace:
    rest = (1 - share) / 7
    probabilities = {name: share if i == label else rest for i, name in enumerate(EXPRESSIONS_8)}
    name = EXPRESSIONS_8[label]
    return LabelledFace(FaceBox(x, y, side), name, name, 0.5, probabilities, probabilities)


@pytest.mark.parametrize("size", [(64, 64), (240, 320), (1080, 1920)])
def test_the_label_has_its_colour_and_the_original_is_kept(size):
    image = np.full((*size, 3), 90, np.uint8)
    side = min(size) // 3
    out = annotate(image, [face(side, side, side)])
    assert (image == 90).all()
    assert out.shape == image.shape
    assert (out == PALETTE[1]).all(axis=-1).any()
    assert np.array_equal(annotate(image, []), image)


@pytest.mark.parametrize("side", [200, 540])
def test_an_unsure_face_is_grey_and_says_so(side):
    image = np.full((600, 600, 3), 90, np.uint8)
    sure = face(20, 20, side)
    out = annotate(image, [replace(sure, sure=False)])
    assert (out == FAINT).all(axis=-1).any()
    bars = (out == PALETTE[1]).all(axis=-1).sum()
    assert bars < (annotate(image, [sure]) == PALETTE[1]).all(axis=-1).sum() / 2


def test_a_longer_bar_for_a_larger_probability():
    image = np.full((480, 640, 3), 90, np.uint8)
    lengths = [
        (annotate(image, [face(50, 50, 200, share=share)]) == PALETTE[1]).all(axis=-1).sum()
        for share in (0.3, 0.6, 0.9)
    ]
    assert lengths[0] < lengths[1] < lengths[2]


def test_panels_keep_off_the_faces_where_there_is_room():
    image = np.full((600, 900, 3), 90, np.uint8)
    faces = [face(40, 150, 200), face(650, 150, 200, label=3)]
    out = annotate(image, faces)
    for each in faces:
        inner = out[200:300, each.box.x + 60 : each.box.x + 140]
        assert (inner == 90).all()


def test_faces_at_and_beyond_the_border():
    image = np.full((200, 200, 3), 90, np.uint8)
    out = annotate(image, [face(-30, -20, 120), face(150, 160, 120, label=4)])
    assert not np.array_equal(out, image)


def test_a_face_that_fills_the_image_gets_its_label_alone():
    image = np.full((600, 600, 3), 90, np.uint8)
    out = annotate(image, [face(20, 20, 540)])
    changed = (out[:480, 40:540] != 90).any(axis=-1)
    assert changed[120:].sum() == 0
    assert (out[520:] != 90).any()


def test_panels_do_not_lie_on_each_other():
    """Two faces with room for one panel between them: it stays the first one's."""
    image = np.full((220, 300, 3), 90, np.uint8)
    first, second = face(5, 10, 70), face(5, 130, 70, label=3)
    beside = annotate(image, [first])[:, 90:]
    assert (beside != 90).any()
    assert (annotate(image, [second])[:, 90:] != 90).any()
    both = annotate(image, [first, second])
    assert np.array_equal(both[:195, 90:], beside[:195])


def test_the_strip_beside_a_crop_leaves_the_crop_as_it_is():
    rng = np.random.default_rng(0)
    large = rng.integers(0, 256, (400, 300, 3), dtype=np.uint8)
    out = annotate_crop(large, face(0, 0, 300))
    assert out.shape[0] == 400
    assert np.array_equal(out[:, :300], large)
    assert (out[:, 300:] == PALETTE[1]).all(axis=-1).any()
    small = annotate_crop(large[:112, :112], face(0, 0, 112))
    assert small.shape[0] == STRIP_HEIGHT
