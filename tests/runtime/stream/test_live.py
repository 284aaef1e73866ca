"""Live sources: a real network stream on this machine, and cameras that fail, by a device of our own.

There is no camera here: that OpenCV's V4L2 reader behaves like `Camera` when it is unplugged is not proven.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from fake_clock import Clock, Event

from edgefel.errors import EdgefelError
from edgefel.runtime.stream import live
from edgefel.runtime.stream.capture import open_source
from edgefel.runtime.stream.live import LiveSource


class Camera:
    """A device of which the next frames are given: a size, None for one that cannot be decoded, "gone" or "hang"."""

    fps, frames, reader, skipped = 30.0, 0, "test", 0

    def __init__(self, frames: list[object], pause: float = 0.002) -> None:
        self.size = (32, 24)
        self._frames, self._pause = iter(frames), pause
        self._cancelled = threading.Event()
        self.closed = 0

    def grab(self) -> bool:
        self._next = next(self._frames, "hang")
        if self._next == "hang":
            self._cancelled.wait(30)
            return False
        time.sleep(self._pause)
        return self._next != "gone"

    def retrieve(self):
        return None if self._next is None else np.zeros((self._next[1], self._next[0], 3), np.uint8)

    def time(self) -> None:
        return None

    def failure(self) -> str:
        return "unplugged"

    def cancel(self) -> None:
        self._cancelled.set()

    def close(self) -> None:
        self.closed += 1


class Cameras:
    """Opens one after another; an error in between is a camera that is not there."""

    def __init__(self, *cameras: Camera | None) -> None:
        self.cameras, self._left = cameras, list(cameras)

    def __call__(self) -> Camera:
        camera = self._left.pop(0) if self._left else None
        if camera is None:
            raise EdgefelError("not there")
        return camera


SMALL, LARGE = (32, 24), (64, 48)


def read_until_error(source: LiveSource) -> tuple[list[object], str]:
    frames = []
    try:
        while True:
            frames.append(source.read())
    except EdgefelError as error:
        return frames, str(error)


def test_a_camera_that_comes_back():
    opened = Cameras(Camera([SMALL] * 3 + ["gone"]), None, Camera([LARGE] * 3))
    source = LiveSource(opened, "camera 0", patience=5)
    assert source.live
    assert source.description == "camera 0 (32x24, 30 fps, test)"
    while (frame := source.read()).image.shape[:2] != (48, 64):
        pass
    assert frame.time > 0
    assert (source.counts.reconnects, source.counts.resolution_changes) == (1, 1)
    assert opened.cameras[0].closed == 1
    source.close()
    assert opened.cameras[2].closed == 1
    assert source.read() is None


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses of the reading thread, which take no time: the clock of `LiveSource` advances with them alone."""
    clock = Clock()
    event = Event(clock)
    monkeypatch.setattr(live, "time", clock)
    monkeypatch.setattr(live, "threading", SimpleNamespace(**{**vars(threading), "Event": lambda: event}))
    return event.waits


def test_a_camera_that_stays_away(pauses):
    source = LiveSource(Cameras(Camera([SMALL, "gone"])), "camera 0", patience=0.5)
    _, message = read_until_error(source)
    assert pauses == pytest.approx([0.2, 0.3])
    assert message == (
        "camera 0: gone, and not back after 0.5 seconds (not there); check its cable, power and network, "
        "then start again"
    )
    with pytest.raises(EdgefelError, match="gone"):
        source.read()
    source.close()


def test_a_camera_that_opens_and_gives_nothing_is_gone_too(pauses):
    opened = Cameras(*(Camera(["gone"]) for _ in range(40)))
    source = LiveSource(opened, "camera 0", patience=6)
    assert "gone, and not back after 6 seconds (unplugged)" in read_until_error(source)[1]
    assert pauses == pytest.approx([0.2, 0.4, 0.8, 1.6, 2.0, 1.0])
    assert source.counts.reconnects == 6


def test_frames_that_cannot_be_decoded():
    source = LiveSource(Cameras(Camera([None, None, SMALL, "hang"])), "camera 0", patience=5)
    assert source.read().index == 0
    assert source.counts.unreadable == 2
    source.close()
    source = LiveSource(Cameras(Camera([None] * 5000)), "camera 0", patience=0.1)
    assert "cannot be decoded" in read_until_error(source)[1]


def test_the_newest_frame_waits_and_the_others_are_gaps():
    source = LiveSource(Cameras(Camera([SMALL] * 20, pause=0.001)), "camera 0", patience=5)
    deadline = time.monotonic() + 5
    while source.counts.overwritten < 19 and time.monotonic() < deadline:
        time.sleep(0.01)
    frame = source.read()
    assert frame.index == 19
    assert source.counts.overwritten == 19
    source.close()


def test_a_camera_that_hangs_does_not_hold_up_for_ever(monkeypatch):
    monkeypatch.setattr(live, "HANG", 0.3)
    camera = Camera([SMALL, "hang"])
    source = LiveSource(Cameras(camera), "camera 0", patience=0.2)
    assert "does not answer" in read_until_error(source)[1]
    source.close()
    assert camera.closed == 1


def test_close_ends_a_waiting_read():
    source = LiveSource(Cameras(Camera(["hang"])), "camera 0", patience=60)
    got: list[object] = ["waiting"]
    thread = threading.Thread(target=lambda: got.append(source.read()))
    thread.start()
    time.sleep(0.05)
    source.close()
    thread.join(5)
    assert got == ["waiting", None]


def test_an_unexpected_error_of_the_device_is_not_silent():
    class Broken(Camera):
        def retrieve(self):
            raise RuntimeError("driver")

    source = LiveSource(Cameras(Broken([SMALL])), "camera 0", patience=5)
    assert read_until_error(source)[1] == "camera 0: reading failed: driver"


class _MotionJpeg(BaseHTTPRequestHandler):
    """Like a network camera: parts of JPEG for ever; the path says what happens after 12 of them."""

    def log_message(self, *arguments: object) -> None:
        pass

    def do_GET(self) -> None:
        self.server.requests += 1
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        try:
            for number in range(10_000):
                if number == 12 and self.path == "/drops":
                    return
                if number == 12 and self.path == "/stalls" and self.server.requests == 1:
                    self.server.over.wait(30)
                    return
                large = self.path == "/changes" and number >= 12
                image = np.full((96, 128, 3) if large else (48, 64, 3), number % 200, np.uint8)
                jpeg = cv2.imencode(".jpg", image)[1].tobytes()
                if self.path == "/cut" and number == 12:
                    jpeg = jpeg[: len(jpeg) // 2]
                head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
                self.wfile.write(head.encode() + jpeg + b"\r\n")
                time.sleep(0.01)
        except OSError:
            pass


@pytest.fixture
def address() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _MotionJpeg)
    server.daemon_threads, server.requests, server.over = True, 0, threading.Event()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.over.set()
    server.shutdown()
    server.server_close()


def read_until(source, done, seconds: float = 20.0) -> list[object]:
    frames, deadline = [], time.monotonic() + seconds
    while not done() and time.monotonic() < deadline:
        frames.append(source.read())
    assert done()
    source.close()
    return frames


def test_a_network_stream_that_drops_is_opened_again(address):
    source = open_source(f"{address}/drops", patience=5)
    assert source.live
    assert "Motion JPEG" in source.description
    frames = read_until(source, lambda: source.counts.reconnects == 2)
    indices = [frame.index for frame in frames]
    assert indices == sorted(set(indices))
    assert source.counts.resolution_changes == 0
    times = [frame.time for frame in frames]
    assert times == sorted(times)


def test_a_network_stream_that_stalls_is_opened_again(address, monkeypatch):
    from edgefel.runtime.stream import capture, devices

    monkeypatch.setattr(
        capture, "open_url", lambda url: devices.open_url(url, open_timeout=5, read_timeout=0.5)
    )
    source = open_source(f"{address}/stalls", patience=8)
    read_until(source, lambda: source.counts.reconnects == 1)


# Python ends while the reading thread is inside OpenCV, and takes long enough for it to come back
_ENDS = """
import sys, time
from edgefel.runtime.stream import devices, live

class Slow:
    def __del__(self, sleep=time.sleep):
        sleep(3)

sys.slow, live._GOODBYE = Slow(), 0.1
source = live.LiveSource(lambda: devices.open_url(sys.argv[1], read_timeout=2), "frozen", 0)
first = [source.read() for _ in range(3)]
time.sleep(0.5)
assert source._thread.is_alive()
if sys.argv[2] == "closed":
    source.close()
    assert source._thread.is_alive()
print(len(first))
"""


@pytest.mark.parametrize("how", ["closed", "open"])
def test_python_may_end_while_a_stream_is_frozen(address, how):
    command = [sys.executable, "-c", _ENDS, f"{address}/stalls", how]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (result.returncode, result.stdout) == (0, "3\n"), result.stderr


def test_a_network_stream_that_changes_its_resolution(address):
    source = open_source(f"{address}/changes")
    frames = read_until(source, lambda: source.counts.resolution_changes == 1)
    assert frames[0].image.shape == (48, 64, 3)


def test_a_frame_cut_in_the_network_is_counted(address):
    source = open_source(f"{address}/cut")
    read_until(source, lambda: source.counts.unreadable == 1)


def test_a_network_stream_that_is_not_there():
    with pytest.raises(EdgefelError, match="http://127.0.0.1:9/live: cannot be opened as a stream") as raised:
        open_source("http://me:secret@127.0.0.1:9/live")
    assert "secret" not in str(raised.value)
