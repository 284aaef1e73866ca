"""The device's own source: one labelling for all viewers."""

from __future__ import annotations

import asyncio
import threading
import time

import cv2
import numpy as np
import pytest
from streams import RED, ListSource, SquareDetector, scene

from edgefel.errors import EdgefelError
from edgefel.runtime.model import Model
from edgefel.runtime.stream.capture import SourcePlan
from edgefel.runtime.stream.pipeline import StreamOptions
from edgefel.runtime.telemetry.telemetry import Telemetry
from edgefel.serve import live
from edgefel.serve.live import LiveStream
from edgefel.serve.slot import Slot

IMAGES = [scene([(20, 20, 60, RED)])] * 400


@pytest.fixture
def make_live(session, monkeypatch):
    monkeypatch.setattr(live, "_PAUSE", 0.01)
    started = []

    def make(open_source, say=lambda line: None) -> LiveStream:
        plan, model = SourcePlan(open_source, live=True), Model(session, SquareDetector)
        one = LiveStream(plan, plan.open(), model, StreamOptions(), Telemetry(), say)
        one.start()
        started.append(one)
        return one

    yield make
    for one in started:
        one.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "edgefel-live"]


def camera() -> ListSource:
    return ListSource(IMAGES, fps=50, live=True)


async def next_frame(one: LiveStream, slot: Slot):
    one.watch(slot)
    frame = await asyncio.wait_for(slot.get(), 20)
    one.leave(slot)
    return frame


def test_a_frame_is_encoded_once_and_shows_its_faces(make_live):
    one = make_live(camera)
    frame = asyncio.run(next_frame(one, Slot()))
    plain, drawn = (cv2.imdecode(np.frombuffer(data, np.uint8), 1) for data in (frame.jpeg, frame.annotated))
    assert plain.shape == drawn.shape == (240, 320, 3)
    assert np.abs(plain.astype(int) - drawn).max() > 100
    assert frame.jpeg is frame.jpeg
    assert frame.annotated is frame.annotated


def test_without_viewers_nothing_is_kept(make_live):
    one = make_live(camera)
    slot = Slot()
    asyncio.run(next_frame(one, slot))
    dropped = slot.dropped
    time.sleep(0.1)
    assert slot.dropped == dropped
    # a viewer whose event loop has ended is forgotten, and the others are served
    asyncio.run(_abandon(one))
    assert asyncio.run(next_frame(one, Slot())) is not None


async def _abandon(one: LiveStream) -> None:
    one.watch(Slot())


def test_a_lost_source_is_said_once_and_opened_again(make_live):
    lines, tries = [], []

    def flaky():
        tries.append(None)
        if len(tries) in (2, 3):
            raise EdgefelError("camera 0: cannot be opened")
        if len(tries) == 1:
            return ListSource(IMAGES[:3], fps=200, live=True, error=EdgefelError("camera 0: gone"))
        return camera()

    one = make_live(flaky, lines.append)
    frame = asyncio.run(next_frame(one, Slot()))
    deadline = time.monotonic() + 20
    while (len(tries) < 4 or one.problem) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert frame is not None
    assert one.problem == ""
    assert lines == ["camera 0: gone; trying again every 0.01 s"]


def test_readiness_says_that_the_source_is_lost(make_live, make_client):
    one = make_live(camera)
    client = make_client(live=one)
    assert client.get("/readyz").status_code == 200
    assert client.get("/v1/model").json()["live"] == {
        "source": "memory",
        "description": "memory (test)",
        "problem": None,
    }
    one.close()
    one.problem = "camera 0: gone"
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json()["reason"]) == (503, "no-source")
