"""What OpenCV decodes: colours, orientation, broken frames, changes of size; addresses in messages."""

from __future__ import annotations

import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from streams import all_frames, shade, write_video

from edgefel.data.recording import VideoWriter, mp4, writer
from edgefel.errors import EdgefelError
from edgefel.runtime.stream import devices
from edgefel.runtime.stream.capture import open_source
from edgefel.runtime.stream.sources import open_source as open_images


@pytest.mark.parametrize(("name", "codec"), [("a.avi", "MJPG"), ("a.mp4", "mp4v")])
def test_images_are_rgb(tmp_path, name, codec):
    file = tmp_path / name
    writer = cv2.VideoWriter(str(file), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*codec), 20.0, (64, 48))
    for _ in range(3):
        writer.write(np.full((48, 64, 3), (0, 0, 255), np.uint8))  # red in OpenCV's order
    writer.release()
    red, green, blue = open_source(str(file)).read().image.reshape(-1, 3).mean(axis=0)
    assert red > 230
    assert max(green, blue) < 25


def test_a_frame_cut_in_two_is_unreadable_and_leaves_a_gap(tmp_path):
    """FFmpeg would show it half grey; the rest of the video goes on."""
    file = write_video(tmp_path / "a.avi")
    content = bytearray(file.read_bytes())
    start = content.index(b"movi")
    for _ in range(8):
        start = content.index(b"00dc", start + 1)
    content[start + 8 : start + 60] = bytes(52)  # the JPEG's beginning
    file.write_bytes(content)
    source = open_source(str(file))
    frames = all_frames(source)
    assert [frame.index for frame in frames] == [*range(7), *range(8, 24)]
    assert frames[7].time == pytest.approx(8 / 20, abs=1e-3)
    assert (source.counts.unreadable, source.counts.missing) == (1, 0)


def test_a_video_whose_resolution_changes(tmp_path):
    """Two sizes in one Motion JPEG stream: what FFmpeg's reader hides by rescaling is seen and counted."""
    stream = b""
    for size in ((64, 48), (96, 128)):
        for number in range(10):
            stream += cv2.imencode(".jpg", np.full((*size, 3), shade(number), np.uint8))[1].tobytes()
    file = tmp_path / "a.mjpeg"
    file.write_bytes(stream)
    source = open_source(str(file))
    assert source.frames == 0  # such a stream has no index, and FFmpeg announces nonsense
    shapes = [frame.image.shape[:2] for frame in all_frames(source)]
    assert shapes == [(64, 48)] * 10 + [(96, 128)] * 10
    assert source.counts.resolution_changes == 1


@pytest.mark.parametrize("codec", ["mpeg4", "jpeg"])
@pytest.mark.parametrize("turn", [0, 90, 180, 270])
def test_a_telephone_held_upright(tmp_path, monkeypatch, codec, turn):
    """The turn that the file asks for (its track's matrix) is made, by `predict` and `run` alike."""
    file = tmp_path / "a.mp4"
    if codec == "jpeg":
        # as cameras write it: the same file with JPEG images in it, and its track says so
        monkeypatch.setattr(writer, "Mpeg4Encoder", lambda fps, size: writer.JpegEncoder())
        monkeypatch.setattr(mp4, "is_key", lambda data: True)
        monkeypatch.setattr(mp4, "decoder_config", lambda data: b"\0")
    sketch = np.zeros((64, 96, 3), np.uint8)
    sketch[:32, :48] = (255, 0, 0)  # the upper left corner is red
    recording = VideoWriter(file, 10.0)
    for number in range(3):
        recording.write(sketch, number / 10)
    recording.close()
    content = bytearray(file.read_bytes())
    if codec == "jpeg":
        content = content.replace(b"\x20\x11\0\0\0", b"\x6c\x11\0\0\0")
    cosine, sine = ((1, 0), (0, 1), (-1, 0), (0, -1))[turn // 90]
    # width and height of the track follow its matrix
    place = content.rindex(b"tkhd") + 4 + 4 + 8 + 8 + 4 + 4 + 8 + 16
    content[place : place + 20] = struct.pack(">5i", cosine << 16, sine << 16, 0, -sine << 16, cosine << 16)
    file.write_bytes(content)
    wanted = np.rot90(sketch, -turn // 90)
    source = open_source(str(file))
    assert ("Motion JPEG" in source.description) == (codec == "jpeg")
    for frame in (source.read(), next(open_images(file).images())):
        assert frame.image.shape == wanted.shape
        assert np.abs(frame.image[::8, ::8].astype(int) - wanted[::8, ::8]).mean() < 20


@pytest.mark.skipif(Path("/dev/video97").exists(), reason="there is such a camera")
@pytest.mark.parametrize("decoder", ["auto", "gstreamer"])
def test_a_camera_that_is_not_there(decoder):
    with pytest.raises(EdgefelError, match="/dev/video97: no such device"):
        open_source("97", decoder=decoder)


def test_how_many_threads_decode(tmp_path, monkeypatch):
    """Each holds a frame back: one, unless a frame is large."""
    video = write_video(tmp_path / "video.mp4", 3, codec="mp4v")

    opened = []
    once = devices._open_once
    monkeypatch.setattr(devices, "_open_once", lambda *how: opened.append(how[1]) or once(*how))
    one = [cv2.CAP_PROP_N_THREADS, 1]
    for opener, limit in ((devices.open_url, "_LIVE_PIXELS"), (devices.open_video, "_FILE_PIXELS")):
        opener(str(video)).close()
        assert [parameters[-2:] for parameters in opened] == [one]
        monkeypatch.setattr(devices, limit, 64 * 48 - 1)
        device = opener(str(video))
        assert [parameters[-2:] == one for parameters in opened] == [True, True, False]
        assert device.grab()
        device.close()
        opened.clear()
