"""Errors as JSON: problem details of RFC 9457."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

MEDIA_TYPE = "application/problem+json"


class Problem(Exception):
    """An answer that is an error.

    status: of HTTP. reason: a short name for programs, such as "unreadable-image". detail: a sentence for people.
    image: number of the image in the request, from 0. retry_after: seconds. close: the connection ends with the
    answer, since the rest of the request is not read. headers: further ones.
    """

    def __init__(
        self,
        status: int,
        reason: str,
        detail: str,
        *,
        image: int | None = None,
        retry_after: int | None = None,
        close: bool = False,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status, self.reason, self.detail, self.image = status, reason, detail, image
        self.headers = dict(headers or {})
        if retry_after is not None:
            self.headers["Retry-After"] = str(retry_after)
        if close:
            self.headers["Connection"] = "close"

    def to_dict(self) -> dict[str, object]:
        """The document of RFC 9457, with the members `reason` and, where it concerns one image, `image`."""
        document: dict[str, object] = {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
            "reason": self.reason,
        }
        return document if self.image is None else document | {"image": self.image}

    def response(self) -> Response:
        """The document with its headers."""
        return JSONResponse(self.to_dict(), self.status, self.headers, MEDIA_TYPE)


def busy(*, close: bool = False) -> Problem:
    """Too much waits already."""
    detail = "The server has too much to do; try again in a moment."
    return Problem(503, "busy", detail, retry_after=1, close=close)


async def answer_problem(request: Request, error: Exception) -> Response:
    """Exception handler for `Problem`."""
    assert isinstance(error, Problem)
    return error.response()


async def answer_status(request: Request, error: Exception) -> Response:
    """Exception handler for Starlette's own errors, such as 404 and 405."""
    status = getattr(error, "status_code", 500)
    phrase = HTTPStatus(status).phrase
    detail = {
        404: "There is nothing at this address; /openapi.json lists what there is.",
        405: f"This address does not take {request.method}.",
    }.get(status, getattr(error, "detail", "") or phrase)
    headers = getattr(error, "headers", None)
    return Problem(status, phrase.lower().replace(" ", "-"), detail, headers=headers).response()


async def answer_bug(request: Request, error: Exception) -> Response:
    """Exception handler for everything else: a mistake of the server, whose traceback goes to its log."""
    return Problem(500, "server-error", "The server made a mistake; its log says more.").response()
