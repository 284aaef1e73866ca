"""Real RTSP streams on this machine: no grey or broken frame is given out after joining, a restart or a freeze."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from edgefel.runtime.stream import capture, gst_device
from edgefel.runtime.stream.capture import open_source
from edgefel.runtime.stream.frames import Frame
from edgefel.runtime.stream.gst_device import GstDevice
from edgefel.runtime.stream.gstreamer import has_element

SERVER = Path(__file__).parents[2] / "rtsp_server.py"
# the bindings belong to the system's Python, not to the environment's
PYTHON = shutil.which("python3", path="/usr/bin") or "python3"
FPS, KEYS = 15, 45
ENCODERS = {"h264": "x264enc", "h265": "x265enc", "jpeg": "jpegenc"}


def has_server() -> bool:
    code = "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import GstRtspServer"
    return subprocess.run([PYTHON, "-c", code], capture_output=True, check=False).returncode == 0


pytestmark = pytest.mark.skipif(
    not (has_element("gdppay") and has_element("x264enc") and has_element("avdec_h264") and has_server()),
    reason="GStreamer's plugins (base, good, bad, ugly, libav) and gir1.2-gst-rtsp-server-1.0 are not installed",
)


class Server:
    """The stream; `start` and `stop` keep its address."""

    def __init__(self, codec: str) -> None:
        self.codec, self.port = codec, "0"
        self.process: subprocess.Popen[str] | None = None
        self.start()
        self.url = f"rtsp://127.0.0.1:{self.port}/live"

    def start(self) -> None:
        self.process = subprocess.Popen(
            [PYTHON, str(SERVER), self.port, "120", self.codec, str(FPS), str(KEYS)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": ""},
        )
        assert self.process.stdout is not None
        said = self.process.stdout.readline().split()
        assert said[:1] == ["serving"]
        self.port = said[1]

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            for stream in (self.process.stdin, self.process.stdout):
                if stream is not None:
                    stream.close()
        self.process = None


@pytest.fixture
def serve() -> Iterator[Callable[[str], Server]]:
    servers: list[Server] = []

    def start(codec: str) -> Server:
        if not has_element(ENCODERS[codec]):
            pytest.skip(f"{ENCODERS[codec]} is not installed")
        servers.append(Server(codec))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


def number_of(image: np.ndarray) -> int:
    return sum(int(image[4:12, 16 * bit + 4 : 16 * bit + 12].mean() > 128) << bit for bit in range(16))


def distance(image: np.ndarray) -> float:
    """Mean difference from what the server drew; a few for the codec, dozens for grey."""
    return float(np.abs(image.astype(int) - drawn(number_of(image), image.shape)).mean())


def drawn(number: int, shape: tuple[int, ...]) -> np.ndarray:
    """RGB, as `image` of the server."""
    _, width, _ = shape
    image = np.empty(shape, np.uint8)
    image[:, : width // 2], image[:, width // 2 :] = (0xF0, 0x10, 0x10), (0x10, 0x20, 0xF0)
    left = number * 8 % (width - 16)
    image[:, left : left + 16] = (0xF0, 0xF0, 0x10)
    for bit in range(16):
        image[:16, 16 * bit : 16 * bit + 16] = 255 * (number >> bit & 1)
    return image


def check_whole(frames: list[Frame]) -> None:
    assert max(distance(frame.image) for frame in frames) < 25
    numbers = [number_of(frame.image) for frame in frames]
    assert all(later > earlier for earlier, later in pairwise(numbers))
    indices = [frame.index for frame in frames]
    assert all(later > earlier for earlier, later in pairwise(indices))


@pytest.mark.parametrize("decoder", ["opencv", "gstreamer"])
@pytest.mark.parametrize("codec", ["h264", "h265", "jpeg"])
def test_a_stream_that_is_joined_between_two_key_frames(serve, codec, decoder):
    server = serve(codec)
    first = open_source(server.url, decoder="gstreamer")  # the encoder runs from here on
    began = number_of(first.read().image)
    # about a third of the way from one key frame to the next
    while number_of(first.read().image) - began < KEYS // 3:
        pass
    source = open_source(server.url, decoder=decoder)
    frames = [source.read() for _ in range(20)]
    counts = source.counts
    source.close()
    first.close()
    check_whole(frames)
    assert len(frames) + counts.overwritten >= frames[-1].index + 1
    if decoder == "gstreamer" and codec != "jpeg":
        assert 0 < counts.unreadable < 3 * KEYS  # what the decoder made of the frames before the key frame


@pytest.mark.parametrize("decoder", ["opencv", "gstreamer"])
def test_a_server_that_is_started_again(serve, decoder):
    server = serve("h264")
    source = open_source(server.url, decoder=decoder, patience=30)
    frames = [source.read() for _ in range(5)]
    server.stop()
    server.start()
    again = []
    deadline = time.monotonic() + 40
    while len(again) < 15 and time.monotonic() < deadline:
        frame = source.read()
        (again if source.counts.reconnects else frames).append(frame)
    source.close()
    check_whole(frames)
    # the frame that waited when the connection was lost
    check_whole(again[1:])
    assert len(again) == 15
    assert source.counts.reconnects >= 1
    assert len(frames) + len(again) + source.counts.overwritten >= again[-1].index + 1


@pytest.mark.parametrize("decoder", ["opencv", "gstreamer"])
def test_a_server_that_freezes(serve, monkeypatch, decoder):
    monkeypatch.setattr(capture, "GstDevice", partial(GstDevice, stall=1.0))
    monkeypatch.setattr(capture, "open_url", partial(capture.open_url, read_timeout=1.0))
    server = serve("h264")
    source = open_source(server.url, decoder=decoder, patience=60)
    frames = [source.read() for _ in range(5)]
    server.process.send_signal(signal.SIGSTOP)
    deadline = time.monotonic() + 40
    while source._device is not None:  # until it is given up
        assert time.monotonic() < deadline
        time.sleep(0.02)
    server.process.send_signal(signal.SIGCONT)
    while source.counts.reconnects == 0 or len(frames) < 30:
        assert time.monotonic() < deadline
        frames.append(source.read())
    source.close()
    check_whole(frames)
    assert len(frames) + source.counts.overwritten >= frames[-1].index + 1


def test_which_frames_are_whole(monkeypatch):
    """Joined late, then a loss between two key frames; times in ns."""
    delta, lost = 1 << 13, 1 << 6
    frames = gst_device._KeyFrames()
    frames.add(delta | lost, 10)
    assert not frames.is_whole(10)
    frames.add(delta, 20)
    frames.add(0, 30)
    assert not frames.is_whole(20)  # decoded later than the key frame arrived
    assert frames.is_whole(30)
    frames.add(delta, 40)
    frames.add(delta | lost, 60)
    assert frames.is_whole(40)
    assert not frames.is_whole(60)
    frames.add(delta, 70)
    frames.add(0, 80)
    assert [frames.is_whole(time) for time in (40, 60, 70, 80, 90)] == [True, False, False, True, True]
    # a stream that is refreshed bit by bit has none: shown with a warning, after a while
    monkeypatch.setattr(gst_device, "_NO_KEY_FRAMES", 0.0)
    frames = gst_device._KeyFrames()
    time.sleep(0.01)
    frames.add(delta, 10)
    assert frames.is_whole(10)
