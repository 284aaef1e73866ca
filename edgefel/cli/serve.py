"""`edgefel serve`: a page, REST and a WebSocket."""

from __future__ import annotations

import signal
from contextlib import ExitStack
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import click

from edgefel import signals
from edgefel.cli import params
from edgefel.cli.console import console_on_stderr, say, working
from edgefel.cli.lazy import require
from edgefel.cli.param_types import PATH, POSITIVE, FiniteRange

if TYPE_CHECKING:
    from edgefel.serve.limits import Limits


@click.command("serve")
@params.bundle_or_shipped
@click.option(
    "--host", default="127.0.0.1", help="Address to listen on; others than this machine need --token."
)
@click.option("--port", type=click.IntRange(0, 65535), default=8000, help="Port; 0 takes a free one.")
@click.option(
    "--token",
    envvar="EDGEFEL_TOKEN",
    help="Secret that clients need. Better in $EDGEFEL_TOKEN: others see the command line.",
)
@click.option(
    "--allow-host",
    "allowed",
    multiple=True,
    metavar="NAME",
    help="Further name that clients call the server by, such as that of a proxy. May be given several times.",
)
@click.option(
    "--tls-cert", type=PATH, help="Certificate (PEM) for https, which browsers need to open their camera."
)
@click.option("--tls-key", type=PATH, help="Its private key (PEM).")
@params.source(help="Device's own source: camera number or device, csi, csi:1, rtsp://..., a video file.")
@params.frame_size()
@params.frame_rate()
@params.patience
@params.decoder
@params.precision
@params.backend
@params.threads
@params.detector
@params.detector_model
@params.min_face
@params.detect_every
@params.smoothing
@params.min_confidence
@params.min_quality
@click.option("--max-body", type=FiniteRange(min=0.01), default=20.0, help="Megabytes of a request.")
@click.option(
    "--max-pixels", type=POSITIVE, default=24_000_000, help="Pixels of the largest image to decode."
)
@click.option(
    "--rate", type=FiniteRange(min=0), default=20.0, help="Requests per second of a client; 0 is no limit."
)
@click.option("--clients", type=POSITIVE, default=16, help="Streams at the same time.")
@params.force()
@params.verbose
def command(**options: Any) -> None:
    """Serve a page, REST and a WebSocket that label faces.

    BUNDLE is a bundle of `edgefel export`; without one, the network that comes with edgefel is used. The page shows the
    camera of the browser, images and videos, and with --source the device's own camera. Nothing that is sent is stored.

    \b
    Examples:
      edgefel serve                                            http://127.0.0.1:8000/
      edgefel serve bundle --source csi                        with the camera of a Jetson
      EDGEFEL_TOKEN=... edgefel serve --host 0.0.0.0           for other machines too
      curl --data-binary @photo.jpg -H 'Content-Type: image/jpeg' localhost:8000/v1/faces
    """
    require("serve", "edgefel serve", "starlette", "uvicorn", "websockets")
    for option in ("size", "fps"):
        params.refuse_alone(option, "source")
    number = _serve(SimpleNamespace(**options))
    if number == signal.SIGINT:
        raise signals.Interrupted(number)


def _serve(options: SimpleNamespace) -> int | None:
    from edgefel.runtime.faces import make_detector
    from edgefel.runtime.session import Session
    from edgefel.runtime.stream.capture import SourceOptions, plan_source
    from edgefel.runtime.stream.pipeline import StreamOptions
    from edgefel.runtime.telemetry.board import Board
    from edgefel.runtime.telemetry.telemetry import Telemetry
    from edgefel.serve.access import Door
    from edgefel.serve.engine import Engine
    from edgefel.serve.live import LiveStream
    from edgefel.serve.server import Address, serve

    errors = console_on_stderr()
    # all that can be refused is refused before the network is loaded
    address = Address(
        options.host, options.port, options.token, options.allowed, options.tls_cert, options.tls_key
    )
    Door(options.token)
    limits = _limits(options)
    streams = StreamOptions(
        policy="latest",
        detect_every=options.detect_every,
        smoothing=options.smoothing,
        min_confidence=options.min_confidence,
        min_quality=options.min_quality,
    )
    plan = None
    if options.source is not None:
        sourced = SourceOptions(options.size, options.fps, False, options.decoder, options.patience)
        plan = plan_source(options.source, sourced)

    def detector() -> Any:
        return make_detector(
            options.detector, options.detector_model, min_share=options.min_face, threads=options.threads
        )

    with ExitStack() as stack:
        find = detector()
        with working(f"loading {options.bundle}"):
            chosen = options.precision, options.backend, options.threads, options.force
            session = stack.enter_context(Session.open(options.bundle, *chosen))
            session.warm_up(batches=(1, 2, 4, 8))
        reasons = (*session.choice.reasons, find.description) if options.verbose else ()
        say(errors, session.headline, *reasons, *session.notes)
        telemetry = stack.enter_context(Telemetry(Board.find()))
        engine = Engine(session, find, streams, limits, telemetry)
        live = None
        if plan is not None:
            # a detector is used by one thread: the source has its own
            source = plan.open()
            say(errors, source.description)
            live = LiveStream(
                plan,
                source,
                detector(),
                session,
                streams,
                telemetry,
                lambda line: say(errors, f"warning: {line}"),
            )

        def begun(url: str) -> None:
            locked = "clients need the token" if options.token else "for this machine alone, without a token"
            say(errors, f"{url} ({locked}); Ctrl-C ends")

        return serve(engine, address, limits, telemetry, live, begun)


def _limits(options: SimpleNamespace) -> Limits:
    from edgefel.serve.limits import Limits

    body = round(1e6 * options.max_body)
    return Limits(
        body=body,
        pixels=options.max_pixels,
        rate=options.rate,
        clients=options.clients,
        waiting=max(64, 2 * options.clients),
        memory=max(128_000_000, 4 * body),
    )
