"""A model in several threads at once: calls, maps, streams and its end."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from streams import BLUE, GREEN, RED, ListSource, SquareDetector, moving, scene
from tiny_bundle import write_bundle

import edgefel
from edgefel.runtime.model import Model
from edgefel.runtime.session import Session

IMAGES = [
    scene([(20 + number, 30, 60, colour), (150, 90, 40 + number, RED)])
    for number, colour in enumerate((RED, GREEN, BLUE))
]


class OneThreadDetector(SquareDetector):
    """Fails if two threads use it at once, as OpenCV's and YuNet's give wrong boxes then."""

    made = 0

    def __init__(self) -> None:
        super().__init__(0.002)
        type(self).made += 1
        self._busy = threading.Lock()

    def __call__(self, image):
        assert self._busy.acquire(blocking=False), "two threads in one detector"
        try:
            return super().__call__(image)
        finally:
            self._busy.release()


@pytest.fixture
def model(session, monkeypatch):
    monkeypatch.setattr(OneThreadDetector, "made", 0)
    return Model(session, OneThreadDetector)


def test_calls_in_several_threads_give_what_one_gives(model):
    expected = [model(image, channels="rgb") for image in IMAGES]
    together = threading.Barrier(4)

    def work(first: int):
        together.wait(30)
        return [
            model(IMAGES[(first + n) % 3], channels="rgb") == expected[(first + n) % 3] for n in range(20)
        ]

    with ThreadPoolExecutor(4) as pool:
        assert [all(found) for found in pool.map(work, range(4))] == [True] * 4
    # no more than ran at the same time, and they are used again
    assert 2 <= OneThreadDetector.made <= 4
    assert len(model._idle) == OneThreadDetector.made


def test_maps_and_streams_side_by_side(model):
    counts = {}

    def mapped():
        counts["map"] = [len(faces) for faces in model.map(IMAGES * 5, channels="rgb")]

    def streamed(name):
        counts[name] = [len(frame.faces) for frame in model.stream(ListSource(moving(12)))]

    threads = [threading.Thread(target=mapped)]
    threads += [threading.Thread(target=streamed, args=(name,)) for name in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert counts["map"] == [2] * 15
    assert counts["a"] == counts["b"]
    assert counts["a"][-1] == 2


def test_a_stream_is_stopped_from_another_thread(model):
    stream = model.stream(ListSource(moving(400)))
    seen = []
    for frame in stream:
        seen.append(frame.index)
        if frame.index == 5:
            stopping = threading.Thread(target=stream.stop)
            stopping.start()
            stopping.join(30)
    assert 6 <= len(seen) < 100


def test_closing_while_other_threads_work_ends_them_in_one_line(tmp_path):
    model = Model(Session.open(write_bundle(tmp_path / "bundle"), backend="onnxruntime"), OneThreadDetector)
    running = threading.Barrier(4)
    messages = []

    def work(run):
        running.wait(30)
        try:
            while True:
                run()
        except edgefel.EdgefelError as error:
            messages.append(str(error))

    runs = [
        lambda: model(IMAGES[0], channels="rgb"),
        lambda: model(IMAGES, channels="rgb"),
        lambda: list(model.stream(ListSource(moving(5)))),
    ]
    threads = [threading.Thread(target=work, args=(run,)) for run in runs]
    for thread in threads:
        thread.start()
    running.wait(30)
    model.close()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    assert len(messages) == 3
    assert all("closed; " in message and "\n" not in message for message in messages)


def test_a_call_that_fails_gives_its_detector_back(session):
    class Broken(SquareDetector):
        def __call__(self, image):
            if self.calls == 0:
                self.calls += 1
                raise RuntimeError("once")
            return super().__call__(image)

    model = Model(session, Broken)
    with pytest.raises(RuntimeError, match="once"):
        model(IMAGES[0], channels="rgb")
    assert len(model(IMAGES[0], channels="rgb")) == 2
    assert len(model._idle) == 1
