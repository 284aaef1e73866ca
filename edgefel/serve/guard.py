"""What every request passes: Host, Origin, rate, token; and the headers that every answer has."""

from __future__ import annotations

import math
import time

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edgefel.runtime.telemetry.telemetry import Telemetry
from edgefel.serve.access import Door, Names
from edgefel.serve.problems import Problem
from edgefel.serve.rates import Rates

# without the token: the page, which asks for it, its files, and what a load balancer asks
OPEN = frozenset({"/", "/login", "/healthz", "/readyz", "/openapi.json", "/favicon.ico"})
OPEN_FOLDER = "/static/"
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})

POLICY = "; ".join(
    (
        "default-src 'self'",
        "img-src 'self' blob:",
        "media-src 'self' blob:",
        "object-src 'none'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Guard:
    """ASGI middleware. cookie: name of the cookie."""

    def __init__(
        self, app: ASGIApp, *, door: Door, names: Names, rates: Rates, telemetry: Telemetry, cookie: str
    ) -> None:
        self._app, self._door, self._names, self._rates = app, door, names, rates
        self._telemetry, self._cookie = telemetry, cookie

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes on what is allowed."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        begun = time.perf_counter()
        status = 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        try:
            self._check(scope)
        except Problem as problem:
            if scope["type"] == "websocket":
                await receive()  # the handshake
            await problem.response()(scope, receive, answer)
        else:
            await self._app(scope, receive, answer)
        if scope["type"] == "http":
            self._telemetry.count("requests")
            self._telemetry.count(f"answers {status // 100}xx")
            if scope["path"] == "/v1/faces":
                self._telemetry.record("request", time.perf_counter() - begun)

    def _check(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        self._names.check_host(host)
        socket = scope["type"] == "websocket"
        if socket or scope["method"] not in _SAFE:
            self._names.check_origin(headers.get("origin", ""), host)
        client = client_of(scope)
        path = scope["path"]
        if path not in ("/healthz", "/readyz") and (seconds := self._rates.take(client)):
            self._telemetry.count("too fast")
            raise Problem(
                429,
                "too-many-requests",
                "Too many requests; wait.",
                retry_after=math.ceil(seconds),
                close=not socket,
            )
        if path in OPEN or path.startswith(OPEN_FOLDER):
            return
        cookie = HTTPConnection(scope).cookies.get(self._cookie, "")
        self._door.check(headers.get("authorization", ""), cookie, client)


def client_of(scope: Scope) -> str:
    """The client's address. A proxy's header is not believed: anybody can send it."""
    client = scope.get("client")
    return client[0] if client else ""
