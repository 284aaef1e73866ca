"""The options of `edgefel run` that publish to an MQTT broker: checked early, connected before a camera is opened."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgefel.cli import params
from edgefel.cli.console import say
from edgefel.cli.param_types import PATH, FiniteRange
from edgefel.errors import EdgefelError

if TYPE_CHECKING:
    import ssl

    from rich.console import Console

    from edgefel.runtime.model import Model
    from edgefel.runtime.mqtt.address import MqttAddress
    from edgefel.runtime.stream.sinks import Sink

PASSWORD_VARIABLE = "EDGEFEL_MQTT_PASSWORD"
_LONGEST_PASSWORD = 65535  # bytes, in MQTT
_NONE = "none"

_OPTIONS = (
    click.option(
        "--mqtt",
        metavar="URL",
        help="Publish results to an MQTT broker: mqtt://[USER@]HOST[:PORT][/TOPIC], or mqtts:// for TLS.",
    ),
    click.option(
        "--mqtt-password-file",
        type=PATH,
        help=f"Password of the user at the broker. Others see one in the URL; ${PASSWORD_VARIABLE} holds it too.",
    ),
    click.option(
        "--mqtt-ca", type=PATH, help="Authorities (PEM) to trust for mqtts.  [default: the system's]"
    ),
    click.option(
        "--mqtt-every",
        type=FiniteRange(0, 30),
        default=1.0,
        help="Least seconds between two messages; they come when people or labels change, and every 30 seconds.",
    ),
    click.option(
        "--mqtt-discovery",
        metavar="PREFIX",
        default="homeassistant",
        help=f"Topics on which Home Assistant looks for devices; {_NONE} publishes no entities.",
    ),
)


def mqtt_options(function: Callable[..., None]) -> Callable[..., None]:
    """Options that reach the command as `mqtt`: an `MqttPlan`, or None without --mqtt."""

    @functools.wraps(function)
    def command(**values: Any) -> None:
        mqtt = {name: values.pop(name) for name in list(values) if name.startswith("mqtt")}
        function(mqtt=_plan(mqtt), **values)

    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@dataclass(frozen=True)
class MqttPlan:
    """Checked options; nothing is connected yet."""

    address: MqttAddress
    tls: ssl.SSLContext | None
    every: float
    discovery: str | None

    def connect(self, model: Model, stack: ExitStack, errors: Console) -> Sink:
        """A sink that publishes; the connection ends with `stack`.

        Raises EdgefelError where the broker refuses the user, or its certificate is not trusted. A broker that is away
        is only a warning.
        """
        from edgefel.runtime.mqtt.connection import Connection
        from edgefel.runtime.mqtt.home_assistant import discovery
        from edgefel.runtime.mqtt.sink import HEARTBEAT, MqttSink

        topic = self.address.topic
        state, status = f"{topic}/state", f"{topic}/status"
        entities, birth = {}, None
        if self.discovery is not None:
            birth = f"{self.discovery}/status"
            entities = discovery(
                topic,
                state,
                status,
                model.labels,
                model.session.manifest.folder.name,
                expire_after=round(3 * HEARTBEAT),
                prefix=self.discovery,
            )
        connection = stack.enter_context(
            Connection(
                self.address,
                status,
                entities,
                birth=birth,
                tls=self.tls,
                tell=lambda line: say(errors, line),
            )
        )
        connection.start()
        problem = connection.settle()
        if problem is None:
            say(errors, f"{self.address.name}: connected, results at {state}")
        else:
            say(
                errors, f"warning: {self.address.name}: not connected ({problem}); trying again, labels go on"
            )
        return MqttSink(connection, state, self.every)


def _plan(options: dict[str, Any]) -> MqttPlan | None:
    for option in options:
        if option != "mqtt":
            params.refuse_alone(option, "mqtt")
    if options["mqtt"] is None:
        return None
    from edgefel.runtime.mqtt.address import parse_address, wrong_topic
    from edgefel.runtime.mqtt.connection import require_paho, tls_context

    file, ca = options["mqtt_password_file"], options["mqtt_ca"]
    address = parse_address(options["mqtt"])
    # one in the URL counts before that of the environment
    if file is not None or address.password is None:
        password = _password(file)
        address = address if password is None else address.with_password(password)
    if ca is not None and not address.tls:
        raise EdgefelError("--mqtt-ca belongs to mqtts://; give that, or leave it out")
    prefix = options["mqtt_discovery"]
    if reason := wrong_topic(prefix):
        raise EdgefelError(f"--mqtt-discovery: {prefix!r} {reason}; give another one, or {_NONE}")
    require_paho()
    return MqttPlan(
        address, tls_context(address, ca), options["mqtt_every"], None if prefix == _NONE else prefix
    )


def _password(file: Path | None) -> str | None:
    """Of the file, else of the environment."""
    from edgefel.files.read import read_regular, reading

    if file is None:
        return os.environ.get(PASSWORD_VARIABLE) or None
    with reading(file):
        password = read_regular(file, _LONGEST_PASSWORD).decode().removesuffix("\n").removesuffix("\r")
    if not password:
        raise EdgefelError(f"{file}: holds no password; write it there, or leave out --mqtt-password-file")
    return password
