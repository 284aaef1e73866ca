"""REST: images, the model, health, metrics."""

from __future__ import annotations

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from edgefel import __version__
from edgefel.runtime.telemetry.server import metrics_registry
from edgefel.serve.answers import image_dict
from edgefel.serve.engine import Work
from edgefel.serve.multipart import read_multipart
from edgefel.serve.problems import Problem
from edgefel.serve.service import service_of
from edgefel.text import printable

FORM, BINARY = "multipart/form-data", "application/octet-stream"
_LONGEST_NAME = 200


async def faces(request: Request) -> Response:
    """POST /v1/faces: one image as the body, or several as the parts of a form."""
    service = service_of(request)
    content_type = request.headers.get("content-type", "")
    kind = content_type.partition(";")[0].strip().lower()
    if kind not in ("", BINARY, FORM) and not kind.startswith("image/"):
        detail = f"Send an image (image/jpeg, {BINARY}) or {FORM}, not {printable(kind, lines=False)[:100]}."
        raise Problem(415, "unsupported-media-type", detail, close=True)
    async with service.bodies.read(request) as body:
        if kind == FORM:
            parts = read_multipart(content_type, body, service.limits.images)
            named = [(part.filename or part.name, part.data) for part in parts]
            if not named:
                raise Problem(400, "empty", "The form has no image.")
        else:
            named = [("body", body)]
            if not body:
                raise Problem(400, "empty", "The body is empty; send an image.")
        answers = await service.worker.label([Work(data) for _, data in named])
    images = [
        image_dict(printable(name, lines=False)[:_LONGEST_NAME], answer)
        for (name, _), answer in zip(named, answers, strict=True)
    ]
    return JSONResponse({"images": images})


async def model(request: Request) -> Response:
    """GET /v1/model: the network, the limits, and the device's source."""
    service = service_of(request)
    limits = service.limits
    live = service.live
    return JSONResponse(
        {
            "edgefel": __version__,
            **service.engine.describe(),
            "token_needed": service.door.locked,
            "limits": {
                "body_bytes": limits.body,
                "frame_bytes": limits.frame,
                "pixels": limits.pixels,
                "images": limits.images,
                "requests_per_second": limits.rate,
                "streams": limits.clients,
            },
            "live": None if live is None else live.describe(),
        }
    )


async def healthz(request: Request) -> Response:
    """GET /healthz: the process answers."""
    return JSONResponse({"status": "ok"})


async def readyz(request: Request) -> Response:
    """GET /readyz: images are labelled, and the device's source, if there is one, delivers."""
    service = service_of(request)
    if not service.worker.alive:
        raise Problem(503, "not-ready", "The network is not running.", retry_after=5)
    if service.live is not None and service.live.problem:
        raise Problem(
            503, "no-source", f"The source does not deliver: {service.live.problem}.", retry_after=5
        )
    return JSONResponse({"status": "ready"})


async def metrics(request: Request) -> Response:
    """GET /metrics, for Prometheus."""
    service = service_of(request)
    service.telemetry.set("waiting", service.worker.waiting)
    service.telemetry.set("body bytes", service.bodies.held)
    text = generate_latest(metrics_registry(service.telemetry))
    return Response(text, media_type=CONTENT_TYPE_LATEST)
