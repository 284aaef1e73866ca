"""A real mosquitto that comes and goes, refuses, speaks TLS or says nothing: who publishes never waits."""

from __future__ import annotations

import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from labelled_runs import wait_for
from mosquitto import PASSWORD, USER, Broker, Subscriber, make_authority, publish

from edgefel.errors import EdgefelError
from edgefel.runtime.mqtt.address import MqttAddress
from edgefel.runtime.mqtt.connection import Connection, require_paho, tls_context

pytest.importorskip("paho.mqtt.client", reason="the extra mqtt is not installed")

STATUS, STATE = "home/status", "home/state"
GREETINGS = {"homeassistant/sensor/x/config": '{"name": "x"}'}


def connection(port: int, tls: ssl.SSLContext | None = None, **options: object) -> Connection:
    address = MqttAddress("127.0.0.1", port, tls is not None, "home")
    for name in ("user", "password"):
        address = replace(address, **{name: options.pop(name, None)})
    return Connection(address, STATUS, GREETINGS, tls=tls, **options)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with Broker(tmp_path) as started:
        yield started


def test_what_others_hear(broker):
    with Subscriber(broker) as heard, connection(broker.port) as ours:
        ours.start()
        assert ours.settle() is None
        assert ours.asked_again()
        assert not ours.asked_again()
        assert ours.publish(STATE, b'{"faces": []}')
        (state,) = heard.wait(STATE)
        assert (state["payload"], state["qos"], state["retain"]) == ('{"faces": []}', 1, 0)
        ours.close()
        ours.close()
        assert [message["payload"] for message in heard.wait(STATUS, 2)] == ["online", "offline"]
        assert heard.payloads("homeassistant/sensor/x/config") == ['{"name": "x"}']
    # kept by the broker for who comes later; results are not
    with Subscriber(broker) as later:
        kept = {message["topic"]: message["payload"] for message in later.messages() if message["retain"]}
        assert kept == {STATUS: "offline", **GREETINGS}
        assert later.payloads(STATE) == []


def test_a_process_that_is_killed_is_said_to_be_offline(broker):
    code = (
        "import sys, time\n"
        "from edgefel.runtime.mqtt.address import MqttAddress\n"
        "from edgefel.runtime.mqtt.connection import Connection\n"
        f"address = MqttAddress('127.0.0.1', {broker.port}, False, 'home')\n"
        f"ours = Connection(address, {STATUS!r}, {{}})\n"
        "ours.start()\n"
        "time.sleep(60)\n"
    )
    with Subscriber(broker) as heard:
        process = subprocess.Popen([sys.executable, "-c", code])
        heard.wait(STATUS)
        process.kill()
        process.wait()
        assert [message["payload"] for message in heard.wait(STATUS, 2)] == ["online", "offline"]


def test_a_broker_that_is_killed_and_comes_back(broker, monkeypatch):
    told = []
    with connection(broker.port, tell=told.append) as ours:
        ours.start()
        assert ours.settle() is None
        assert ours.publish(STATE, b"1")
        broker.kill()
        wait_for(lambda: not ours.connected, 20)
        start = time.monotonic()
        assert not any(ours.publish(STATE, b"2") for _ in range(1000))
        assert time.monotonic() - start < 1
        ours.asked_again()
        broker.start()
        wait_for(lambda: ours.ready(STATE), 20)
        with Subscriber(broker) as heard:
            assert ours.asked_again()
            assert ours.publish(STATE, b"3")
            assert heard.wait(STATE)[0]["payload"] == "3"
            assert heard.wait(STATUS)[0]["payload"] == "online"
        name = f"mqtt://127.0.0.1:{broker.port}/home"
        wait_for(lambda: len(told) == 2, 20)
        assert told == [
            f"warning: {name}: connection lost; trying again, labels go on",
            f"{name}: connected again",
        ]
        # a broker that keeps failing is not worth a line each time
        broker.kill()
        wait_for(lambda: not ours.connected, 20)
        broker.start()
        wait_for(lambda: ours.connected, 20)
        assert len(told) == 2


def test_a_broker_that_is_away_at_first(tmp_path):
    broker = Broker(tmp_path)
    with connection(broker.port) as ours:
        ours.start()
        assert ours.settle() == "Connection refused"
        assert not ours.publish(STATE, b"1")
        with broker:
            wait_for(lambda: ours.connected, 20)
            assert ours.publish(STATE, b"1")


def test_a_host_that_answers_nothing_is_not_waited_for():
    """Its queue of connections is full, as if its packets were dropped."""
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        port = deaf.getsockname()[1]
        clients = []
        for _ in range(3):
            client = socket.socket()
            client.setblocking(False)
            client.connect_ex(("127.0.0.1", port))
            clients.append(client)
        ours = connection(port)
        ours.start()
        start = time.monotonic()
        assert ours.settle(0.5) == "no answer yet"
        assert not ours.publish(STATE, b"1")
        ours.close()
        assert time.monotonic() - start < 4
        for client in clients:
            client.close()


@pytest.mark.parametrize(
    "given", [{}, {"user": USER, "password": "wr0ng"}, {"user": "other", "password": PASSWORD}]
)
def test_a_broker_that_refuses_the_user(tmp_path, given):
    with Broker(tmp_path, password=True) as broker, connection(broker.port, **given) as ours:
        ours.start()
        with pytest.raises(EdgefelError, match="refuses the connection") as caught:
            ours.settle(20)
    name, reason = (
        f"mqtt://127.0.0.1:{broker.port}/home",
        "the broker refuses the connection (Not authorized)",
    )
    assert str(caught.value) == f"{name}: {reason}; check user and password"


def test_user_and_password(tmp_path):
    with (
        Broker(tmp_path, password=True) as broker,
        Subscriber(broker, "-u", USER, "-P", PASSWORD) as heard,
        connection(broker.port, user=USER, password=PASSWORD) as ours,
    ):
        ours.start()
        assert ours.settle(20) is None
        heard.wait(STATUS)


def test_tls_by_an_authority_of_ones_own(tmp_path):
    ca = make_authority(tmp_path / "ca")
    with Broker(tmp_path, ca=ca) as broker, Subscriber(broker, "--cafile", str(ca / "ca.crt")) as heard:
        address = MqttAddress("127.0.0.1", broker.port, True, "home")
        with connection(broker.port, tls_context(address, ca / "ca.crt")) as ours:
            ours.start()
            assert ours.settle(20) is None
            heard.wait(STATUS)
        for authorities, name, reason in (
            (None, "127.0.0.1", "self-signed certificate in certificate chain"),
            (ca / "ca.crt", "localhost", "Hostname mismatch"),
        ):
            context = tls_context(address, authorities)
            ours = Connection(replace(address, host=name), STATUS, {}, tls=context)
            ours.start()
            with ours, pytest.raises(EdgefelError, match=f"certificate is not trusted: {reason}"):
                ours.settle(20)
        # plain MQTT on a port for TLS
        with connection(broker.port) as ours:
            ours.start()
            assert "is its port one for TLS" in ours.settle(20)


def test_tls_on_a_port_without(broker):
    address = MqttAddress("127.0.0.1", broker.port, True, "home")
    with connection(broker.port, tls_context(address, None)) as ours:
        ours.start()
        assert ours.settle(20) == "Connection reset by peer; is its port one for TLS?"


def test_tls_on_a_port_of_something_else():
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer() -> None:
            client, _ = listening.accept()
            client.recv(65536)
            client.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        threading.Thread(target=answer, daemon=True).start()
        port = listening.getsockname()[1]
        with connection(port, ssl.create_default_context()) as ours:
            ours.start()
            with pytest.raises(EdgefelError, match="something else than TLS answers on that port"):
                ours.settle(20)


def test_authorities_that_cannot_be_read(tmp_path):
    address = MqttAddress("hub", 8883, True, "home")
    assert tls_context(replace(address, tls=False), None) is None
    (tmp_path / "text").write_text("no certificate")
    for name, reason in (("none", "no such file"), ("text", "cannot be used"), (".", "cannot be used")):
        with pytest.raises(EdgefelError, match=f"--mqtt-ca: .*{reason}"):
            tls_context(address, tmp_path / name)


class Silent:
    """A broker that accepts connections and answers nothing else; what it has read."""

    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self.read = 0
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        client, _ = self._listening.accept()
        client.recv(65536)
        client.sendall(b"\x20\x02\x00\x00")  # CONNACK
        while data := client.recv(65536):
            self.read += len(data)


def test_a_broker_that_acknowledges_nothing_gets_one_message_of_a_topic():
    silent = Silent()
    with connection(silent.port) as ours:
        ours.start()
        assert ours.settle(20) is None
        assert ours.publish(STATE, b"1" * 1000)
        start = time.monotonic()
        assert not any(ours.ready(STATE) or ours.publish(STATE, b"2" * 1000) for _ in range(10_000))
        assert time.monotonic() - start < 5
        assert len(ours._client._out_messages) == 3  # greeting, status, state
        start = time.monotonic()
    assert time.monotonic() - start < 6
    assert silent.read < 3000


def test_home_assistant_that_starts_later(broker):
    with Subscriber(broker) as heard, connection(broker.port, birth="homeassistant/status") as ours:
        ours.start()
        assert ours.settle(20) is None
        assert ours.asked_again()
        heard.wait("homeassistant/sensor/x/config")
        for text in ("offline", "onl", "online"):
            publish(broker, "homeassistant/status", text)
        wait_for(ours.asked_again, 20)
        heard.wait("homeassistant/sensor/x/config", 2)
        time.sleep(0.2)
        assert not ours.asked_again()
        assert len(heard.payloads("homeassistant/sensor/x/config")) == 2


def test_a_line_that_cannot_be_said_ends_nothing(broker):
    def fail(line: str) -> None:
        raise OSError("the terminal is gone")

    with connection(broker.port, tell=fail) as ours:
        ours.start()
        assert ours.settle(20) is None
        broker.kill()
        wait_for(lambda: not ours.connected, 20)
        broker.start()
        wait_for(lambda: ours.connected, 20)


def test_without_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "paho.mqtt.client", None)
    with pytest.raises(EdgefelError, match=r"--mqtt needs the package 'paho-mqtt'.*edgefel\[mqtt\]"):
        require_paho()


def test_an_old_paho(monkeypatch):
    import paho.mqtt.client as paho

    monkeypatch.delattr(paho, "CallbackAPIVersion")
    with pytest.raises(EdgefelError, match=r"older than 2.0; run: pip install 'edgefel\[mqtt\]'"):
        require_paho()
