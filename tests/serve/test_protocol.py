"""Clients that do not send, or do not read: cut off, while others are served."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import cv2
import pytest
from serve_process import connection, ended, running
from streams import RED, scene
from tiny_bundle import write_bundle
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("server") / "bundle")


@pytest.fixture(scope="module")
def port(bundle: Path) -> Iterator[int]:
    """A server of short patience."""
    limits = {"head": 1.0, "request": 1.0, "stall": 1.0, "connections": 400}
    with running(bundle, limits=limits, live=30) as (number, _):
        yield number


def get(port: int, path: str = "/healthz", body: bytes | None = None) -> tuple[int, bytes]:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", body)
    if body is not None:
        request.add_header("Content-Type", "image/jpeg")
    with urllib.request.urlopen(request, timeout=20) as answer:
        return answer.status, answer.read()


def metric(port: int, name: str) -> float:
    text = get(port, "/metrics")[1].decode()
    lines = [line for line in text.splitlines() if f'"{name}"' in line]
    return float(lines[0].split()[-1]) if lines else 0.0


def streams_left(port: int) -> float:
    """Streams that the server still counts after up to 20 seconds."""
    deadline = time.monotonic() + 20
    while (streams := metric(port, "streams")) and time.monotonic() < deadline:
        time.sleep(0.1)
    return streams


HEAD = b"POST /v1/faces HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: image/jpeg\r\nContent-Length: 100000\r\n\r\n"


@pytest.mark.parametrize(
    "start", [b"", b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX-A", HEAD + b"\xff\xd8"]
)
def test_200_connections_that_never_finish_do_not_keep_others_from_being_served(port, photo, start):
    with contextlib.ExitStack() as stack:
        silent = [stack.enter_context(connection(port, start)) for _ in range(200)]
        for _ in range(5):
            assert get(port)[0] == 200
            assert json.loads(get(port, "/v1/faces", photo)[1])["images"][0]["faces"]
        assert all(ended(one, 10) for one in silent)


def test_a_client_that_sends_a_byte_now_and_then_is_cut_off_too(port):
    # a reset or a broken pipe
    with connection(port, b"GET / HTTP/1.1\r\n") as opened, pytest.raises(OSError):  # noqa: PT011
        for _ in range(100):
            time.sleep(0.1)
            opened.sendall(b"X")


def test_a_second_request_has_no_more_time_than_the_first(port):
    with connection(port, b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n") as opened:
        assert opened.recv(65536).startswith(b"HTTP/1.1 200")
        opened.sendall(b"GET /healthz")
        assert ended(opened, 10)


def test_a_body_that_takes_too_long_is_answered(port):
    with connection(port, HEAD + b"\xff\xd8") as opened:
        assert opened.recv(65536).startswith(b"HTTP/1.1 408")
        assert ended(opened, 10)


def test_more_connections_than_the_limit_close_the_oldest_that_is_silent(port):
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(connection(port))
        for _ in range(410):
            stack.enter_context(connection(port))
        assert get(port)[0] == 200
        assert ended(first, 0.5)


def test_a_viewer_that_stops_reading_harms_nobody_and_is_cut_off(port):
    request = b"GET /v1/live.mjpg HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    with contextlib.ExitStack() as stack:
        stopped = []
        for _ in range(5):
            opened = stack.enter_context(socket.socket())
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            opened.connect(("127.0.0.1", port))
            opened.sendall(request)
            stopped.append(opened)
        with connection(port, request) as reading:
            data = b""
            reading.settimeout(20)
            while data.count(b"--edgefel-frame") < 20:
                data += reading.recv(1 << 20)
        assert b"Content-Type: image/jpeg" in data
        assert streams_left(port) == 0


def test_a_stream_that_does_not_read_its_answers_is_cut_off(port):
    # of many faces, so that few answers fill the buffers
    squares = [(10 + 40 * column, 10 + 40 * row, 25, RED) for row in range(5) for column in range(7)]
    crowd = cv2.imencode(".jpg", scene(squares))[1].tobytes()

    async def run() -> None:
        with socket.socket() as narrow:
            narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            narrow.connect(("127.0.0.1", port))
            narrow.setblocking(False)
            # without a close frame, which nobody would read, and without pings, by which the client would end itself
            stream = await connect(
                f"ws://127.0.0.1:{port}/v1/stream",
                sock=narrow,
                max_queue=1,
                close_timeout=0.1,
                ping_interval=None,
            )
            # answers wait in the client; then the server's buffers fill up; the server's own pings alone would end
            # in a close that waits for the client to read
            with contextlib.suppress(ConnectionClosed):
                while True:
                    await stream.send(crowd)
                    await asyncio.sleep(0.001)

    asyncio.run(asyncio.wait_for(run(), 60))
    assert streams_left(port) == 0


def test_the_devices_source_comes_with_its_images(port):
    async def run() -> list:
        async with connect(f"ws://127.0.0.1:{port}/v1/live") as socket:
            return [await socket.recv() for _ in range(6)]

    messages = asyncio.run(asyncio.wait_for(run(), 20))
    frames = [json.loads(text) for text in messages[::2]]
    assert all(len(frame["faces"]) == 2 for frame in frames)
    assert (frames[0]["width"], frames[0]["height"]) == (640, 480)
    assert {"detect", "inference", "total"} <= set(frames[0]["stages_ms"])
    assert all(data.startswith(b"\xff\xd8") for data in messages[1::2])
