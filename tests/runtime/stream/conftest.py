"""A session of a small bundle, RTSP servers, and threads that must have ended."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import rtsp
from tiny_bundle import write_bundle

from edgefel.runtime.session import Session


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory):
    folder: Path = write_bundle(tmp_path_factory.mktemp("stream") / "bundle")
    with Session.open(folder, backend="onnxruntime", threads=1) as opened:
        yield opened


@pytest.fixture(autouse=True)
def _no_thread_is_left():
    before = threading.active_count()
    yield
    assert threading.active_count() <= before


@pytest.fixture
def serve() -> Iterator[rtsp.Serve]:
    """`rtsp.start`, whose servers are stopped after the test."""
    servers = []

    def start(*options: object) -> rtsp.RtspServer:
        servers.append(rtsp.start(*options))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()
