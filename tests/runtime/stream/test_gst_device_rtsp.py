"""Real RTSP streams on this machine: no grey or broken frame is given out after joining, a restart or a freeze."""

from __future__ import annotations

import signal
import socket
import threading
import time
from contextlib import closing, suppress
from functools import partial
from itertools import islice

import numpy as np
import pytest
import rtsp
from rtsp import KEYS, check_whole

from edgefel.bench.experiments.stream_latency import number_of, watched
from edgefel.runtime.alignment import FaceBox
from edgefel.runtime.session import Session
from edgefel.runtime.stream import capture, gst_device
from edgefel.runtime.stream.capture import open_source
from edgefel.runtime.stream.gst_device import GstDevice
from edgefel.runtime.stream.pipeline import Stream

pytestmark = rtsp.needs_server


class Recorded:
    """A session that keeps the crops it was asked about."""

    def __init__(self, session: Session) -> None:
        self.session, self.crops = session, []

    def __call__(self, crops, record):
        self.crops += crops
        return self.session(crops, record)

    def __getattr__(self, name):
        return getattr(self.session, name)


def one_face(image):
    """Of one strong colour or two: blue, and now and then the yellow stripe."""
    return [FaceBox(150, 30, 80, 1.0)]


@pytest.mark.parametrize("decoder", ["opencv", "gstreamer"])
@pytest.mark.parametrize("codec", ["h264", "h265", "jpeg"])
def test_a_stream_that_is_joined_between_two_key_frames(serve, session, codec, decoder):
    """No grey frame reaches the network."""
    server = serve(codec)
    first = open_source(server.url, decoder="gstreamer")  # the encoder runs from here on
    began = number_of(first.read().image)
    # about a third of the way from one key frame to the next
    while number_of(first.read().image) - began < KEYS // 3:
        pass
    source, network = open_source(server.url, decoder=decoder), Recorded(session)
    stream = Stream(source, one_face, network)
    results = list(islice(stream, 20))
    first.close()
    check_whole([result.frame for result in results])
    # of grey pixels all channels are alike
    assert len(network.crops) >= 20
    assert min(np.ptp(crop, axis=2).mean() for crop in network.crops) > 150
    assert len(results) + stream.dropped >= results[-1].frame.index + 1
    if decoder == "gstreamer" and codec != "jpeg":
        assert (
            0 < source.counts.unreadable < 3 * KEYS
        )  # what the decoder made of the frames before the key frame


class Cable:
    """Connections to a server that can be cut, while the server goes on. url: that of the server, through here."""

    def __init__(self, server: rtsp.RtspServer) -> None:
        self._to = ("127.0.0.1", int(server.port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._ends: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self.url = server.url.replace(server.port, str(self._listener.getsockname()[1]))
        self._start(self._connect)

    def _start(self, function, *arguments) -> None:
        self._threads.append(threading.Thread(target=function, args=arguments, daemon=True))
        self._threads[-1].start()

    def _connect(self) -> None:
        with suppress(OSError):  # closed
            while True:
                ends = self._listener.accept()[0], socket.create_connection(self._to)
                self._ends += ends
                for one, other in (ends, ends[::-1]):
                    self._start(self._pass_on, one, other)

    @staticmethod
    def _pass_on(one: socket.socket, other: socket.socket) -> None:
        with suppress(OSError):
            while data := one.recv(1 << 16):
                other.sendall(data)
        with suppress(OSError):
            other.shutdown(socket.SHUT_RDWR)

    def cut(self) -> None:
        for end in self._ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        # wakes `accept`
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self.cut()
        for thread in self._threads:
            thread.join(5)
        for end in (self._listener, *self._ends):
            end.close()


@pytest.mark.parametrize("decoder", ["opencv", "gstreamer"])
def test_a_network_that_is_cut(serve, decoder):
    """The camera goes on, and is joined between two key frames again."""
    server = serve("h265")
    with watched(server.url), closing(Cable(server)) as cable:
        source = open_source(cable.url, decoder=decoder, patience=30)
        frames = [source.read() for _ in range(10)]
        cable.cut()
        deadline = time.monotonic() + 40
        while source.counts.reconnects == 0 or len(frames) < 40:
            assert time.monotonic() < deadline
            frames.append(source.read())
        source.close()
    check_whole(frames)
    assert source.counts.reconnects == 1
    assert number_of(frames[-1].image) > number_of(frames[0].image) + 40


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
