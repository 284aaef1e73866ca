"""A Prometheus endpoint for snapshots, for `--metrics-port`."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from edgefel.errors import EdgefelError
from edgefel.runtime.telemetry.board import Reading
from edgefel.runtime.telemetry.snapshot import Snapshot
from edgefel.runtime.telemetry.telemetry import Telemetry

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.core import Metric


class MetricsServer(AbstractContextManager["MetricsServer"]):
    """Serves Prometheus text at http://HOST:PORT/metrics until it is closed.

    It uses its own registry, not the process-wide one. port: 0 selects a free one; see `port` and `url`. host: by
    default only this machine has access; "0.0.0.0" gives access to all.

    Raises EdgefelError: the port is taken or not allowed, the host is not an address of this machine, or
    prometheus-client is not installed.
    """

    def __init__(self, telemetry: Telemetry, port: int, host: str = "127.0.0.1") -> None:
        try:
            from prometheus_client import make_wsgi_app
        except ImportError:
            raise EdgefelError(
                "--metrics-port needs the package prometheus-client; run: pip install prometheus-client"
            ) from None
        try:
            self._server = make_server(
                host, port, make_wsgi_app(metrics_registry(telemetry)), _Server, _QuietHandler
            )
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise EdgefelError(
                f"metrics at {host}:{port}: cannot listen there ({reason}); choose another port or host"
            ) from None
        self.port: int = self._server.server_port
        self.url = f"http://{host}:{self.port}/metrics"
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.1,), name="edgefel-metrics-server", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Releases the port; a second call does nothing."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()

    def __exit__(self, *exception: object) -> None:
        self.close()


def metrics_registry(telemetry: Telemetry) -> CollectorRegistry:
    """A registry of its own, whose metrics are those of a new snapshot each time it is read."""
    from prometheus_client import CollectorRegistry

    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(telemetry))
    return registry


class _Server(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = True

    # wsgiref looks up the host name, which may take seconds without a name server
    def server_bind(self) -> None:
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()


class _QuietHandler(WSGIRequestHandler):
    # seconds; else a silent client would keep its thread forever
    timeout = 10

    def log_message(self, format: str, *args: Any) -> None:
        """Logs nothing: stderr belongs to the command."""


class _Collector:
    """Creates the metrics of a new snapshot for each request."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry

    def collect(self) -> Iterator[Metric]:
        snapshot = self._telemetry.snapshot()
        yield from _run_metrics(snapshot)
        if snapshot.board is not None:
            yield from _board_metrics(snapshot.board)


def _run_metrics(snapshot: Snapshot) -> Iterator[Metric]:
    from prometheus_client.core import CounterMetricFamily, Metric

    stages = Metric("edgefel_stage_seconds", "Latency of a stage over the whole run.", "summary")
    for stage, times in snapshot.stages.items():
        for quantile, value in (("0.5", times.p50), ("0.9", times.p90), ("0.99", times.p99)):
            stages.add_sample(stages.name, {"stage": stage, "quantile": quantile}, value / 1e3)
        stages.add_sample(f"{stages.name}_sum", {"stage": stage}, times.mean * times.count / 1e3)
        stages.add_sample(f"{stages.name}_count", {"stage": stage}, times.count)
    yield stages
    events = CounterMetricFamily("edgefel_events", "Frames, faces, inferences, drops ...", labels=["event"])
    for name, count in snapshot.counters.items():
        events.add_metric([name], count)
    yield events
    yield _gauge("edgefel_gauge", "Queues and tracks.", dict(snapshot.gauges), "name")
    yield _gauge("edgefel_frames_per_second", "Of the last 5 seconds.", snapshot.fps)
    yield _gauge("edgefel_uptime_seconds", "Since the stream was started.", snapshot.elapsed)
    yield _gauge("edgefel_process_memory_bytes", "Resident memory of the process.", snapshot.ram_mb, unit=1e6)
    yield _gauge(
        "edgefel_millijoules_per_inference", "Energy of the board over inferences.", snapshot.mj_per_inference
    )
    sums = (
        ("edgefel_energy_joules", "Energy of the whole board.", snapshot.energy_j),
        ("edgefel_throttled_seconds", "Time in which something slowed the board down.", snapshot.throttled_s),
    )
    for name, text, total in sums:
        if total is not None:
            yield CounterMetricFamily(name, text, value=total)


def _board_metrics(board: Reading) -> Iterator[Metric]:
    yield _gauge("edgefel_memory_total_bytes", "RAM of the board.", board.ram_total_mb, unit=1e6)
    yield _gauge("edgefel_memory_available_bytes", "RAM that is free.", board.ram_available_mb, unit=1e6)
    yield _gauge("edgefel_gpu_frequency_hertz", "Clock of the GPU.", board.gpu_mhz, unit=1e6)
    yield _gauge("edgefel_gpu_load_ratio", "Load of the GPU, 0 to 1.", board.gpu_load)
    yield _gauge("edgefel_temperature_celsius", "By sensor.", dict(board.temperatures), "sensor")
    yield _gauge(
        "edgefel_rail_power_watts", "Power by rail; rails may contain others.", dict(board.rails), "rail"
    )
    source = board.power_source or "none"
    power = {} if board.power_w is None else {source: board.power_w}
    yield _gauge("edgefel_power_watts", "Power of the whole board.", power, "source")
    yield _gauge(
        "edgefel_throttled", "1 for what slows the board down now.", dict.fromkeys(board.throttled, 1.0), "by"
    )


def _gauge(
    name: str,
    text: str,
    value: float | dict[str, float] | None,
    label: str | None = None,
    *,
    unit: float = 1.0,
) -> Metric:
    """A gauge, with one sample for each value of a label; without samples if the value is None."""
    from prometheus_client.core import GaugeMetricFamily

    family = GaugeMetricFamily(name, text, labels=[label] if label else None)
    if isinstance(value, dict):
        for key, item in value.items():
            family.add_metric([key], item * unit)
    elif value is not None:
        family.add_metric([], value * unit)
    return family
