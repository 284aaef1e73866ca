"""A real server for tests, in a process of its own: python serve_process.py BUNDLE '{"limits": {...}, ...}'."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np


@contextmanager
def running(bundle: Path, **options: Any) -> Iterator[tuple[int, subprocess.Popen[str]]]:
    """The port and the process of a server.

    options: limits (of `Limits`), token, live (frames per second of a source of two moving squares).
    """
    command = [sys.executable, str(Path(__file__)), str(bundle), json.dumps(options)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, process.communicate()[1]
        yield int(line), process
    finally:
        process.kill()
        process.communicate()


def connection(port: int, data: bytes = b"") -> socket.socket:
    opened = socket.create_connection(("127.0.0.1", port), timeout=20)
    opened.sendall(data)
    return opened


def ended(opened: socket.socket, seconds: float) -> bool:
    """Whether the server ends a connection within some seconds; what it sends before is read."""
    opened.settimeout(seconds)
    try:
        while opened.recv(65536):
            pass
    except TimeoutError:
        return False
    except OSError:
        pass
    return True


class MovingSquares:
    """A camera: two squares that move, with noise, so that its JPEGs are large."""

    name = description = "squares (test)"
    live = True
    frames = 0

    def __init__(self, fps: float) -> None:
        from edgefel.runtime.stream.frames import SourceCounts

        self.fps, self.counts = fps, SourceCounts()
        self._index, self._closed = 0, False
        self._noise = np.random.default_rng(0).integers(0, 20, (480, 640, 3), np.uint8)

    def read(self) -> Any:
        from edgefel.runtime.stream.frames import Frame

        time.sleep(1 / self.fps)
        if self._closed:
            return None
        image = self._noise.copy()
        at = 20 + self._index % 100
        image[at : at + 100, 40:140] = (255, 40, 40)
        image[at : at + 100, 300:400] = (40, 255, 40)
        index, self._index = self._index, self._index + 1
        return Frame(index, index / self.fps, image, time.monotonic())

    def close(self) -> None:
        self._closed = True


def main(bundle: str, text: str) -> None:
    from streams import SquareDetector

    from edgefel.runtime.model import Model
    from edgefel.runtime.session import Session
    from edgefel.runtime.stream.capture import SourcePlan
    from edgefel.runtime.stream.pipeline import StreamOptions
    from edgefel.runtime.telemetry.telemetry import Telemetry
    from edgefel.serve.engine import Engine
    from edgefel.serve.limits import Limits
    from edgefel.serve.live import LiveStream
    from edgefel.serve.server import Address, serve

    options = json.loads(text)
    limits = Limits(**({"rate": 0.0} | options.get("limits", {})))
    streams = StreamOptions(policy="latest")
    with Session.open(bundle, backend="onnxruntime", threads=1) as session, Telemetry() as telemetry:
        model = Model(session, SquareDetector)
        engine = Engine(model, streams, limits, telemetry)
        live = None
        if fps := options.get("live"):
            plan = SourcePlan(lambda: MovingSquares(fps), live=True)
            live = LiveStream(plan, plan.open(), model, streams, telemetry)
        address = Address(port=0, token=options.get("token"))
        number = serve(
            engine, address, limits, telemetry, live, lambda url: print(url.split(":")[2][:-1], flush=True)
        )
    print("ended by", number, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
