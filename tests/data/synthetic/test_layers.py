from __future__ import annotations

import numpy as np
import pytest

from edgefel.data.synthetic import FaceOptions, SyntheticFaces, portrait
from edgefel.data.synthetic.canvas import Canvas
from edgefel.data.synthetic.identity import draw_identity
from edgefel.data.synthetic.layers import Layers, paint_layer

SQUARE = np.array([(-0.6, -0.5), (0.7, -0.5), (0.7, 0.6), (-0.6, 0.6)])


def paint(canvas: Canvas) -> None:
    canvas.fill([SQUARE], (200.0, 40.0, 90.0))
    canvas.soft_fill([SQUARE + 0.3], (10.0, 220.0, 30.0), 0.4, 0.1)


def test_a_layer_looks_like_what_it_was_painted_from() -> None:
    direct, laid = Canvas(120), Canvas(120)
    for canvas in (direct, laid):
        canvas.rgb[:] = np.random.default_rng(0).integers(0, 256, canvas.rgb.shape)
    paint(direct)
    layers = Layers()
    layers.lay(laid, draw_identity(0, 0), "test", paint)
    assert np.abs(direct.rgb.astype(int) - laid.rgb).max() <= 2
    assert paint_layer(120, lambda canvas: None) is None


def test_layers_are_painted_once_until_there_is_no_room() -> None:
    painted: list[int] = []

    def count(canvas: Canvas) -> None:
        painted.append(1)
        paint(canvas)

    layers, canvas = Layers(), Canvas(120)
    for _ in range(3):
        layers.lay(canvas, draw_identity(0, 0), "test", count)
    assert len(painted) == 2  # over black and over white
    cramped = Layers(room=1000)
    for _ in range(3):
        cramped.lay(canvas, draw_identity(0, 0), "test", count)
    assert len(painted) == 8


def test_images_do_not_depend_on_what_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    faces = SyntheticFaces(FaceOptions(count=30, size=96, subjects=4))
    kept = [faces.sample(index).image for index in range(30)]
    monkeypatch.setattr(portrait, "_LAYERS", Layers(room=0))
    for index in reversed(range(30)):
        np.testing.assert_array_equal(faces.sample(index).image, kept[index])
