"""What the page of the server shares with that of `edgefel export --web`."""

from __future__ import annotations

import re

from edgefel.serve.page import SHARED, STATIC

# the page itself, and what speaks with the server
OWN = {"api.js", "index.html", "main.js", "streams.js"}


def test_every_file_is_shared_or_the_servers_own():
    assert {path.name for path in STATIC.iterdir()} == OWN | set(SHARED)
    assert OWN.isdisjoint(SHARED)


def test_what_is_shared_needs_nothing_of_the_server():
    for name in (name for name in SHARED if name.endswith(".js")):
        text = (STATIC / name).read_text()
        assert not OWN & set(re.findall(r"from \"\./([\w.]+)\"", text)), name
        assert not re.findall(r"fetch\(|WebSocket|\"/", text), name
