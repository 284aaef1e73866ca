"""A real server: addresses, signals, its end."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from pathlib import Path

import pytest
from serve_process import connection, ended, running
from tiny_bundle import write_bundle
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from edgefel.errors import EdgefelError
from edgefel.serve.server import Address


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("server") / "bundle")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_server_and_its_streams(bundle, photo, number):
    async def watch(port: int, process) -> None:
        async with connect(f"ws://127.0.0.1:{port}/v1/stream") as socket:
            await socket.send(photo)
            await socket.recv()
            process.send_signal(number)
            with contextlib.suppress(ConnectionClosed):
                await socket.recv()

    with running(bundle, live=30) as (port, process):
        with connection(port, b"GET /v1/live.mjpg HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n") as viewer:
            assert viewer.recv(1 << 20)
            asyncio.run(asyncio.wait_for(watch(port, process), 20))
            assert ended(viewer, 10)
        output, errors = process.communicate(timeout=20)
    assert output.strip() == f"ended by {int(number)}"
    assert errors == ""
    assert process.returncode == 0


def test_an_address_for_others_needs_a_token():
    with pytest.raises(EdgefelError, match="--token"):
        Address("0.0.0.0")
    assert Address("0.0.0.0", token="0123456789abcdef").scheme == "http"


def test_a_port_that_is_taken_is_an_error_of_one_line():
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(EdgefelError, match="cannot listen"):
        Address(port=taken.getsockname()[1]).listen()


@pytest.mark.parametrize("options", [{"certificate": Path("a")}, {"key": Path("a")}])
def test_certificate_and_key_belong_together(options):
    with pytest.raises(EdgefelError, match="belong together"):
        Address(**options)
