"""What the routes share: the engine, its worker, limits, clients."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

from starlette.requests import HTTPConnection

from edgefel.runtime.telemetry.telemetry import Telemetry
from edgefel.serve.access import Door
from edgefel.serve.bodies import Bodies
from edgefel.serve.engine import Engine
from edgefel.serve.limits import Limits
from edgefel.serve.live import LiveStream
from edgefel.serve.problems import Problem
from edgefel.serve.slot import Slot
from edgefel.serve.worker import Worker


@dataclass
class Service:
    """The state of a running server. live: the device's own source, None without `--source`. slots: what streams wait
    for, to be closed when the server ends. cookie: the name of the login cookie. secure: whether browsers send it over
    TLS alone."""

    engine: Engine
    worker: Worker
    door: Door
    limits: Limits
    telemetry: Telemetry
    bodies: Bodies
    cookie: str
    secure: bool = False
    live: LiveStream | None = None
    streams: int = 0
    slots: set[Slot[Any]] = field(default_factory=set)

    @contextmanager
    def stream(self, slot: Slot[Any]) -> Iterator[None]:
        """Counts a stream while it lasts. Raises Problem (503) if there are too many."""
        if self.streams >= self.limits.clients:
            self.telemetry.count("streams refused")
            detail = f"{self.limits.clients} streams are open already, which is the limit."
            raise Problem(503, "too-many-streams", detail, retry_after=5)
        self.streams += 1
        self.slots.add(slot)
        self.telemetry.set("streams", self.streams)
        try:
            yield
        finally:
            self.streams -= 1
            self.slots.discard(slot)
            self.telemetry.set("streams", self.streams)

    def end_streams(self) -> None:
        """Ends all streams."""
        for slot in list(self.slots):
            slot.close()


def service_of(connection: HTTPConnection) -> Service:
    """The service of the application that handles a request."""
    return cast(Service, connection.app.state.service)
