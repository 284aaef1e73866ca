"""The image of a stream: everything is drawn, stays inside, and costs little."""

from __future__ import annotations

import time

import numpy as np
import pytest

from edgefel.data.labels import EXPRESSIONS_8
from edgefel.runtime.alignment import FaceBox
from edgefel.runtime.annotate import FAINT, PALETTE, annotate
from edgefel.runtime.results import LabelledFace
from edgefel.runtime.stream import overlay
from edgefel.runtime.stream.frames import Frame, FrameResult, TrackedFace
from edgefel.runtime.stream.overlay import ALERT, draw

# of the head-up line: rate, milliseconds, watts, dropped frames, backend
Numbers = tuple[float, float, float | None, int, str]
NUMBERS = (29.7, 31.2, 7.43, 0, "ONNX Runtime CPU")


def grey(height: int, width: int) -> np.ndarray:
    return np.full((height, width, 3), 90, np.uint8)


def face(
    x: int,
    y: int,
    side: int,
    track: int = 1,
    label: int = 1,
    share: float = 0.65,
    sure: bool = True,
    primary: float = 0.3,
) -> TrackedFace:
    def spread(value: float) -> dict[str, float]:
        return {name: value if i == label else (1 - value) / 7 for i, name in enumerate(EXPRESSIONS_8)}

    name = EXPRESSIONS_8[label]
    labelled = LabelledFace(FaceBox(x, y, side), name, name, 0.5, spread(share), spread(primary))
    return TrackedFace(track, labelled, sure, 1.0, labelled)


def drawn(image: np.ndarray, *faces: TrackedFace, numbers: Numbers = NUMBERS) -> np.ndarray:
    fps, milliseconds, power, dropped, backend = numbers
    result = FrameResult(Frame(0, 0.0, image, 0.0), faces, milliseconds / 1e3, fps, "x")
    return draw(result, power, dropped, backend)


def has(image: np.ndarray, colour: tuple[int, int, int]) -> int:
    return int((image == colour).all(axis=-1).sum())


@pytest.mark.parametrize("size", [(48, 64), (240, 320), (480, 640), (1080, 1920), (1280, 720)])
def test_the_label_has_its_colour_and_the_original_is_kept(size):
    image = grey(*size)
    side = min(size) // 4
    out = drawn(image, face(side, side, side))
    assert (image == 90).all()
    assert out.shape == image.shape
    assert out.dtype == np.uint8
    assert has(out, PALETTE[1])


def test_a_longer_bar_for_a_larger_probability_and_a_tick_for_the_primary():
    bars = [
        has(drawn(grey(480, 640), face(50, 150, 150, share=share)), PALETTE[1]) for share in (0.3, 0.6, 0.9)
    ]
    assert bars[0] < bars[1] < bars[2]
    low, high = (drawn(grey(480, 640), face(50, 150, 150, primary=value)) for value in (0.2, 0.8))
    _, columns = np.nonzero((low != high).any(axis=-1))
    assert columns.max() - columns.min() > 40


def test_bars_grow_by_less_than_a_pixel():
    """A probability that creeps must not make the bar jump."""
    lengths = []
    for share in np.linspace(0.5, 0.52, 9):
        out = drawn(grey(480, 640), face(50, 150, 150, share=float(share), primary=0.9))
        bar = out[226:231, 280:390, 0]  # the second row of the panel, right of the face
        lengths.append(int(bar.sum()))
    assert len(set(lengths)) > 5
    assert lengths == sorted(lengths)


def test_a_face_that_is_not_sure_is_grey():
    sure = drawn(grey(480, 640), face(50, 150, 150))
    unsure = drawn(grey(480, 640), face(50, 150, 150, sure=False))
    assert has(sure, PALETTE[1]) > 500
    assert has(unsure, PALETTE[1]) == 0
    assert has(unsure, FAINT) > has(sure, FAINT)
    corner = unsure[150:180, 50:80]
    assert has(corner, FAINT)


def test_panels_keep_off_faces_and_off_the_line_of_numbers():
    faces = [face(5, 8, 150), face(480, 300, 150, 2, 3)]
    out = drawn(grey(480, 640), *faces)
    for each in faces:
        x, y = each.face.box.x, each.face.box.y
        assert (out[y + 40 : y + 110, x + 40 : x + 110] == 90).all()
    alone = drawn(grey(480, 640))
    # its plate lets a little of the first face's corners shine through, and no panel lies under it
    assert np.abs(out[8:24, 170:300].astype(int) - alone[8:24, 170:300]).max() == 0


def test_numbers_of_the_head_up_line():
    none = drawn(grey(480, 640), numbers=(29.7, 31.2, None, 0, "ONNX Runtime CPU"))
    power = drawn(grey(480, 640))
    dropped = drawn(grey(480, 640), numbers=(29.7, 31.2, None, 12, "ONNX Runtime CPU"))
    assert not np.array_equal(none, power)
    assert (has(none, ALERT), has(power, ALERT)) == (0, 0)
    assert has(dropped, ALERT) > 5
    assert (none[60:] == 90).all()
    for fps in (0.0, 3.4, 240.0):
        drawn(grey(480, 640), numbers=(fps, 1e5, 0.0, 10**9, "x" * 200))


def test_forty_small_faces_get_tags_and_nothing_leaves_the_image():
    faces = [face(20 + 155 * (i % 8), 45 + 135 * (i // 8), 90, i + 1, i % 8) for i in range(40)]
    out = drawn(grey(720, 1280), *faces)
    for each in faces:
        box = each.face.box
        assert (out[box.y + 25 : box.y + 65, box.x + 25 : box.x + 65] == 90).all()
        under = out[box.y + 92 : box.y + 118, box.x : box.x + 120]
        assert has(under, PALETTE[EXPRESSIONS_8.index(each.label)])


def test_faces_at_and_beyond_the_border():
    faces = [face(-60, -50, 120), face(600, 440, 200, 2, 4), face(-300, 900, 50, 3, 5)]
    out = drawn(grey(480, 640), *faces)
    assert not np.array_equal(out, grey(480, 640))
    drawn(grey(20, 30), face(0, 0, 20))


def test_a_frame_that_is_a_view_is_not_touched():
    whole = grey(480, 1280)
    out = drawn(whole[:, ::2], face(50, 150, 150))
    assert out.shape == (480, 640, 3)
    assert (whole == 90).all()


def test_the_caches_are_bounded_and_the_result_does_not_depend_on_them():
    first = drawn(grey(480, 640), face(50, 150, 150))
    for number in range(40):
        drawn(
            grey(480, 640),
            face(50, 150, 150, track=number, share=number / 40),
            numbers=(number, 1, 1, number, "x"),
        )
    assert np.array_equal(drawn(grey(480, 640), face(50, 150, 150)), first)
    for cache in (overlay._text, overlay._backdrop, overlay._plate):
        assert cache.cache_info().maxsize is not None


def test_a_face_costs_a_fraction_of_an_annotation():
    """Both in this one process, by the processor time of this thread: half would already be too much."""
    image, faces = grey(480, 640), [face(50, 150, 150)]

    def best(work) -> float:
        times = []
        for _ in range(12):
            start = time.thread_time()
            work()
            times.append(time.thread_time() - start)
        return min(times)

    drawn(image, *faces)
    ours = best(lambda: drawn(image, *faces))
    assert ours < 0.5 * best(lambda: annotate(image, [each.face for each in faces]))
