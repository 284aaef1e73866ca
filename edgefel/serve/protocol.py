"""uvicorn's protocols with limits on time: a client that does not send or does not read is cut off.

uvicorn itself waits for the head of a request, and for a client to read, for as long as the client likes.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from edgefel.serve.limits import Limits


class _Timer:
    """Calls `end` after some seconds unless it is stopped."""

    def __init__(self) -> None:
        self._handle: asyncio.TimerHandle | None = None

    @property
    def running(self) -> bool:
        return self._handle is not None

    def start(self, seconds: float, end: Any) -> None:
        self.stop()
        self._handle = asyncio.get_running_loop().call_later(seconds, end)

    def stop(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None


def make_protocols(limits: Limits) -> tuple[type[H11Protocol], type[WebSocketsSansIOProtocol]]:
    """The classes for HTTP and WebSockets of one server."""
    # connections that have not sent a whole head of a request, the oldest first
    silent: OrderedDict[HttpProtocol, None] = OrderedDict()
    open_now: set[asyncio.BaseTransport] = set()

    class HttpProtocol(H11Protocol):
        """HTTP/1.1."""

        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            self._head, self._stall = _Timer(), _Timer()

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            open_now.add(transport)
            self._await_head()
            if len(open_now) > limits.connections:
                # the newest one may be this one: then all others are being answered
                next(iter(silent)).cut()

        def connection_lost(self, exc: Exception | None) -> None:
            open_now.discard(self.transport)
            silent.pop(self, None)
            self._head.stop()
            self._stall.stop()
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self.transport.get_protocol() is not self or (self.cycle and not self.cycle.response_complete):
                silent.pop(self, None)
                self._head.stop()
            elif not self._head.running:
                self._await_head()

        def handle_websocket_upgrade(self, event: Any) -> None:
            silent.pop(self, None)
            self._head.stop()
            super().handle_websocket_upgrade(event)

        def pause_writing(self) -> None:
            super().pause_writing()
            self._stall.start(limits.stall, self.cut)

        def resume_writing(self) -> None:
            super().resume_writing()
            self._stall.stop()

        def cut(self) -> None:
            """Ends the connection, whatever has not been sent."""
            self.transport.abort()

        def _await_head(self) -> None:
            silent[self] = None
            self._head.start(limits.head, self.cut)

    class SocketProtocol(WebSocketsSansIOProtocol):
        """WebSockets."""

        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            self._stall = _Timer()

        def connection_lost(self, exc: Exception | None) -> None:
            open_now.discard(self.transport)
            self._stall.stop()
            super().connection_lost(exc)

        def pause_writing(self) -> None:
            super().pause_writing()
            self._stall.start(limits.stall, self.transport.abort)

        def resume_writing(self) -> None:
            super().resume_writing()
            self._stall.stop()

    return HttpProtocol, SocketProtocol
