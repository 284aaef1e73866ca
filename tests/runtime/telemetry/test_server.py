"""`--metrics-port`, asked over HTTP and read with Prometheus's own parser."""

from __future__ import annotations

import socket
import subprocess
import sys
import urllib.error
import urllib.request

import fake_boards
import pytest
from prometheus_client.parser import text_string_to_metric_families

from edgefel.errors import EdgefelError
from edgefel.runtime.telemetry import server
from edgefel.runtime.telemetry.board import Board
from edgefel.runtime.telemetry.server import MetricsServer
from edgefel.runtime.telemetry.telemetry import Telemetry


def scrape(url: str) -> dict[tuple, float]:
    """Value by (name, labels...)."""
    with urllib.request.urlopen(url, timeout=10) as answer:
        text = answer.read().decode()
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    values = {(sample.name, *sorted(sample.labels.items())): sample.value for sample in samples}
    assert len(values) == len(samples)
    return values


def test_what_is_served(tmp_path):
    root = fake_boards.thor(tmp_path)
    fake_boards.write(root, fake_boards.cooling(cpufreq_cpu0=1))
    telemetry = Telemetry(Board.find(root))
    for milliseconds in range(1, 101):
        telemetry.record("copy in", milliseconds / 1e3)
    telemetry.count("dropped", 7)
    telemetry.set("queue detect", 2)
    with MetricsServer(telemetry, 0) as server:
        values = scrape(server.url)
        telemetry.count("dropped")
        assert scrape(server.url)["edgefel_events_total", ("event", "dropped")] == 8
    stage = ("stage", "copy in")
    assert values["edgefel_stage_seconds_count", stage] == 100
    assert values["edgefel_stage_seconds_sum", stage] == pytest.approx(5.05)
    assert values["edgefel_stage_seconds", ("quantile", "0.9"), stage] == pytest.approx(0.0901, rel=0.011)
    assert values["edgefel_events_total", ("event", "dropped")] == 7
    assert values["edgefel_gauge", ("name", "queue detect")] == 2
    assert values["edgefel_gpu_frequency_hertz",] == 1575e6
    assert values["edgefel_power_watts", ("source", "ina238 VIN")] == 38.5
    assert values["edgefel_temperature_celsius", ("sensor", "tj-thermal")] == 55.1
    assert values["edgefel_throttled", ("by", "cpufreq-cpu0")] == 1
    assert values["edgefel_energy_joules_total",] == 0
    # what Thor does not have is not there, and nothing of the process's own registry is
    assert ("edgefel_gpu_load_ratio",) not in values
    assert all(name.startswith("edgefel_") for name, *_ in values)


def test_only_this_machine_is_served_unless_asked_otherwise():
    with MetricsServer(Telemetry(), 0) as server:
        assert server._server.server_address[0] == "127.0.0.1"
        assert server.url == f"http://127.0.0.1:{server.port}/metrics"


def test_the_port_is_free_after_closing():
    server = MetricsServer(Telemetry(), 0)
    server.close()
    server.close()
    with pytest.raises(urllib.error.URLError):
        scrape(server.url)
    with MetricsServer(Telemetry(), server.port) as again:
        assert scrape(again.url)


def test_ports_and_hosts_that_cannot_be_had():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(EdgefelError, match="cannot listen there .*in use.*; choose another port or host"):
            MetricsServer(Telemetry(), taken.getsockname()[1])
    with pytest.raises(EdgefelError, match="cannot listen there"):
        MetricsServer(Telemetry(), 99999)
    with pytest.raises(EdgefelError, match=r"192\.0\.2\.1:0: cannot listen there"):
        MetricsServer(Telemetry(), 0, host="192.0.2.1")


def test_nothing_is_said_on_stderr(capfd):
    with MetricsServer(Telemetry(), 0) as server:
        scrape(server.url)
    assert capfd.readouterr() == ("", "")


def test_telemetry_needs_the_standard_library_alone_until_it_serves():
    code = (
        "import sys\n"
        "from edgefel.runtime.telemetry import board, files, server, snapshot, telemetry\n"
        "print(sorted({'prometheus_client', 'rich', 'numpy', 'cv2', 'torch'} & set(sys.modules)))\n"
        "sys.modules['prometheus_client'] = None\n"
        "try: server.MetricsServer(telemetry.Telemetry(), 0)\n"
        "except Exception as error: print(type(error).__name__, error)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    imported, message = result.stdout.splitlines()
    assert imported == "[]"
    assert message.startswith(
        "EdgefelError --metrics-port needs the package prometheus-client; run: pip install"
    )


def test_a_client_that_says_nothing_does_not_keep_its_thread(monkeypatch):
    monkeypatch.setattr(server._QuietHandler, "timeout", 0.2)
    with MetricsServer(Telemetry(), 0) as metrics:
        with socket.create_connection(("127.0.0.1", metrics.port), timeout=10) as silent:
            assert silent.recv(1) == b""
        scrape(metrics.url)
