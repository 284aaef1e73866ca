"""The ASGI application: routes, errors, guard."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute

from edgefel.serve import pages, rest, sockets, viewing
from edgefel.serve.access import Names
from edgefel.serve.guard import Guard
from edgefel.serve.openapi import openapi_document
from edgefel.serve.problems import Problem, answer_bug, answer_problem, answer_status
from edgefel.serve.rates import Rates
from edgefel.serve.service import Service, service_of


async def openapi(request: Request) -> Response:
    """GET /openapi.json"""
    service = service_of(request)
    labels = service.engine.model.labels
    return JSONResponse(
        openapi_document(labels, service.limits, locked=service.door.locked, cookie=service.cookie)
    )


ROUTES = (
    Route("/", pages.index),
    Route("/favicon.ico", pages.icon),
    Route("/static/{name}", pages.static),
    Route("/login", pages.login, methods=["POST"]),
    Route("/logout", pages.logout, methods=["POST"]),
    Route("/openapi.json", openapi),
    Route("/healthz", rest.healthz),
    Route("/readyz", rest.readyz),
    Route("/metrics", rest.metrics),
    Route("/v1/faces", rest.faces, methods=["POST"]),
    Route("/v1/model", rest.model),
    Route("/v1/live.mjpg", viewing.mjpeg),
    WebSocketRoute("/v1/stream", sockets.stream),
    WebSocketRoute("/v1/live", viewing.watch),
)


def make_app(service: Service, host: str, allowed: Sequence[str] = ()) -> Starlette:
    """The application of a service. host: the address that it listens on. allowed: further names of the server."""
    limits = service.limits
    guard = Middleware(
        Guard,
        door=service.door,
        names=Names(host, allowed),
        rates=Rates(limits.rate, limits.burst),
        telemetry=service.telemetry,
        cookie=service.cookie,
    )
    app = Starlette(
        routes=ROUTES,
        middleware=[guard],
        exception_handlers={Problem: answer_problem, HTTPException: answer_status, Exception: answer_bug},
    )
    app.state.service = service
    app.router.redirect_slashes = False
    return app
