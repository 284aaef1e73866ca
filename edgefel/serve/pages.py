"""The page, its files, and the login."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import Response

from edgefel.serve.access import COOKIE_SECONDS
from edgefel.serve.guard import client_of
from edgefel.serve.page import STATIC
from edgefel.serve.problems import Problem
from edgefel.serve.service import service_of

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_MOST_FORM = 4096


@dataclass(frozen=True)
class _File:
    data: bytes
    media_type: str
    tag: str


@cache
def static_files() -> dict[str, _File]:
    """The files of the page by name, read once: no name of a client becomes a path."""
    files = {}
    for path in sorted(STATIC.iterdir()):
        if path.suffix in _TYPES:
            data = path.read_bytes()
            files[path.name] = _File(data, _TYPES[path.suffix], f'"{hashlib.sha256(data).hexdigest()[:16]}"')
    return files


async def index(request: Request) -> Response:
    """GET /"""
    return _answer(request, "index.html")


async def icon(request: Request) -> Response:
    """GET /favicon.ico"""
    return _answer(request, "icon.svg")


async def static(request: Request) -> Response:
    """GET /static/NAME"""
    return _answer(request, request.path_params["name"])


def _answer(request: Request, name: str) -> Response:
    file = static_files().get(name)
    if file is None:
        raise Problem(404, "not-found", "There is no such file.")
    headers = {"ETag": file.tag, "Cache-Control": "no-cache"}
    if request.headers.get("if-none-match") == file.tag:
        return Response(status_code=304, headers=headers)
    return Response(file.data, headers=headers, media_type=file.media_type)


async def login(request: Request) -> Response:
    """POST /login: takes the token as a form and gives the browser a cookie. The token is in no URL."""
    service = service_of(request)
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        detail = "Send the token as application/x-www-form-urlencoded."
        raise Problem(415, "unsupported-media-type", detail, close=True)
    async with service.bodies.read(request, _MOST_FORM) as body:
        try:
            given = parse_qs(body.decode(), max_num_fields=4).get("token", [""])[0]
        except ValueError:  # not UTF-8, too many fields
            raise Problem(400, "bad-form", "The body is not a form with a token.") from None
    service.door.check_token(given, client_of(request.scope))
    response = Response(status_code=204)
    if service.door.locked:
        response.set_cookie(
            service.cookie,
            service.door.cookie(),
            max_age=COOKIE_SECONDS,
            httponly=True,
            samesite="strict",
            secure=service.secure,
        )
    return response


async def logout(request: Request) -> Response:
    """POST /logout: the browser forgets the cookie."""
    service = service_of(request)
    response = Response(status_code=204)
    response.delete_cookie(service.cookie, httponly=True, samesite="strict", secure=service.secure)
    return response
