"""Frames through the WebSocket: people, newest frame first, and clients that are sent away."""

from __future__ import annotations

import threading

import pytest
from starlette.testclient import WebSocketDenialResponse
from starlette.websockets import WebSocketDisconnect
from streams import SquareDetector

from edgefel.serve.guard import HEADERS

STREAM = "ws://127.0.0.1:8000/v1/stream"
TOKEN = "a token of 24 characters"


def test_people_are_followed_from_frame_to_frame(client, photo):
    with client.websocket_connect(STREAM) as socket:
        answers = []
        for _ in range(3):
            socket.send_bytes(photo)
            answers.append(socket.receive_json())
    assert [answer["frame"] for answer in answers] == [0, 1, 2]
    assert [[face["track"] for face in answer["faces"]] for answer in answers] == [[], [1, 2], [1, 2]]
    last = answers[-1]
    assert (last["width"], last["height"], last["dropped"]) == (320, 240, 0)
    assert last["latency_ms"] == last["stages_ms"]["total"] > 0
    assert {"wait", "decode", "detect", "align", "inference", "post"} <= set(last["stages_ms"])
    assert answers[0]["time"] == 0 < answers[1]["time"] < last["time"]
    assert {"raw_label", "age", "eyes"} <= set(last["faces"][0])


def test_connections_have_people_of_their_own(client, photo):
    with client.websocket_connect(STREAM) as one, client.websocket_connect(STREAM) as other:
        one.send_bytes(photo)
        one.receive_json()
        one.send_bytes(photo)
        other.send_bytes(photo)
        assert len(one.receive_json()["faces"]) == 2
        assert other.receive_json()["faces"] == []


def test_the_newest_frame_wins(make_client, photo):
    begun, go = threading.Event(), threading.Event()

    class Slow(SquareDetector):
        def __call__(self, image):
            begun.set()
            assert go.wait(10)
            return super().__call__(image)

    client = make_client(detector=Slow())
    with client.websocket_connect(STREAM) as socket:
        socket.send_bytes(photo)
        assert begun.wait(10)
        for _ in range(5):
            socket.send_bytes(photo)
        # the others have arrived before this connection's end is answered
        go.set()
        answers = [socket.receive_json()]
        while answers[-1]["frame"] < 5:
            answers.append(socket.receive_json())
    assert answers[-1]["dropped"] == 6 - len(answers)
    assert client.app.state.service.telemetry.snapshot().counters["dropped"] == answers[-1]["dropped"]


def test_a_broken_frame_is_a_problem_and_the_stream_goes_on(client, photo):
    with client.websocket_connect(STREAM) as socket:
        socket.send_bytes(b"no image")
        answer = socket.receive_json()
        assert (answer["frame"], answer["problem"]["status"]) == (0, 415)
        socket.send_bytes(photo)
        assert socket.receive_json()["frame"] == 1


@pytest.mark.parametrize(
    ("send", "code"),
    [(lambda socket: socket.send_text("{}"), 1003), (lambda socket: socket.send_bytes(b"x" * 1001), 1009)],
)
def test_clients_that_send_something_else_are_sent_away(make_client, send, code):
    with make_client(frame=1000).websocket_connect(STREAM) as socket:
        send(socket)
        with pytest.raises(WebSocketDisconnect) as raised:
            socket.receive_json()
    assert raised.value.code == code


def test_a_client_that_sends_nothing_is_sent_away(make_client):
    client = make_client(idle=0.05)
    with client.websocket_connect(STREAM) as socket, pytest.raises(WebSocketDisconnect) as raised:
        socket.receive_json()
    assert raised.value.code == 1008
    assert client.app.state.service.streams == 0


def refused(client, path: str = STREAM, **headers: str):
    with pytest.raises(WebSocketDenialResponse) as raised, client.websocket_connect(path, headers=headers):
        pass
    answer = raised.value
    assert {name: answer.headers[name] for name in HEADERS} == HEADERS
    return answer.status_code, answer.json()["reason"]


def test_too_many_streams_are_refused_until_one_ends(make_client, photo):
    client = make_client(clients=2)
    with client.websocket_connect(STREAM), client.websocket_connect(STREAM):
        assert refused(client) == (503, "too-many-streams")
    with client.websocket_connect(STREAM) as socket:
        socket.send_bytes(photo)
        socket.receive_json()


def test_origin_host_and_token_are_checked(make_client):
    client = make_client(token=TOKEN)
    assert refused(client) == (401, "unauthorized")
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    assert refused(client, **bearer, Origin="http://evil.example") == (403, "wrong-origin")
    assert refused(client, **bearer, Host="evil.example") == (403, "wrong-host")
    with client.websocket_connect(STREAM, headers=bearer | {"Origin": "http://127.0.0.1:8000"}):
        pass
    client.post("/login", data={"token": TOKEN})
    with client.websocket_connect(STREAM):
        pass


def test_the_server_ends_streams(client):
    with client.websocket_connect(STREAM) as socket:
        socket.portal.call(client.app.state.service.end_streams)
        with pytest.raises(WebSocketDisconnect) as raised:
            socket.receive_json()
    assert raised.value.code == 1001
