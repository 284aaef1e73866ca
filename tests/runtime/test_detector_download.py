"""Downloading YuNet's file, from a server on this machine."""

from __future__ import annotations

import hashlib
import http.server
import threading

import numpy as np
import pytest

from edgefel.errors import EdgefelError
from edgefel.runtime import detector_download, detector_file
from edgefel.runtime.detector_download import download_detector
from edgefel.runtime.detector_file import detector_path, installed_detector

DATA = np.random.default_rng(0).bytes(200_001)


@pytest.fixture(autouse=True)
def _small_file(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "share"))
    for variable in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    for module in (detector_download, detector_file):
        monkeypatch.setattr(module, "SHA256", hashlib.sha256(DATA).hexdigest())
        monkeypatch.setattr(module, "BYTES", len(DATA))


class Server:
    """Serves `data`. ranges: whether it gives a part of it; cut: bytes after which it hangs up; status: instead of
    the data. seen: Range headers, asked: addresses."""

    def __init__(self) -> None:
        self.data, self.ranges, self.cut, self.status = DATA, True, None, 200
        self.seen, self.asked = [], []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                outer.seen.append(self.headers.get("Range"))
                outer.asked.append(self.path)
                if outer.status != 200:
                    self.send_error(outer.status)
                    return
                start = 0
                if outer.ranges and (asked := self.headers.get("Range")):
                    start = int(asked.removeprefix("bytes=").removesuffix("-"))
                    self.send_response(206)
                    last = len(outer.data) - 1
                    self.send_header("Content-Range", f"bytes {start}-{last}/{last + 1}")
                else:
                    self.send_response(200)
                body = outer.data[start:]
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body[: outer.cut])
                self.close_connection = True

            def log_message(self, *_):
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.http.server_port}/yunet.onnx"


@pytest.fixture
def server(monkeypatch):
    served = Server()
    threading.Thread(target=served.http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    monkeypatch.setattr(detector_download, "ADDRESSES", (served.address,))
    yield served
    served.http.shutdown()
    served.http.server_close()


def files():
    """What lies in the data folder."""
    return {path.name: path.read_bytes() for path in detector_path().parent.iterdir()}


def test_it_is_downloaded_whole(server):
    assert installed_detector() is None
    path = download_detector()
    assert installed_detector() == path == detector_path()
    assert files() == {path.name: DATA}
    assert server.seen == [None]


@pytest.mark.parametrize("ranges", [True, False], ids=["the rest", "all again"])
def test_a_download_that_broke_off_goes_on(server, ranges):
    server.cut, server.ranges = 70_000, ranges
    with pytest.raises(EdgefelError, match="the connection ended after 70000 of 200001 bytes"):
        download_detector()
    part = f"{detector_path().name}.part"
    assert files() == {part: DATA[:70_000]}
    assert installed_detector() is None
    server.cut = None
    assert files() == {part: DATA[:70_000]}
    assert download_detector().read_bytes() == DATA
    assert files() == {detector_path().name: DATA}
    assert server.seen == [None, "bytes=70000-"]


@pytest.mark.parametrize("data", [b"version https://git-lfs", DATA[:-1] + b"x", DATA + b"x"])
def test_another_file_is_refused_and_removed(server, data):
    server.data = data
    with pytest.raises(EdgefelError, match="another file") as caught:
        download_detector()
    assert "\n" not in str(caught.value)
    assert not detector_path().parent.exists() or files() == {}
    server.data = DATA
    assert download_detector().read_bytes() == DATA


def test_a_complete_part_needs_no_network(server):
    detector_path().parent.mkdir(parents=True)
    detector_path().with_name(f"{detector_path().name}.part").write_bytes(DATA)
    download_detector()
    assert server.seen == []
    assert files() == {detector_path().name: DATA}


def test_the_second_address_is_tried(server, monkeypatch):
    nowhere = "http://127.0.0.1:9/none"
    monkeypatch.setattr(detector_download, "ADDRESSES", (nowhere, server.address))
    assert download_detector().read_bytes() == DATA


@pytest.mark.parametrize(
    ("status", "message"), [(404, "127.0.0.1: HTTP 404"), (503, "HTTP 503"), (416, "HTTP 416")]
)
def test_what_a_server_refuses_is_said(server, status, message):
    server.status = status
    with pytest.raises(EdgefelError, match=message):
        download_detector()


def test_offline_is_said_in_one_line(monkeypatch):
    monkeypatch.setattr(detector_download, "ADDRESSES", ("http://127.0.0.1:9/a", "http://no.invalid/b"))
    with pytest.raises(EdgefelError) as caught:
        download_detector()
    message = str(caught.value)
    assert "127.0.0.1: Connection refused; no.invalid: " in message
    assert "--from FILE" in message
    assert "https_proxy" in message
    assert "\n" not in message
    assert not detector_path().parent.exists()


def test_the_proxy_of_the_environment_is_asked(server, monkeypatch):
    monkeypatch.setattr(detector_download, "ADDRESSES", ("http://models.invalid/yunet.onnx",))
    monkeypatch.setenv("http_proxy", server.address.rpartition("/")[0])
    assert download_detector().read_bytes() == DATA
    assert server.asked == ["http://models.invalid/yunet.onnx"]
