"""Real MQTT brokers and clients for tests: Debian's mosquitto and mosquitto_sub, on this machine alone."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

# Debian puts the broker where only root's path leads
PATH = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"))
PASSWORD = "p/ss:w@rd #1?"
USER = "camera"


def tool(name: str) -> str:
    found = shutil.which(name, path=PATH)
    if found is None:
        pytest.skip(f"no {name} here; apt install mosquitto mosquitto-clients openssl")
    return found


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


class Broker:
    """A mosquitto on a port of this machine; with `password`, for USER alone. ca: folder of `make_authority`."""

    def __init__(self, folder: Path, *, password: bool = False, ca: Path | None = None) -> None:
        self._program, self.port, self.folder = tool("mosquitto"), free_port(), folder
        lines = [f"listener {self.port} 127.0.0.1", f"allow_anonymous {'false' if password else 'true'}"]
        if password:
            file = folder / "passwords"
            subprocess.run(
                [tool("mosquitto_passwd"), "-b", "-c", file, USER, PASSWORD], check=True, timeout=30
            )
            lines.append(f"password_file {file}")
        if ca is not None:
            lines += [
                f"cafile {ca / 'ca.crt'}",
                f"certfile {ca / 'broker.crt'}",
                f"keyfile {ca / 'broker.key'}",
            ]
        self._config = folder / "mosquitto.conf"
        # a broker that root starts becomes the user mosquitto, who may not read the test's folder; others ignore it
        self._config.write_text("\n".join([*lines, "user root"]) + "\n")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Broker:
        with (self.folder / "mosquitto.log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._program, "-c", str(self._config)], stdout=log, stderr=subprocess.STDOUT
            )
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return self
            assert self._process.poll() is None, (self.folder / "mosquitto.log").read_text()
            time.sleep(0.02)
        pytest.fail("mosquitto does not listen")

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def __enter__(self) -> Broker:
        return self.start()

    def __exit__(self, *exception: object) -> None:
        self.kill()


class Subscriber:
    """An independent client: what mosquitto_sub prints of every topic."""

    def __init__(self, broker: Broker, *options: str) -> None:
        command = [tool("mosquitto_sub"), "-h", "127.0.0.1", "-p", str(broker.port), "-t", "#", "-q", "1"]
        self._file = broker.folder / "messages.txt"
        with self._file.open("wb") as output:
            self._process = subprocess.Popen([*command, "-F", "%j", *options], stdout=output)
        self._sent, self._broker, self._options = 0, broker, options

    def messages(self, topic: str | None = None) -> list[dict[str, Any]]:
        """topic, payload (text), qos and retain of each message so far."""
        lines = self._file.read_text().splitlines()
        found = [json.loads(line) for line in lines if line.endswith("}")]
        return [message for message in found if topic in (None, message["topic"])]

    def payloads(self, topic: str) -> list[str]:
        return [message["payload"] for message in self.messages(topic)]

    def wait(self, topic: str, count: int = 1, seconds: float = 20) -> list[dict[str, Any]]:
        """The messages of a topic, once there are so many."""
        deadline = time.monotonic() + seconds
        while len(found := self.messages(topic)) < count:
            assert time.monotonic() < deadline, f"{topic}: {found}"
            assert self._process.poll() is None, "mosquitto_sub has ended"
            time.sleep(0.02)
        return found

    def close(self) -> None:
        self._process.kill()
        self._process.wait()

    def __enter__(self) -> Subscriber:
        """Waits until it hears messages."""
        while not self.messages("ready"):
            publish(self._broker, "ready", "yes", *self._options)
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def publish(broker: Broker, topic: str, text: str, *options: str) -> None:
    command = [tool("mosquitto_pub"), "-h", "127.0.0.1", "-p", str(broker.port), "-t", topic, "-m", text]
    subprocess.run([*command, *options], check=True, timeout=30)


def make_authority(folder: Path, host: str = "127.0.0.1") -> Path:
    """An authority of one's own, ca.crt, and broker.crt with broker.key for a host that is an address."""
    folder.mkdir()
    new_key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc")

    def openssl(*arguments: str) -> None:
        subprocess.run([tool("openssl"), *arguments], check=True, timeout=30, cwd=folder, capture_output=True)

    openssl(
        "req", "-x509", *new_key, "-keyout", "ca.key", "-out", "ca.crt", "-days", "2", "-subj", "/CN=Test CA"
    )
    openssl("req", *new_key, "-keyout", "broker.key", "-out", "broker.csr", "-subj", f"/CN={host}")
    (folder / "names").write_text(f"subjectAltName=IP:{host}\n")
    signing = ("-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "names")
    openssl("x509", "-req", "-in", "broker.csr", "-out", "broker.crt", *signing)
    return folder
