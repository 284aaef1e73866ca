"""Viewers of the device's own source: MJPEG and a WebSocket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from edgefel.serve.live import LiveFrame, LiveStream
from edgefel.serve.problems import Problem
from edgefel.serve.service import Service, service_of
from edgefel.serve.slot import Slot
from edgefel.serve.sockets import GOING_AWAY, close

BOUNDARY = "edgefel-frame"


class MjpegResponse(StreamingResponse):
    """Annotated frames as multipart/x-mixed-replace until the client or the server ends. Counts as a stream, and raises
    what `Service.stream` raises before anything is sent."""

    def __init__(self, service: Service, live: LiveStream) -> None:
        self._service, self._live = service, live
        self._slot: Slot[LiveFrame] = Slot()
        super().__init__(self._parts(), media_type=f"multipart/x-mixed-replace; boundary={BOUNDARY}")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends the frames."""
        with self._service.stream(self._slot):
            self._live.watch(self._slot)
            try:
                await super().__call__(scope, receive, send)
            finally:
                self._live.leave(self._slot)

    async def _parts(self) -> AsyncIterator[bytes]:
        while (frame := await self._slot.get()) is not None:
            data = await asyncio.to_thread(getattr, frame, "annotated")
            head = f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
            yield head.encode() + data + b"\r\n"


async def mjpeg(request: Request) -> Response:
    """GET /v1/live.mjpg, which every browser shows in an <img>."""
    return MjpegResponse(*_live(service_of(request)))


async def watch(socket: WebSocket) -> None:
    """/v1/live: two messages for each frame of the device's source, the text of `/v1/stream` and a JPEG."""
    slot: Slot[LiveFrame] = Slot()
    try:
        service, live = _live(service_of(socket))
        with service.stream(slot):
            await socket.accept()
            showing = asyncio.create_task(_show(socket, slot, live))
            try:
                while (await socket.receive())["type"] != "websocket.disconnect":
                    pass
            finally:
                live.leave(slot)
                showing.cancel()
                await asyncio.gather(showing, return_exceptions=True)
    except Problem as problem:
        await socket.send_denial_response(problem.response())
    except WebSocketDisconnect:
        pass


async def _show(socket: WebSocket, slot: Slot[LiveFrame], live: LiveStream) -> None:
    live.watch(slot)
    while (frame := await slot.get()) is not None:
        data = await asyncio.to_thread(getattr, frame, "jpeg")
        await socket.send_text(frame.json)
        await socket.send_bytes(data)
    await close(socket, GOING_AWAY, "the server ends")


def _live(service: Service) -> tuple[Service, LiveStream]:
    if service.live is None:
        raise Problem(404, "no-source", "The server has no source of its own; start it with --source.")
    return service, service.live
