"""Pipelines as text, the pipe's protocol, and real GStreamer children where gst-launch-1.0 is installed."""

from __future__ import annotations

import os
import resource
import signal
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgefel.errors import EdgefelError
from edgefel.runtime.stream import gst_device, gstreamer
from edgefel.runtime.stream.capture import open_source
from edgefel.runtime.stream.gst_device import HEADER_BYTES, GstDevice, RawFormat
from edgefel.runtime.stream.gstreamer import (
    has_element,
)
from edgefel.runtime.stream.live import LiveSource

needs_gstreamer = pytest.mark.skipif(
    not (has_element("gdppay") and has_element("videotestsrc") and has_element("jpegdec")),
    reason="gst-launch-1.0 with its base, good and bad plugins is not installed",
)
needs_libav = pytest.mark.skipif(not has_element("avdec_mpeg4"), reason="gstreamer1.0-libav is not installed")


def pattern(size: tuple[int, int], pixel: str, count: int, *options: str) -> tuple[str, ...]:
    """Frames of pure red."""
    caps = f"video/x-raw,format={pixel},width={size[0]},height={size[1]},framerate=30/1"
    red = "foreground-color=0xffff0000"
    return ("videotestsrc", "pattern=solid-color", red, f"num-buffers={count}", *options, "!", caps)


def all_images(device: GstDevice) -> list[np.ndarray]:
    images = []
    while device.grab():
        images.append(device.retrieve())
    return images


@pytest.mark.parametrize("hardware", [False, True])
def test_which_decoder_auto_picks(monkeypatch, tmp_path, hardware):
    """Hardware decoding is imitated by the software pipeline: the choice is tested, not NVIDIA's decoder."""
    if hardware and not (has_element("gdppay") and has_element("jpegdec")):
        pytest.skip("gst-launch-1.0 is not installed")
    monkeypatch.setattr(gstreamer, "has_hardware_decoder", lambda: hardware)
    real = gstreamer.file_pipeline
    monkeypatch.setattr(gstreamer, "file_pipeline", lambda path, hardware: real(path, hardware=False))
    source = open_source(str(write_mjpeg(tmp_path / "a.mjpeg", [(64, 48)] * 3)))
    assert ("GStreamer" in source.description) == hardware
    source.close()


def test_formats():
    caps = "video/x-raw, format=(string)BGRx, width=(int)639, height=(int)48, framerate=(fraction)30000/1001"
    assert RawFormat.parse(caps) == RawFormat(639, 48, "BGRx", 30000 / 1001)
    assert RawFormat(63, 2, "RGB", 0).stride == 192
    assert RawFormat(63, 2, "RGB", 0).image(np.zeros(383, np.uint8)) is None
    for bad in (
        "video/x-raw, format=(string)NV12, width=(int)4, height=(int)4",
        "audio/x-raw, rate=(int)8000",
    ):
        with pytest.raises(EdgefelError, match="GStreamer sends"):
            RawFormat.parse(bad)


def write_mjpeg(file: Path, sizes: list[tuple[int, int]]) -> Path:
    scenes = [
        np.full((height, width, 3), 40 + number, np.uint8) for number, (width, height) in enumerate(sizes)
    ]
    file.write_bytes(b"".join(cv2.imencode(".jpg", scene)[1].tobytes() for scene in scenes))
    return file


@needs_gstreamer
@pytest.mark.parametrize("pixel", ["RGB", "BGR", "RGBA", "BGRx"])
@pytest.mark.parametrize("size", [(64, 48), (63, 47), (1, 1)])
def test_real_frames_with_padded_rows(pixel, size):
    device = GstDevice(pattern(size, pixel, 4), "pattern")
    assert (device.size, device.fps) == (size, 30.0)
    times = []
    images = []
    while device.grab():
        images.append(device.retrieve())
        times.append(device.time())
    assert len(images) == 4
    assert np.allclose(times, np.arange(4) / 30, atol=1e-6)
    for image in images:
        assert image.shape == (size[1], size[0], 3)
        assert image.flags.c_contiguous
        assert (image == (255, 0, 0)).all()
    assert device.failure() == ""
    device.close()
    device.close()


@needs_gstreamer
def test_frames_larger_than_the_pipe_and_owned_by_the_caller():
    device = GstDevice(pattern((1920, 1080), "RGB", 3), "pattern")
    first, second, third = all_images(device)
    assert first.shape == (1080, 1920, 3)
    first[:] = 0
    assert (second == (255, 0, 0)).all()
    assert third is not second
    device.close()


@needs_gstreamer
@needs_libav
def test_a_file_is_the_same_as_by_opencv(tmp_path):
    file = tmp_path / "a.mp4"
    writer = cv2.VideoWriter(str(file), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"mp4v"), 20.0, (98, 50))
    for number in range(12):
        writer.write(np.full((50, 98, 3), (20 * number, 100, 255 - 20 * number), np.uint8))
    writer.release()
    frames = []
    for decoder in ("opencv", "gstreamer"):
        source = open_source(str(file), decoder=decoder)
        assert (source.live, source.frames, source.fps) == (False, 12, 20.0)
        frames.append([source.read() for _ in range(12)])
        assert source.read() is None
        assert source.counts.missing == 0
        source.close()
    for ours, theirs in zip(*frames, strict=True):
        assert (ours.index, ours.time) == (theirs.index, pytest.approx(theirs.time, abs=1e-3))
        assert np.abs(ours.image.astype(int) - theirs.image).max() < 12  # two conversions from YUV


@needs_gstreamer
def test_a_looped_file_and_a_change_of_resolution(tmp_path):
    """Within a pass the size changes once, and the start of the next pass is no change."""
    file = write_mjpeg(tmp_path / "a.mjpeg", [(64, 48)] * 3 + [(128, 96)] * 3)
    source = open_source(str(file), decoder="gstreamer", loop=True)
    shapes = [source.read().image.shape[:2] for _ in range(12)]
    assert shapes == ([(48, 64)] * 3 + [(96, 128)] * 3) * 2
    assert source.counts.resolution_changes == 2
    source.close()


@needs_gstreamer
def test_names_are_never_taken_for_elements(tmp_path):
    marker = tmp_path / "marker"
    for name in (
        f'a" ! filesink location={marker.name} x="b.mjpeg',
        "a ! fakesink.mjpeg",
        "back\\slash\\.mjpeg",
        'quote"s\\".mjpeg',
        "é = {$HOME} 'x' ; # (b).mjpeg",
    ):
        file = write_mjpeg(tmp_path / name, [(64, 48)] * 2)
        source = open_source(str(file), decoder="gstreamer")
        assert source.read().image.shape == (48, 64, 3)
        source.close()
    assert sorted(tmp_path.glob("marker*")) == []


@needs_gstreamer
def test_an_address_is_never_taken_for_elements(tmp_path):
    """gst-launch reads it as one value: the file of the injected sink does not appear."""
    if not has_element("rtspsrc"):
        pytest.skip("rtspsrc is not installed")
    sink = tmp_path / "injected"
    url = f'rtsp://127.0.0.1:9/a" ! fakesink videotestsrc num-buffers=1 ! filesink location="{sink}'
    with pytest.raises(EdgefelError, match="GStreamer gives no frame"):
        open_source(url, decoder="gstreamer")
    assert not sink.exists()


@needs_gstreamer
def test_a_file_that_is_no_video(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"nothing of the kind" * 100)
    with pytest.raises(EdgefelError, match="a.mp4: GStreamer gives no frame: [A-Z]"):
        open_source(str(tmp_path / "a.mp4"), decoder="gstreamer")


@needs_gstreamer
def test_a_source_that_dies_is_started_again():
    """The child is killed in mid-stream, as when a camera's driver crashes."""
    devices: list[GstDevice] = []

    def start() -> GstDevice:
        devices.append(GstDevice(pattern((64, 48), "RGB", 10_000, "is-live=true"), "pattern"))
        return devices[-1]

    source = LiveSource(start, "pattern", patience=10)
    assert source.read() is not None
    devices[0]._process.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 10
    while source.counts.reconnects == 0 and time.monotonic() < deadline:
        assert source.read() is not None
    assert source.counts.reconnects == 1
    source.close()
    assert all(device._process.returncode is not None for device in devices)
    assert not any(thread.name == "camera" for thread in threading.enumerate())


@needs_gstreamer
def test_a_source_that_stalls():
    """No end, no error, no frame: a child that is stopped, and a valve that lets nothing through."""
    device = GstDevice(pattern((64, 48), "RGB", 100, "is-live=true"), "pattern", stall=0.3)
    device._process.send_signal(signal.SIGSTOP)
    while device.grab():
        pass
    assert device.failure() == "no frame came for 0.3 seconds"
    device.close()
    with pytest.raises(EdgefelError, match="GStreamer gives no frame: no frame came for 0.3 seconds"):
        GstDevice(
            ("videotestsrc", "!", "valve", "drop=true", "!", "video/x-raw,format=RGB"), "x", first_frame=0.3
        )


@needs_gstreamer
def test_in_a_program_with_a_thousand_open_files():
    """`select` takes no descriptor above 1023."""
    limit, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most < 2048:
        pytest.skip("the system lets this process open fewer files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(limit, 2048), most))
    files = []
    try:
        while not files or files[-1] < 1100:
            files.append(os.open(os.devnull, os.O_RDONLY))
        device = GstDevice(pattern((64, 48), "RGB", 3), "pattern")
        assert device._pipe > 1023
        assert [device.grab() for _ in range(4)] == [True, True, True, False]
        device.close()
    finally:
        for file in files:
            os.close(file)
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, most))


@needs_gstreamer
def test_close_ends_a_waiting_grab():
    device = GstDevice(pattern((64, 48), "RGB", 100, "is-live=true"), "pattern", stall=30)
    device._process.send_signal(signal.SIGSTOP)
    timer = threading.Timer(0.3, device.cancel)
    timer.start()
    while device.grab():
        pass
    assert device.failure() == ""  # else it says that no frame came for 30 seconds
    device.close()


@needs_gstreamer
def test_the_child_ends_with_its_parent():
    """Also where the parent is killed and cannot tell it: the pipe breaks."""
    code = (
        "import time; from edgefel.runtime.stream.gst_device import GstDevice\n"
        "caps = 'video/x-raw,format=RGB,width=64,height=48'\n"
        "device = GstDevice(('videotestsrc', 'is-live=true', '!', caps), 'pattern')\n"
        "print(device._process.pid, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    child = int(parent.stdout.readline())
    assert is_alive(child)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 10
    while is_alive(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_alive(child)


def is_alive(process: int) -> bool:
    """Neither gone nor a zombie that nobody has waited for."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture
def launch(monkeypatch, tmp_path):
    """A child in place of gst-launch that says something on its output, as NVIDIA's camera driver does, and
    sends given bytes to the pipe that it was told."""

    def start(sent: bytes) -> GstDevice:
        (tmp_path / "sent").write_bytes(sent)
        script = tmp_path / "launch"
        script.write_text(
            "#!/bin/sh\n"
            'echo "GST_ARGUS: Available Sensor modes"\n'
            'for word; do case "$word" in fd=*) pipe=${word#fd=};; esac; done\n'
            f'cat "{tmp_path / "sent"}" > /proc/self/fd/$pipe\n'
        )
        script.chmod(0o755)
        monkeypatch.setattr(gst_device, "LAUNCH", str(script))
        monkeypatch.setattr(gst_device, "check_installed", lambda elements: None)
        return GstDevice(("anything",), "camera")

    return start


def packet(kind: int, payload: bytes, announced: int | None = None) -> bytes:
    length = len(payload) if announced is None else announced
    return struct.pack(">BBBBHIQ", 1, 0, 0, 0, kind, length, 5 * 10**8).ljust(HEADER_BYTES, b"\0") + payload


CAPS = b"video/x-raw, format=(string)RGB, width=(int)2, height=(int)1, framerate=(fraction)30/1\0"
PIXELS = bytes([1, 2, 3, 4, 5, 6, 0, 0])


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs Linux")
def test_what_the_child_prints_does_not_come_between_the_frames(launch):
    event = packet(64 + 0x280E, b"GstEventStreamStart, ...")
    device = launch(event + packet(2, CAPS) + event + packet(1, PIXELS) + packet(1, PIXELS[:5]))
    assert device.grab()
    assert device.retrieve().tolist() == [[[1, 2, 3], [4, 5, 6]]]
    assert device.time() == 0.5
    assert device.grab()
    assert device.retrieve() is None  # too short for its format
    assert not device.grab()
    assert device.failure() == ""
    device.close()


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs Linux")
@pytest.mark.parametrize(
    ("sent", "failure"),
    [
        (b"", "it ended without a frame"),
        (b"Setting pipeline to PAUSED ..." + bytes(100), "not the GStreamer Data Protocol"),
        (packet(2, CAPS) + packet(1, PIXELS, announced=1 << 30), "not the GStreamer Data Protocol"),
        (packet(2, b"audio/x-raw, rate=(int)8000"), "no raw video"),
        (packet(2, CAPS) + packet(1, PIXELS, announced=99), "it ended without a frame"),
    ],
)
def test_what_is_no_frame_is_not_taken_for_one(launch, sent, failure):
    with pytest.raises(EdgefelError, match=f"camera: GStreamer gives no frame: .*{failure}"):
        launch(sent)
