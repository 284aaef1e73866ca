"""The WebSocket of frames: JPEG in, JSON out; the newest frame wins."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import suppress
from typing import Any

import anyio
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from edgefel.serve.answers import frame_dict
from edgefel.serve.engine import Work
from edgefel.serve.problems import Problem
from edgefel.serve.service import Service, service_of
from edgefel.serve.slot import Slot

# close codes of RFC 6455: going away (the server ends), unsupported data (text), policy (idle), too big
GOING_AWAY, UNSUPPORTED, IDLE, TOO_BIG = 1001, 1003, 1008, 1009

Frame = tuple[int, float, bytes]  # number, `time.monotonic()` when it was received, the encoded image


async def stream(socket: WebSocket) -> None:
    """/v1/stream: each binary message is a frame, which a text message answers with its faces or a problem.

    While one frame is labelled, the next ones replace each other; the answer says how many were dropped so far.
    """
    service = service_of(socket)
    slot: Slot[Frame] = Slot()
    try:
        with service.stream(slot):
            await socket.accept()
            labelling = asyncio.create_task(_label(socket, slot, service))
            try:
                await _receive(socket, slot, service)
            finally:
                labelling.cancel()
                with suppress(asyncio.CancelledError, WebSocketDisconnect):
                    await labelling
    except Problem as problem:
        await socket.send_denial_response(problem.response())
    except WebSocketDisconnect:
        pass


async def _receive(socket: WebSocket, slot: Slot[Frame], service: Service) -> None:
    """Puts frames into the slot until the client ends, or has to be sent away."""
    number = 0
    while True:
        try:
            with anyio.fail_after(service.limits.idle):
                message = await socket.receive()
        except TimeoutError:
            await close(socket, IDLE, "no frame for too long")
            return
        if message["type"] == "websocket.disconnect":
            return
        data = message.get("bytes")
        if data is None:
            await close(socket, UNSUPPORTED, "send frames as binary messages")
            return
        if len(data) > service.limits.frame:
            await close(socket, TOO_BIG, f"a frame has more than {service.limits.frame} bytes")
            return
        slot.put((number, time.monotonic(), data))
        number += 1


async def _label(socket: WebSocket, slot: Slot[Frame], service: Service) -> None:
    """Answers the newest frame, again and again. Ends with the slot, which the server closes when it ends."""
    follower = service.engine.follow()
    first: float | None = None
    counted = 0
    while (frame := await slot.get()) is not None:
        number, received, data = frame
        first = received if first is None else first
        answer: dict[str, Any]
        try:
            (labelled,) = await service.worker.label([Work(data, follower, received - first, received)])
            answer = frame_dict(number, received - first, slot.dropped, labelled)
        except Problem as problem:
            answer = {"frame": number, "dropped": slot.dropped, "problem": problem.to_dict()}
        service.telemetry.count("dropped", slot.dropped - counted)
        counted = slot.dropped
        await socket.send_text(json.dumps(answer, allow_nan=False, separators=(",", ":")))
    await close(socket, GOING_AWAY, "the server ends")


async def close(socket: WebSocket, code: int, reason: str) -> None:
    """Closes a WebSocket that may have gone already."""
    if socket.application_state is WebSocketState.CONNECTED:
        with suppress(RuntimeError, WebSocketDisconnect):
            await socket.close(code, reason)
