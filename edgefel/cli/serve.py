"""`edgefel serve`: a page, REST and a WebSocket."""

from __future__ import annotations

import signal
from contextlib import ExitStack
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import click

from edgefel import signals
from edgefel.cli import params
from edgefel.cli.console import console_on_stderr, say
from edgefel.cli.lazy import require
from edgefel.cli.network import load_network, network_options
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
@network_options
@params.detect_every
@params.smoothing
@params.min_confidence
@click.option("--max-body", type=FiniteRange(min=0.01), default=20.0, help="Megabytes of a request.")
@click.option(
    "--max-pixels", type=POSITIVE, default=24_000_000, help="Pixels of the largest image to decode."
)
@click.option(
    "--rate", type=FiniteRange(min=0), default=20.0, help="Requests per second of a client; 0 is no limit."
)
@click.option("--clients", type=POSITIVE, default=16, help="Streams at the same time.")
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
        min_quality=options.network["min_quality"],
    )
    params.refuse_source(options.bundle)
    plan = None
    if options.source is not None:
        sourced = SourceOptions(options.size, options.fps, False, options.decoder, options.patience)
        plan = plan_source(options.source, sourced)

    with ExitStack() as stack:
        model, lines = load_network(
            options.bundle, options.network, (1, 2, 4, 8), verbose=options.verbose, as_json=False
        )
        stack.enter_context(model)
        say(errors, *lines)
        telemetry = stack.enter_context(Telemetry(Board.find()))
        engine = Engine(model, streams, limits, telemetry)
        live = None
        if plan is not None:
            source = plan.open()
            say(errors, source.description)
            live = LiveStream(
                plan, source, model, streams, telemetry, lambda line: say(errors, f"warning: {line}")
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
