"""Tokens, cookies and names on their own; test_guard.py has them in requests."""

from __future__ import annotations

import pytest

from edgefel.errors import EdgefelError
from edgefel.serve.access import COOKIE_SECONDS, Door, Names, is_loopback
from edgefel.serve.problems import Problem

TOKEN = "0123456789abcdef"


@pytest.mark.parametrize("token", ["", "short", "0123456789abcde", "ö" * 20, "a b\n" * 8])
def test_a_token_that_can_be_guessed_or_not_be_sent_is_refused(token):
    with pytest.raises(EdgefelError, match="at least 16 printable"):
        Door(token)


def test_a_cookie_ends():
    now = [1e9]
    door = Door(TOKEN, lambda: now[0])
    cookie = door.cookie()
    door.check("", cookie, "client")
    now[0] += COOKIE_SECONDS + 1
    with pytest.raises(Problem):
        door.check("", cookie, "client")


@pytest.mark.parametrize("change", ["9", "x", ".", "\udc80", ""])
def test_a_cookie_that_was_changed_is_none(change):
    door = Door(TOKEN)
    end, _, signature = door.cookie().partition(".")
    for forged in (f"{end}{change}.{signature}x", f"{change}.{signature}", f"{end}.{change}", change):
        with pytest.raises(Problem):
            door.check("", forged, "client")


@pytest.mark.parametrize(
    "given", ["", "Bearer", "Basic dXNlcjpwYXNz", f"Bearer {TOKEN[:-1]}", "Bearer \udcff"]
)
def test_wrong_headers(given):
    with pytest.raises(Problem) as raised:
        Door(TOKEN).check(given, "", "client")
    assert raised.value.status == 401


def test_the_scheme_is_in_any_case():
    Door(TOKEN).check(f"bearer  {TOKEN}", "", "client")


@pytest.mark.parametrize(
    ("host", "own"),
    [("127.0.0.1", True), ("localhost", True), ("::1", True), ("0.0.0.0", False), ("::", False)],
)
def test_what_is_this_machine_alone(host, own):
    assert is_loopback(host) is own


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("http://cam.example", "cam.example"),
        ("https://cam.example", "cam.example:443"),
        ("http://[::1]:8", "[::1]:8"),
    ],
)
def test_default_ports_are_the_same_origin(origin, host):
    Names("::", ["cam.example"]).check_origin(origin, host)


@pytest.mark.parametrize("origin", ["file://", "http://", "http://[", "http://a:b", "chrome-extension://abc"])
def test_odd_origins_are_others(origin):
    with pytest.raises(Problem):
        Names("127.0.0.1").check_origin(origin, "127.0.0.1:8000")
