"""What one client may ask of the server."""

from __future__ import annotations

import math
from dataclasses import dataclass

from edgefel.errors import EdgefelError


@dataclass(frozen=True)
class Limits:
    """Limits of the server; times in seconds, sizes in bytes.

    body: of a request. frame: of one message of a WebSocket. pixels: of an image, read from its header before it is
    decoded. images: of one request. rate: requests per second of a client, over time; 0 is no limit. burst: requests
    that it may send at once. clients: streams (WebSockets and MJPEG) at a time. waiting: images that wait for the
    network. memory: of all bodies that are being received or wait. connections: open ones; beyond it the oldest
    that has not sent a request is closed. head: time for the head of a request. request: time for its body. answer:
    time an image may wait for its answer. stall: time for which a client may stop reading. idle: time after which a
    WebSocket that sends no frame is closed.

    Raises EdgefelError for values out of range.
    """

    body: int = 20_000_000
    frame: int = 4_000_000
    pixels: int = 24_000_000
    images: int = 16
    rate: float = 20.0
    burst: int = 60
    clients: int = 16
    waiting: int = 64
    memory: int = 128_000_000
    connections: int = 512
    head: float = 10.0
    request: float = 30.0
    answer: float = 30.0
    stall: float = 15.0
    idle: float = 120.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            least = 0 if name == "rate" else 1e-3 if isinstance(value, float) else 1
            if not (math.isfinite(value) and value >= least):
                raise EdgefelError(f"limit {name} is {value}; give a number of at least {least:g}")
        if self.memory < self.body:
            raise EdgefelError(f"limit memory is {self.memory}, less than one body of {self.body}; raise it")
