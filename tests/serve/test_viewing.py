"""Viewers of the device's own source; test_protocol.py has those that stop reading."""

from __future__ import annotations

import pytest
from streams import RED, ListSource, SquareDetector, scene

from edgefel.runtime.model import Model
from edgefel.runtime.stream.capture import SourcePlan
from edgefel.runtime.stream.pipeline import StreamOptions
from edgefel.runtime.telemetry.telemetry import Telemetry
from edgefel.serve.live import LiveStream


@pytest.fixture
def camera(session):
    images = [scene([(20, 20, 60, RED)])] * 400
    plan = SourcePlan(lambda: ListSource(images, fps=50, live=True), live=True)
    one = LiveStream(plan, plan.open(), Model(session, SquareDetector), StreamOptions(), Telemetry())
    one.start()
    yield one
    one.close()


def test_without_a_source_there_is_nothing_to_watch(client):
    answer = client.get("/v1/live.mjpg")
    assert (answer.status_code, answer.json()["reason"]) == (404, "no-source")


def test_viewers_are_counted_among_the_streams(camera, make_client):
    client = make_client(live=camera, clients=1)
    with client.websocket_connect("ws://127.0.0.1:8000/v1/live") as socket:
        assert socket.receive_json()["width"] == 320
        assert socket.receive_bytes().startswith(b"\xff\xd8")
        assert client.get("/v1/live.mjpg").status_code == 503
    assert client.app.state.service.streams == 0
