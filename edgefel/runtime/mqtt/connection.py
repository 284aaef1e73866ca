"""A connection to an MQTT broker that comes and goes, and never holds up who publishes.

paho's thread connects, and connects again after growing pauses. A topic has at most one message that the broker has not
acknowledged: what comes meanwhile is refused, and the caller offers a newer one later. Memory is bounded so, whether
the broker is away, slow or silent.
"""

from __future__ import annotations

import secrets
import ssl
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgefel.errors import EdgefelError, MissingDependencyError
from edgefel.runtime.mqtt.address import MqttAddress
from edgefel.text import one_line

if TYPE_CHECKING:
    from paho.mqtt.client import Client, MQTTMessageInfo

ONLINE, OFFLINE = "online", "offline"
# every message is acknowledged: at least once
QOS = 1
_KEEPALIVE = 30  # seconds
_FIRST_PAUSE, _LONGEST_PAUSE = 1, 30
# of all topics together: a bound for what the rule of one message per topic cannot see
_MOST_QUEUED = 64
# seconds for the last message, and for the thread to end
_GOODBYE = 2.0
# seconds between two lines about a connection that comes and goes
_BETWEEN_LINES = 60.0
# refusals (CONNACK, as MQTT 5 calls them) that trying again does not mend
_SERVER_UNAVAILABLE, _SERVER_BUSY = 136, 137


def require_paho() -> None:
    """Raises EdgefelError unless a paho-mqtt that can be used is installed."""
    try:
        import paho.mqtt.client as paho
    except ImportError:
        raise MissingDependencyError("paho-mqtt", "mqtt", "--mqtt") from None
    if not hasattr(paho, "CallbackAPIVersion"):  # a system's package, seen in a virtual environment
        raise EdgefelError("--mqtt: this paho-mqtt is older than 2.0; run: pip install 'edgefel[mqtt]'")


def tls_context(address: MqttAddress, ca: Path | None) -> ssl.SSLContext | None:
    """TLS of mqtts, which checks the broker's certificate and name; None for mqtt.

    ca: file (PEM) of the authorities to trust, in place of the system's. Raises EdgefelError for a file that holds
    none.
    """
    if not address.tls:
        return None
    try:
        return ssl.create_default_context(cafile=None if ca is None else str(ca))
    except (OSError, ssl.SSLError) as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else one_line(error)
        raise EdgefelError(f"--mqtt-ca: {ca}: cannot be used ({reason}); give certificates as PEM") from None


class Connection(AbstractContextManager["Connection"]):
    """Publishes, from `start` to `close`.

    status: topic that is "online" (retained) while this is connected, and "offline" otherwise, by the broker's last
    will too. greetings: payloads by topic, retained, sent whenever it is connected. birth: topic on which "online"
    means that somebody wants to hear everything again. tell: called with a line when the connection is lost or back,
    from another thread.
    """

    def __init__(
        self,
        address: MqttAddress,
        status: str,
        greetings: Mapping[str, str],
        *,
        birth: str | None = None,
        tls: ssl.SSLContext | None = None,
        tell: Callable[[str], None] = lambda line: None,
    ) -> None:
        require_paho()
        from paho.mqtt.client import Client
        from paho.mqtt.enums import CallbackAPIVersion

        self.address, self._status, self._greetings, self._birth = address, status, greetings, birth
        self._tell, self._told, self._quiet_until = tell, False, 0.0
        self._lock = threading.Lock()
        self._unacknowledged: dict[str, MQTTMessageInfo] = {}
        self._outcome, self._closing = threading.Event(), threading.Event()
        self._asked = threading.Event()
        self._refusal: str | None = None
        self._problem: str | None = "no answer yet"
        client = Client(CallbackAPIVersion.VERSION2, client_id=f"edgefel-{secrets.token_hex(6)}")
        # an error in a line to the user must not end the thread
        client.suppress_exceptions = True
        client.reconnect_delay_set(_FIRST_PAUSE, _LONGEST_PAUSE)
        client.max_queued_messages_set(_MOST_QUEUED)
        client.will_set(status, OFFLINE, QOS, retain=True)
        if address.user is not None:
            client.username_pw_set(address.user, address.password)
        if tls is not None:
            client.tls_set_context(tls)
        client.on_connect, client.on_connect_fail = self._on_connect, self._on_connect_fail
        client.on_disconnect, client.on_message = self._on_disconnect, self._on_message
        self._client: Client = client

    @property
    def connected(self) -> bool:
        """Whether the broker has accepted the connection, and has not been lost since."""
        return self._problem is None

    def start(self) -> None:
        """Begins to connect; returns at once."""
        self._client.connect_async(self.address.host, self.address.port, _KEEPALIVE)
        self._client.loop_start()

    def settle(self, seconds: float = 3.0) -> str | None:
        """Waits for the end of the first attempt: None if it is connected, else why not; attempts go on.

        Raises EdgefelError where further attempts would end alike: user or password are refused, the certificate is
        not trusted.
        """
        self._outcome.wait(seconds)
        if self._refusal is not None:
            raise EdgefelError(f"{self.address.name}: {self._refusal}")
        return self._problem

    def asked_again(self) -> bool:
        """Whether somebody wants to hear the state that was already published; true once for each time."""
        if not self._asked.is_set():
            return False
        self._asked.clear()
        return True

    def ready(self, topic: str) -> bool:
        """Whether a message can be handed over: the broker is there, and has acknowledged the topic's last one."""
        before = self._unacknowledged.get(topic)
        return self.connected and (before is None or _is_done(before))

    def publish(self, topic: str, payload: bytes) -> bool:
        """Hands a message over; False where it is not `ready`."""
        return self.connected and self._send(topic, payload, retain=False)

    def close(self) -> None:
        """Says "offline" and ends the connection; a broker that does not answer is waited for two seconds.

        A second call does nothing.
        """
        if self._closing.is_set():
            return
        self._closing.set()
        if self.connected:
            info = self._client.publish(self._status, OFFLINE, QOS, retain=True)
            with suppress(RuntimeError, ValueError):  # the connection has just gone: the last will says it
                info.wait_for_publish(_GOODBYE)
        self._client.disconnect()
        # the thread may be looking up a name, which cannot be interrupted
        ending = threading.Thread(target=self._client.loop_stop, name="edgefel-mqtt-end", daemon=True)
        ending.start()
        ending.join(_GOODBYE)

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _send(self, topic: str, payload: str | bytes, *, retain: bool) -> bool:
        with self._lock:
            before = self._unacknowledged.get(topic)
            if before is not None and not _is_done(before):
                return False
            self._unacknowledged[topic] = self._client.publish(topic, payload, QOS, retain)
            return True

    def _greet(self) -> None:
        for topic, payload in {**self._greetings, self._status: ONLINE}.items():
            self._send(topic, payload, retain=True)
        self._asked.set()

    def _on_connect(self, client: Client, data: Any, flags: Any, reason: Any, properties: Any) -> None:
        if reason.is_failure:
            what = f"the broker refuses the connection ({reason})"
            lasting = reason.value not in (_SERVER_UNAVAILABLE, _SERVER_BUSY)
            self._failed(what, f"{what}; check user and password" if lasting else None)
            return
        self._problem = self._refusal = None
        if self._birth is not None:
            client.subscribe(self._birth, 0)
        self._greet()
        self._outcome.set()
        if self._told:
            self._told = False
            self._tell(f"{self.address.name}: connected again")

    def _on_connect_fail(self, client: Client, data: Any) -> None:
        # paho calls this while it handles the error, and hands it over in no other way
        error = sys.exc_info()[1]
        reason = getattr(error, "strerror", None) or one_line(error or "no connection")
        lasting = None
        if isinstance(error, ssl.SSLCertVerificationError):
            reason = f"its certificate is not trusted: {error.verify_message}"
            lasting = (
                f"{reason}; name the authority's file with --mqtt-ca, and the host as the certificate does"
            )
        elif isinstance(error, ssl.SSLError) and error.reason == "WRONG_VERSION_NUMBER":
            lasting = "something else than TLS answers on that port; give another one, or mqtt://"
        elif self.address.tls and isinstance(error, (ConnectionResetError, ssl.SSLEOFError)):
            reason += "; is its port one for TLS?"
        self._failed(reason, lasting)

    def _on_disconnect(self, client: Client, data: Any, flags: Any, reason: Any, properties: Any) -> None:
        if self._closing.is_set():
            return
        if self.connected:
            self._failed("connection lost")
            now = time.monotonic()
            if now >= self._quiet_until:
                self._told, self._quiet_until = True, now + _BETWEEN_LINES
                self._tell(f"warning: {self.address.name}: connection lost; trying again, labels go on")
        elif not self._outcome.is_set():
            self._failed(
                "the broker ended the connection without an answer; is its port one for TLS (mqtts://)?"
            )

    def _on_message(self, client: Client, data: Any, message: Any) -> None:
        if message.topic == self._birth and message.payload == ONLINE.encode():
            self._greet()

    def _failed(self, reason: str, lasting: str | None = None) -> None:
        """Takes note of why there is no connection. lasting: the same, where a further attempt would end alike."""
        self._problem = reason
        if not self._outcome.is_set():
            self._refusal = lasting
            self._outcome.set()


def _is_done(info: MQTTMessageInfo) -> bool:
    """Whether a message was acknowledged, or not taken because the connection had just gone."""
    try:
        return info.is_published()
    except (RuntimeError, ValueError):
        return True
