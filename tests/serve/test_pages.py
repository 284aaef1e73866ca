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
