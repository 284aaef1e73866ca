"""Puts the server together, and runs it until a signal ends it."""

from __future__ import annotations

import contextlib
import signal
import socket
import ssl
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from edgefel import signals
from edgefel.errors import EdgefelError
from edgefel.runtime.telemetry.telemetry import Telemetry
from edgefel.serve.access import Door, is_loopback
from edgefel.serve.app import make_app
from edgefel.serve.bodies import Bodies
from edgefel.serve.engine import Engine
from edgefel.serve.limits import Limits
from edgefel.serve.live import LiveStream
from edgefel.serve.protocol import make_protocols
from edgefel.serve.service import Service
from edgefel.serve.worker import Worker

# seconds for which answers that are under way are waited for at the end
_GOODBYE = 3
_SEND_BUFFER = 256 * 1024


@dataclass(frozen=True)
class Address:
    """Where the server listens. port: 0 takes a free one. token: needed unless the host is this machine alone. allowed:
    further names that clients may call the server by. certificate, key: for TLS.

    Raises EdgefelError: an address that others reach without a token, one of certificate and key without the other.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    token: str | None = None
    allowed: Sequence[str] = ()
    certificate: Path | None = None
    key: Path | None = None

    def __post_init__(self) -> None:
        if self.token is None and not is_loopback(self.host):
            raise EdgefelError(
                f"--host {self.host}: other machines could watch; give --token (or EDGEFEL_TOKEN), which they then need"
            )
        if (self.certificate is None) != (self.key is None):
            raise EdgefelError("--tls-cert and --tls-key belong together; give both")

    @property
    def scheme(self) -> str:
        """http or https."""
        return "http" if self.certificate is None else "https"

    def listen(self) -> socket.socket:
        """A socket that listens. Raises EdgefelError."""
        try:
            family, kind, protocol, _, place = socket.getaddrinfo(
                self.host, self.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            opened = socket.socket(family, kind, protocol)
            try:
                opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                # of each connection: what the kernel keeps for a client that does not read, and how old its frames get
                opened.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
                opened.bind(place)
                opened.listen(512)
            except BaseException:
                opened.close()
                raise
        except (OSError, UnicodeError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise EdgefelError(
                f"{self.host}:{self.port}: cannot listen there ({reason}); choose another --port or --host"
            ) from None
        return opened


class Server(uvicorn.Server):
    """uvicorn's server without its handling of signals. begun: called when it listens; ending: when it has to end."""

    def __init__(self, config: uvicorn.Config, begun: Callable[[], None], ending: Callable[[], None]) -> None:
        super().__init__(config)
        self._begun, self._ending = begun, ending

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Starts listening."""
        await super().startup(sockets)
        self._begun()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Ends streams first: an MJPEG answer would never end by itself."""
        self._ending()
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Signals are answered by `serve`."""
        yield


def serve(
    engine: Engine,
    address: Address,
    limits: Limits,
    telemetry: Telemetry,
    live: LiveStream | None = None,
    begun: Callable[[str], None] = lambda url: None,
) -> int | None:
    """Serves until SIGINT, SIGTERM or SIGHUP, which is returned. begun: told the URL once the server listens.

    Answers that are under way are waited for; a second Ctrl-C does not wait. Raises EdgefelError if the address cannot
    be used.
    """
    listening = address.listen()
    host, port = listening.getsockname()[:2]
    worker = Worker(engine.label, limits.waiting, limits.answer)
    service = Service(
        engine,
        worker,
        Door(address.token),
        limits,
        telemetry,
        Bodies(limits),
        cookie=f"edgefel-{port}",
        secure=address.certificate is not None,
        live=live,
    )
    config = _config(service, address, host)
    shown = f"[{host}]" if ":" in host else host
    server = Server(config, lambda: begun(f"{address.scheme}://{shown}:{port}/"), service.end_streams)
    asked: list[int] = []

    def stop(number: int) -> None:
        server.force_exit = bool(asked) and number == signal.SIGINT
        server.should_exit = True
        asked.append(number)

    with contextlib.ExitStack() as stack:
        stack.callback(listening.close)
        worker.start()
        stack.callback(worker.close)
        if live is not None:
            live.start()
            stack.callback(live.close)
        stack.enter_context(signals.answered(stop))
        server.run([listening])
    return asked[0] if asked else None


def _config(service: Service, address: Address, host: str) -> uvicorn.Config:
    limits = service.limits
    http, sockets = make_protocols(limits)
    config = uvicorn.Config(
        make_app(service, host, address.allowed),
        http=http,
        ws=sockets,
        loop="asyncio",
        lifespan="off",
        log_config=None,
        log_level="error",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        ws_max_size=limits.frame,
        # frames are JPEGs: compressing them again takes time and saves nothing
        ws_per_message_deflate=False,
        h11_max_incomplete_event_size=16_384,
        timeout_graceful_shutdown=_GOODBYE,
        ssl_certfile=address.certificate,
        ssl_keyfile=address.key,
    )
    try:
        config.load()
    except (OSError, ssl.SSLError) as error:
        raise EdgefelError(f"--tls-cert and --tls-key cannot be used ({error}); give PEM files") from None
    return config
