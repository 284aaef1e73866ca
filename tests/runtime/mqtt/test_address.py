"""Addresses of brokers: what is read out of them, what is refused, and that no message shows a password."""

from __future__ import annotations

import pytest

from edgefel.errors import EdgefelError
from edgefel.runtime.mqtt.address import MqttAddress, parse_address, wrong_topic


@pytest.mark.parametrize(
    ("url", "expected", "name"),
    [
        ("mqtt://hub", MqttAddress("hub", 1883, False, "edgefel"), "mqtt://hub:1883/edgefel"),
        ("mqtt://hub/", MqttAddress("hub", 1883, False, "edgefel"), "mqtt://hub:1883/edgefel"),
        (
            "mqtts://me@hub.local/home/hall/",
            MqttAddress("hub.local", 8883, True, "home/hall", "me"),
            "mqtts://hub.local:8883/home/hall",
        ),
        (
            "MQTT://me:p%2Fss%40@[::1]:18/a%20b%40c",
            MqttAddress("::1", 18, False, "a b@c", "me", "p/ss@"),
            "mqtt://[::1]:18/a b@c",
        ),
        ("mqtt://me:@hub/x", MqttAddress("hub", 1883, False, "x", "me"), "mqtt://hub:1883/x"),
    ],
)
def test_what_an_address_says(url, expected, name):
    address = parse_address(url)
    assert address == expected
    assert address.name == name
    assert "p/ss" not in repr(address)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("hub/x", "unknown kind of address"),
        ("me:secret@hub/x", "hub/x: unknown kind of address"),
        ("http://me:secret@hub/x", "http://hub/x: unknown kind of address"),
        ("mqtt:///x", "no host"),
        ("mqtt://me:secret@/x", "no host"),
        (f"mqtt://{'a' * 64}/x", "no host"),
        ("mqtt://hub:99999/x", r"mqtt://hub:99999/x: not a URL \(Port out of range"),
        ("mqtt://hub:0/x", "port 0"),
        ("mqtt://me:secret@hub:port/x", "not a URL"),
        ("mqtt://[::1/x", "not a URL"),
        # a password that is not percent-encoded
        ("mqtt://me:sec/secret@hub/x", "percent-encode"),
        ("mqtt://me:12/secret@hub/x", "percent-encode"),
        ("mqtt://me:sec#secret@hub/x", "percent-encode"),
        ("mqtt://me:sec?secret@hub/x", "percent-encode"),
        ("mqtt://me:sec[secret@hub/x", "percent-encode"),
        ("mqtt://:secret@hub/x", "a password needs a user"),
        ("mqtt://hub/a/+/b", "wildcard"),
        ("mqtt://hub/a%23", "wildcard"),
        ("mqtt://hub/$SYS", r"begins with \$"),
        ("mqtt://hub/a//b", "empty level"),
        ("mqtt://hub/a%00b", "cannot be printed"),
        ("mqtt://hub/" + "%C3%A4" * 126, "longer than 250 bytes"),
    ],
)
def test_what_is_refused_in_one_line_without_the_password(url, message):
    with pytest.raises(EdgefelError, match=message) as caught:
        parse_address(url)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("--mqtt: ")


def test_a_password_from_elsewhere():
    address = parse_address("mqtt://me@hub").with_password("secret")
    assert (address.user, address.password) == ("me", "secret")
    for url, message in (("mqtt://me:other@hub", "has a password already"), ("mqtt://hub", "needs a user")):
        with pytest.raises(EdgefelError, match=message):
            parse_address(url).with_password("secret")


def test_a_topic_that_is_good():
    assert wrong_topic("home/Küche 1") is None
