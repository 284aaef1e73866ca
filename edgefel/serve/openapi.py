"""The OpenAPI 3.1 document of the REST routes. WebSockets, which OpenAPI does not describe, are in docs/serve.md."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from edgefel import __version__
from edgefel.serve.images import FORMATS
from edgefel.serve.limits import Limits
from edgefel.serve.problems import MEDIA_TYPE
from edgefel.serve.schemas import Schema, ref, schemas

JSON, FORM, BINARY = "application/json", "multipart/form-data", "application/octet-stream"
# what the guard answers anywhere
_ALWAYS = (403, 405, 429)
_MEANINGS = {
    400: "The body is empty, cut off, or not of the announced form.",
    401: "The token is missing or wrong.",
    403: "The Host or the Origin header is not this server's.",
    404: "There is no such file, or no source of the device's own.",
    405: "The address does not take this method.",
    408: "The body took too long.",
    413: "Too many bytes or pixels.",
    415: "Not an image of a format that is read.",
    422: "The image is damaged, or there are too many.",
    429: "Too many requests.",
    503: "Not ready, or too much to do; Retry-After says when to come again.",
}

Document = dict[str, Any]


def openapi_document(labels: Sequence[str], limits: Limits, *, locked: bool, cookie: str) -> Document:
    """The document. labels: of the network. locked: whether a token is needed. cookie: name of the login cookie."""
    needs: list[dict[str, list[str]]] = [{"token": []}, {"cookie": []}] if locked else []
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "edgefel",
            "version": __version__,
            "description": "Labels facial expressions. Nothing that is sent is stored.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": _paths(limits, needs),
        "components": {
            "schemas": schemas(labels),
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer"},
                "cookie": {"type": "apiKey", "in": "cookie", "name": cookie},
            },
        },
    }


def _paths(limits: Limits, needs: list[dict[str, list[str]]]) -> Document:
    image: Schema = {"type": "string", "format": "binary", "maxLength": limits.body}
    form: Schema = {
        "type": "object",
        "properties": {"image": {"type": "array", "items": image, "minItems": 1, "maxItems": limits.images}},
        "required": ["image"],
    }
    kinds = [*FORMATS.values(), BINARY]
    takes = {kind: {"schema": image} for kind in kinds} | {FORM: {"schema": form}}
    token = {"type": "object", "properties": {"token": {"type": "string"}}, "required": ["token"]}
    login = {"application/x-www-form-urlencoded": {"schema": token}}
    locked = (401,) if needs else ()

    def own(summary: str, name: str, answers: Document, *errors: int, **more: Any) -> Document:
        """An operation that needs the token."""
        return operation(summary, name, answers, *errors, *locked, security=needs, **more)

    def file(summary: str, name: str, kind: str, *errors: int, **more: Any) -> Document:
        same = {"304": {"description": "The client has this version (If-None-Match)."}}
        return operation(summary, name, content(kind) | same, *errors, **more)

    name_parameter = {"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}
    return {
        "/v1/faces": {
            "post": own(
                f"Find and label the faces of an image, or of up to {limits.images} in a form",
                "faces",
                answer("Faces"),
                *(400, 408, 413, 415, 422, 503),
                requestBody={"required": True, "content": takes},
            )
        },
        "/v1/model": {"get": own("The network and the limits", "model", answer("Model"))},
        "/v1/live.mjpg": {
            "get": own(
                "The device's own source, annotated, as a stream of JPEGs",
                "live",
                content("multipart/x-mixed-replace"),
                *(404, 503),
            )
        },
        "/metrics": {"get": own("Metrics for Prometheus", "metrics", content("text/plain"))},
        "/healthz": {"get": operation("Whether the process answers", "healthz", answer("Status"))},
        "/readyz": {"get": operation("Whether images are labelled", "readyz", answer("Status"), 503)},
        "/openapi.json": {"get": operation("This document", "openapi", content(JSON))},
        "/login": {
            "post": operation(
                "Exchange the token for a cookie",
                "login",
                {"204": {"description": "Set-Cookie has the cookie."}},
                *(400, 401, 408, 413, 415, 503),
                requestBody={"required": True, "content": login},
            )
        },
        "/logout": {
            "post": own(
                "Forget the cookie", "logout", {"204": {"description": "Set-Cookie removes the cookie."}}
            )
        },
        "/": {"get": file("The page", "page", "text/html")},
        "/favicon.ico": {"get": file("Its icon", "icon", "image/svg+xml")},
        "/static/{name}": {"get": file("Its files", "file", "*/*", 404, parameters=[name_parameter])},
    }


def answer(schema: str) -> Document:
    """A JSON answer."""
    return {"200": {"description": "Done.", "content": {JSON: {"schema": ref(schema)}}}}


def content(kind: str) -> Document:
    """An answer of another media type."""
    return {"200": {"description": "Done.", "content": {kind: {}}}}


def operation(summary: str, name: str, answers: Document, *errors: int, **more: Any) -> Document:
    """An operation with its errors, which all have the form of `Problem`."""
    problem = {MEDIA_TYPE: {"schema": ref("Problem")}}
    return {
        "summary": summary,
        "operationId": name,
        "responses": answers
        | {
            str(status): {"description": _MEANINGS.get(status, HTTPStatus(status).phrase), "content": problem}
            for status in sorted({*_ALWAYS, *errors})
        },
        **more,
    }
