"""Who may use the server: token, cookie, Host and Origin."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import math
import re
import secrets
import socket
import time
from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

from edgefel.errors import EdgefelError
from edgefel.serve.problems import Problem
from edgefel.serve.rates import Rates

SHORTEST_TOKEN = 16
COOKIE_SECONDS = 12 * 3600
# wrong tokens of one client: so many at once, then one in so many seconds
_WRONG, _WRONG_SECONDS = 10, 6.0


class Door:
    """Checks the token, and gives browsers a cookie for it.

    token: None lets everybody in. The cookie holds its own end and a signature by a key of this process: it does not
    hold the token, and ends with the process. Raises EdgefelError for a token that can be guessed.
    """

    def __init__(self, token: str | None, clock: Callable[[], float] = time.time) -> None:
        if token is not None and (
            len(token) < SHORTEST_TOKEN or not token.isascii() or not token.isprintable()
        ):
            raise EdgefelError(
                f"--token has to be at least {SHORTEST_TOKEN} printable ASCII characters; make one with: "
                "python3 -c 'import secrets; print(secrets.token_urlsafe())'"
            )
        self._token = None if token is None else token.encode()
        self._key = secrets.token_bytes(32)
        self._clock = clock
        self._wrong = Rates(1 / _WRONG_SECONDS, _WRONG)

    @property
    def locked(self) -> bool:
        """Whether a token is needed."""
        return self._token is not None

    def check(self, authorization: str, cookie: str, client: str) -> None:
        """Raises Problem: neither the header nor the cookie is right (401), or too many were wrong (429)."""
        if self._token is None or self._is_cookie(cookie):
            return
        scheme, _, given = authorization.partition(" ")
        if not authorization or scheme.lower() != "bearer":
            raise Problem(
                401,
                "unauthorized",
                "This needs the token: send it as 'Authorization: Bearer TOKEN', or log in on the page.",
                headers={"WWW-Authenticate": 'Bearer realm="edgefel"'},
            )
        self.check_token(given.strip(), client)

    def check_token(self, given: str, client: str) -> None:
        """Raises Problem for a wrong token (401), or too many wrong ones of this client (429)."""
        if self._token is None:
            return
        if self._wrong.left(client) < 1:
            raise Problem(
                429, "too-many-tokens", "Too many wrong tokens; wait.", retry_after=math.ceil(_WRONG_SECONDS)
            )
        # digests, since the time of comparing strings of different lengths tells the length
        digests = (hashlib.sha256(value).digest() for value in (given.encode(errors="replace"), self._token))
        if not hmac.compare_digest(*digests):
            self._wrong.take(client)
            raise Problem(
                401,
                "wrong-token",
                "The token is wrong.",
                headers={"WWW-Authenticate": 'Bearer realm="edgefel"'},
            )

    def cookie(self) -> str:
        """A value for the cookie, for COOKIE_SECONDS."""
        end = str(int(self._clock()) + COOKIE_SECONDS)
        return f"{end}.{self._signature(end)}"

    def _is_cookie(self, value: str) -> bool:
        end, _, signature = value.partition(".")
        if not re.fullmatch(r"\d{1,12}", end, re.ASCII):
            return False
        right = hmac.compare_digest(signature.encode(errors="replace"), self._signature(end).encode())
        return right and int(end) > self._clock()

    def _signature(self, end: str) -> str:
        return hmac.new(self._key, end.encode(), hashlib.sha256).hexdigest()


class Names:
    """The names that the server may be called by.

    A page of another site can point its own name at this machine (DNS rebinding), and its browser then sends that name
    as Host. So names are limited to those of this machine and `allowed`; an address is nobody's name.
    """

    def __init__(self, host: str, allowed: Sequence[str] = ()) -> None:
        own = {"localhost", *(name.lower().rstrip(".") for name in allowed)}
        if not is_loopback(host):
            own.add(host.lower())
            own |= {name for name in (_host_name(), f"{_host_name()}.local") if name.strip(".")}
        self._own, self._only_loopback = own, is_loopback(host)

    def check_host(self, host: str) -> None:
        """Raises Problem (403) for a Host header that names another machine."""
        name = _name_of(host)
        if name in self._own or (_is_address(name) and (not self._only_loopback or is_loopback(name))):
            return
        raise Problem(
            403,
            "wrong-host",
            "The Host header does not name this server; if the name is right, start it with --allow-host NAME.",
        )

    def check_origin(self, origin: str, host: str) -> None:
        """Raises Problem (403) for a request that a page of another origin makes; a program sends no Origin."""
        if not origin:
            return
        parts = _split(origin)
        default = {"http": 80, "https": 443}.get(parts[0])
        own = _split(f"{parts[0]}://{host}")
        if default is None or parts[1] != own[1] or (parts[2] or default) != (own[2] or default):
            raise Problem(403, "wrong-origin", "Pages of other sites may not use this server.")


def is_loopback(host: str) -> bool:
    """Whether an address or name is of this machine alone."""
    if host.lower() == "localhost":
        return True
    return _is_address(host) and ipaddress.ip_address(host).is_loopback


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _host_name() -> str:
    return socket.gethostname().lower()


def _name_of(host: str) -> str:
    return _split(f"http://{host}")[1]


def _split(url: str) -> tuple[str, str, int | None]:
    """Scheme, name and port; empty strings and None for what is none."""
    try:
        parts = urlsplit(url)
        if parts.path or parts.query or parts.fragment or "@" in parts.netloc:
            return "", "", None
        return parts.scheme, (parts.hostname or "").lower().rstrip("."), parts.port
    except ValueError:
        return "", "", None
