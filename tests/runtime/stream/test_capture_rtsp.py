"""Streams of a real RTSP server that asks for a password: it opens them, and nobody sees it."""

from __future__ import annotations

import logging

import pytest
import rtsp

from edgefel.errors import EdgefelError
from edgefel.runtime.stream.capture import open_source

pytestmark = rtsp.needs_server

USER, PASSWORD, ENCODED = "camera", "s3cret@door/7:%", "s3cret%40door%2F7%3A%25"


@pytest.mark.parametrize("decoder", ["opencv", "gstreamer"])
@pytest.mark.parametrize("method", ["basic", "digest"])
def test_a_password(serve, capfd, caplog, method, decoder):
    """Right, wrong and absent; neither it nor the user is printed, by FFmpeg and GStreamer either."""
    caplog.set_level(logging.DEBUG)
    options = ("--user", USER, "--password", PASSWORD, *(["--digest"] if method == "digest" else []))
    server = serve("h264", *options)

    def url(credentials: str) -> str:
        return server.url.replace("://", f"://{credentials}")

    source = open_source(url(f"{USER}:{ENCODED}@"), decoder=decoder)
    rtsp.check_whole([source.read() for _ in range(3)])
    source.close()
    texts = [source.name, source.description]
    for credentials in (f"{USER}:s3cret%40window@", f"{USER}@", ""):
        with pytest.raises(EdgefelError, match=rf"^{server.url}: ") as refused:
            open_source(url(credentials), decoder=decoder)
        texts.append(str(refused.value))
        assert "\n" not in texts[-1]
    assert source.name == server.url
    texts += [caplog.text, *capfd.readouterr()]
    for text in texts:
        assert "s3cret" not in text
        assert USER not in text
