"""The page's files and the login, without a browser."""

from __future__ import annotations

import re

import pytest

from edgefel.serve.pages import STATIC, static_files

NAMES = sorted(path.name for path in STATIC.iterdir())


@pytest.mark.parametrize("name", NAMES)
def test_every_file_is_served_once_and_not_sent_again(client, name):
    answer = client.get(f"/static/{name}")
    assert answer.content == (STATIC / name).read_bytes()
    again = client.get(f"/static/{name}", headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize(
    "name",
    [
        "../pages.py",
        "..%2fpages.py",
        "%2e%2e/pages.py",
        "",
        ".",
        "nothing.js",
        "index.html%00",
        "/etc/passwd",
    ],
)
def test_no_name_becomes_a_path(client, name):
    assert client.get(f"/static/{name}").status_code == 404


def test_the_page_loads_nothing_from_elsewhere_and_has_no_inline_code():
    files = static_files()
    page = files["index.html"].data.decode()
    assert not re.findall(r"<script>|<style|\son\w+=|\sstyle=", page)
    for name, file in files.items():
        for address in re.findall(r"https?://[^\s\"'<>)]+", file.data.decode()):
            own = ("http://www.w3.org/2000/svg", "http://127.0.0.1", "http://localhost")
            assert address.startswith(own), (name, address)
    for path in re.findall(r"(?:src|href)=\"(/[^\"]*)\"", page):
        assert path == "/favicon.ico" or path.removeprefix("/static/") in files
    for name in NAMES:
        for other in re.findall(r"from \"\./([\w.]+)\"", files[name].data.decode()):
            assert other in files


def test_elements_that_scripts_ask_for_are_in_the_page():
    files = static_files()
    ids = set(re.findall(r"id=\"([\w-]+)\"", files["index.html"].data.decode()))
    for name, file in files.items():
        asked = set(re.findall(r"byId\(\"([\w-]+)\"\)", file.data.decode()))
        assert asked <= ids, (name, asked - ids)


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"token=x", "application/json", 415),
        (b"token=x", "application/x-www-form-urlencoded", 401),
        (b"", "application/x-www-form-urlencoded", 401),
        (b"\xff", "application/x-www-form-urlencoded", 400),
        (b"a&b&c&d&e&f&g", "application/x-www-form-urlencoded", 400),
        (b"token=" + b"x" * 5000, "application/x-www-form-urlencoded", 413),
    ],
)
def test_odd_logins(make_client, content, kind, status):
    client = make_client(token="a token of 24 characters")
    assert client.post("/login", content=content, headers={"Content-Type": kind}).status_code == status


def test_a_login_without_a_lock_gives_no_cookie(client):
    answer = client.post("/login", data={"token": "anything"})
    assert (answer.status_code, "set-cookie" in answer.headers) == (204, False)


def luminance(colour: str) -> float:
    """Of "#rrggbb", by WCAG 2.2."""
    parts = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    linear = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_colours_differ_enough_from_what_is_behind_them(theme):
    """WCAG 2.2: 4.5 for text, 3 for what shows something."""
    style = static_files()["style.css"].data.decode()
    found = re.findall(r"--([\w-]+): light-dark\((#\w{6}), (#\w{6})\)", style)
    colours = {name: pair[theme] for name, *pair in found}
    for text, behind in (
        ("ink", "card"),
        ("ink", "paper"),
        ("soft", "card"),
        ("soft", "paper"),
        ("warn", "warn-wash"),
    ):
        assert contrast(colours[text], colours[behind]) >= 4.5, (text, behind)
    assert contrast(colours["on-accent"], colours["accent"]) >= 4.5
    classes = [name for name in colours if re.fullmatch(r"c\d+", name)]
    assert len(classes) == 11
    for name in [*classes, "accent"]:
        assert contrast(colours[name], colours["card"]) >= 3, name
