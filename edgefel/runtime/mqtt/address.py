"""Where results are published: mqtt://[USER[:PASSWORD]@]HOST[:PORT][/TOPIC]."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from urllib.parse import unquote, urlsplit

from edgefel.errors import EdgefelError
from edgefel.text import without_password

DEFAULT_TOPIC = "edgefel"
_PORTS = {"mqtt": 1883, "mqtts": 8883}
# MQTT's own limit is 65535; below it there is room for our levels and for a broker's limits
_LONGEST_TOPIC = 250


@dataclass(frozen=True)
class MqttAddress:
    """A broker and the topic that all others begin with. tls: mqtts. password: never shown."""

    host: str
    port: int
    tls: bool
    topic: str
    user: str | None = None
    password: str | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        """The address without user and password."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'mqtts' if self.tls else 'mqtt'}://{host}:{self.port}/{self.topic}"

    def with_password(self, password: str) -> MqttAddress:
        """The same with a password that is not in the URL.

        Raises EdgefelError for a second password, and without a user, whom MQTT then wants.
        """
        if self.password is not None:
            raise EdgefelError(f"--mqtt: {self.name}: has a password already; leave one of the two out")
        if self.user is None:
            raise EdgefelError(f"--mqtt: {self.name}: a password needs a user; give mqtt://USER@host/topic")
        return replace(self, password=password)


def parse_address(url: str) -> MqttAddress:
    """Reads an address; user, password and topic are percent-decoded.

    Raises EdgefelError, whose message holds no password.
    """
    shown = without_password(url)
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        # of a part of the password, where that has a "/" or a "[" in it
        reason = (
            str(error) if shown == url else "are special characters of user and password percent-encoded?"
        )
        raise EdgefelError(f"--mqtt: {shown}: not a URL ({reason}); give mqtt://host/topic") from None
    if parts.scheme not in _PORTS:
        raise EdgefelError(
            f"--mqtt: {shown}: unknown kind of address; give mqtt://host/topic, or mqtts:// for TLS"
        )
    if parts.query or parts.fragment or "@" in parts.path:
        raise EdgefelError(
            "--mqtt: a '?', '#' or '@' after the host; percent-encode it in user, password and topic (%3F, %23, %40)"
        )
    host = parts.hostname or ""
    if not _is_host(host):
        raise EdgefelError(f"--mqtt: {shown}: has no host that can be looked up; give mqtt://host/topic")
    if port == 0:
        raise EdgefelError(f"--mqtt: {shown}: port 0 is none; leave it out, or give the broker's")
    topic = unquote(parts.path).strip("/") or DEFAULT_TOPIC
    if wrong := wrong_topic(topic):
        raise EdgefelError(f"--mqtt: topic {topic!r} {wrong}; give another one")
    user = None if not parts.username else unquote(parts.username)
    address = MqttAddress(host, port or _PORTS[parts.scheme], parts.scheme == "mqtts", topic, user)
    return address.with_password(unquote(parts.password)) if parts.password else address


def _is_host(host: str) -> bool:
    """Whether it could be a name or an address: what Python cannot encode would end the connection's thread."""
    try:
        return bool(host) and bool(host.encode("idna"))
    except UnicodeError:
        return False


def wrong_topic(topic: str) -> str | None:
    """Why nothing can be published below a topic; None if it can."""
    if re.search(r"[+#]", topic):
        return "has a wildcard (+ or #), and nothing can be published to it"
    if not topic.isprintable():
        return "has characters that cannot be printed"
    if topic.startswith("$"):
        return "begins with $, and is the broker's own"
    if "" in topic.split("/"):
        return "has an empty level"
    if len(topic.encode()) > _LONGEST_TOPIC:
        return f"is longer than {_LONGEST_TOPIC} bytes"
    return None
