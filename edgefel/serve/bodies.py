"""Receives the bodies of requests: of limited size, in limited time, in limited memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
from starlette.requests import Request

from edgefel.serve.limits import Limits
from edgefel.serve.problems import Problem, busy

# of a body that is refused, bytes and seconds that are read and thrown away: a client that still sends sees no answer
_DISCARDED, _DISCARD_SECONDS = 64_000_000, 5.0


class Bodies:
    """Counts the memory of all bodies."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.held = 0

    @asynccontextmanager
    async def read(self, request: Request, most: int | None = None) -> AsyncIterator[bytes]:
        """The body, whose memory counts until the block ends. most: a smaller limit than `Limits.body`.

        Raises Problem: too large (413), too slow (408), no memory for it now (503), cut off (400).
        """
        chunks: list[bytes] = []
        try:
            await self._receive(request, min(most or self._limits.body, self._limits.body), chunks)
            yield b"".join(chunks)
        finally:
            self.held -= sum(map(len, chunks))

    async def _receive(self, request: Request, most: int, chunks: list[bytes]) -> None:
        """Adds what arrives to `chunks`, and its size to `held`."""
        size, more = _announced(request), True
        try:
            with anyio.fail_after(self._limits.request):
                if size > most:
                    raise _too_large(most)
                size = 0
                while more:
                    message = await request.receive()
                    if message["type"] == "http.disconnect":
                        raise Problem(
                            400, "cut-off", "The body ended before its announced length.", close=True
                        )
                    chunk, more = message.get("body", b""), message.get("more_body", False)
                    size += len(chunk)
                    if size > most:
                        raise _too_large(most)
                    if self.held + len(chunk) > self._limits.memory:
                        raise busy(close=True)
                    self.held += len(chunk)
                    chunks.append(chunk)
        except TimeoutError:
            raise Problem(
                408,
                "request-timeout",
                f"The body took more than {self._limits.request:g} seconds.",
                close=True,
            ) from None
        except Problem as problem:
            if more and problem.status != 400:
                await _discard(request)
            raise


async def _discard(request: Request) -> None:
    """Reads the rest of a body that is refused."""
    left = _DISCARDED
    with anyio.move_on_after(_DISCARD_SECONDS):
        while left > 0:
            message = await request.receive()
            left -= len(message.get("body", b""))
            if message["type"] != "http.request" or not message.get("more_body", False):
                return


def _announced(request: Request) -> int:
    text = request.headers.get("content-length", "0")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else 0


def _too_large(most: int) -> Problem:
    return Problem(413, "too-large", f"The body is larger than {most} bytes.", close=True)
