"""Videos, folders and images as sources, with real files; and what cannot be opened."""

from __future__ import annotations

import struct
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgefel.data.recording import VideoWriter, writer
from edgefel.errors import EdgefelError
from edgefel.runtime.stream.capture import open_source
from edgefel.runtime.stream.devices import OpenCVDevice, without_password
from edgefel.runtime.stream.frames import Frame, FrameSource, SourceCounts
from edgefel.runtime.stream.sources import open_source as open_images
from edgefel.runtime.stream.video import VideoFile


def shade(number: int) -> int:
    """Grey of a frame, told apart also after compression."""
    return 10 + 8 * number


def write_video(
    file: Path, count: int = 24, size: tuple[int, int] = (64, 48), codec: str = "MJPG", fps: float = 20.0
) -> Path:
    writer = cv2.VideoWriter(str(file), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*codec), fps, size)
    assert writer.isOpened()
    for number in range(count):
        writer.write(np.full((size[1], size[0], 3), shade(number), np.uint8))
    writer.release()
    return file


def cut(file: Path, share: float) -> Path:
    content = file.read_bytes()
    file.write_bytes(content[: int(share * len(content))])
    return file


def all_frames(source: FrameSource) -> list[Frame]:
    frames = []
    while (frame := source.read()) is not None:
        frames.append(frame)
    source.close()
    return frames


@pytest.mark.parametrize(("name", "codec"), [("a.avi", "MJPG"), ("a.mp4", "mp4v"), ("a.mkv", "mp4v")])
def test_every_frame_of_a_video_in_order(tmp_path, name, codec):
    source = open_source(str(write_video(tmp_path / name, codec=codec)))
    assert (source.live, source.frames, source.fps) == (False, 24, 20.0)
    assert "64x48, 20 fps, 24 frames, OpenCV" in source.description
    frames = all_frames(source)
    assert [frame.index for frame in frames] == list(range(24))
    assert np.allclose([frame.time for frame in frames], np.arange(24) / 20, atol=1e-3)
    assert [round((frame.image.mean() - 10) / 8) for frame in frames] == list(range(24))
    for frame in frames:
        assert frame.image.dtype == np.uint8
        assert frame.image.flags.c_contiguous
    assert source.counts == SourceCounts()
    assert source.read() is None


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


def test_a_video_that_ends_early_counts_what_is_missing(tmp_path):
    source = open_source(str(cut(write_video(tmp_path / "a.mkv", codec="mp4v"), 0.6)))
    assert source.frames == 24
    count = len(all_frames(source))
    assert 5 < count < 24
    assert source.counts.missing == 24 - count


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


def test_a_looped_video_goes_on(tmp_path):
    source = open_source(str(write_video(tmp_path / "a.avi", count=4)), loop=True)
    assert source.frames == 0
    frames = [source.read() for _ in range(11)]
    assert [frame.index for frame in frames] == list(range(11))
    assert np.allclose([frame.time for frame in frames], np.arange(11) / 20, atol=1e-3)
    assert [round((frame.image.mean() - 10) / 8) for frame in frames] == [0, 1, 2, 3] * 2 + [0, 1, 2]
    source.close()
    assert source.read() is None


def test_the_clock_of_a_variable_frame_rate_is_kept(tmp_path):
    """A Matroska file of which the timestamps are edited: frames from the 13th on come 300 ms later."""
    file = write_video(tmp_path / "a.mkv", codec="mp4v")
    content = bytearray(file.read_bytes())
    # a block: track 1 (0x81), then 16-bit milliseconds from the cluster's start
    places = [content.index(b"\x81" + (50 * number).to_bytes(2, "big")) for number in range(24)]
    for number, place in list(enumerate(places))[12:]:
        content[place + 1 : place + 3] = (50 * number + 300).to_bytes(2, "big")
    file.write_bytes(content)
    wanted = np.array([number / 20 + 0.3 * (number >= 12) for number in range(24)])
    times = [frame.time for frame in all_frames(open_source(str(file)))]
    assert np.allclose(times, wanted, atol=2e-3)
    source = open_source(str(file), loop=True)
    times = [source.read().time for _ in range(48)]
    assert np.allclose(times, [*wanted, *(wanted + wanted[-1] + 1 / source.fps)], atol=4e-3)
    source.close()


@pytest.mark.parametrize("codec", ["mpeg4", "jpeg"])
@pytest.mark.parametrize("turn", [0, 90, 180, 270])
def test_a_telephone_held_upright(tmp_path, monkeypatch, codec, turn):
    """The turn that the file asks for (its track's matrix) is made, by `predict` and `run` alike."""
    file = tmp_path / "a.mp4"
    if codec == "jpeg":
        monkeypatch.setattr(writer, "Mpeg4Encoder", lambda fps, size: writer.JpegEncoder())
    sketch = np.zeros((64, 96, 3), np.uint8)
    sketch[:32, :48] = (255, 0, 0)  # the upper left corner is red
    recording = VideoWriter(file, 10.0)
    for number in range(3):
        recording.write(sketch, number / 10)
    recording.close()
    content = bytearray(file.read_bytes())
    cosine, sine = ((1, 0), (0, 1), (-1, 0), (0, -1))[turn // 90]
    # width and height of the track follow its matrix
    place = content.rindex(b"tkhd") + 4 + 4 + 8 + 8 + 4 + 4 + 8 + 16
    content[place : place + 20] = struct.pack(">5i", cosine << 16, sine << 16, 0, -sine << 16, cosine << 16)
    file.write_bytes(content)
    wanted = np.rot90(sketch, -turn // 90)
    for frame in (open_source(str(file)).read(), next(open_images(file).images())):
        assert frame.image.shape == wanted.shape
        assert np.abs(frame.image[::8, ::8].astype(int) - wanted[::8, ::8]).mean() < 20


def test_a_clock_that_is_set_back(tmp_path):
    """Two recordings after each other in one file: the second one's clock begins anew, and its pace is kept."""

    class Joined(OpenCVDevice):
        stamps = (100.0, 100.1, 100.4, 5.0, 5.3, 5.4, 5.4, 5.6)

        def __init__(self) -> None:
            self.size, self.fps, self.frames, self.reader, self.place = (8, 8), 10.0, 8, "test", -1

        def grab(self) -> bool:
            self.place += 1
            return self.place < len(self.stamps)

        def retrieve(self) -> np.ndarray:
            return np.zeros((8, 8, 3), np.uint8)

        def time(self) -> float:
            return self.stamps[self.place]

        def close(self) -> None:
            pass

    times = [frame.time for frame in all_frames(VideoFile(Joined, "a.mkv"))]
    assert np.allclose(times, [0, 0.1, 0.4, 0.5, 0.8, 0.9, 1.0, 1.1])


def test_closing_from_another_thread_ends_the_reading(tmp_path):
    source = open_source(str(write_video(tmp_path / "a.avi", count=4)), loop=True)
    ended = threading.Event()

    def read_on() -> None:
        while source.read() is not None:
            pass
        ended.set()

    thread = threading.Thread(target=read_on)
    thread.start()
    source.close()
    source.close()
    thread.join(5)
    assert ended.is_set()


def test_a_folder_of_images(tmp_path):
    for name, value in (("b.png", 20), ("a.jpg", 90), ("d/c.png", 160)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / name), np.full((8, 9, 3), value, np.uint8))
    (tmp_path / "bad.png").write_bytes(b"\x89PNG")
    source = open_source(str(tmp_path), fps=2)
    assert (source.live, source.frames, source.fps) == (False, 4, 2)
    frames = all_frames(source)
    assert [Path(frame.name).name for frame in frames] == ["a.jpg", "b.png", "c.png"]
    assert [(frame.index, frame.time) for frame in frames] == [(0, 0.0), (1, 0.5), (3, 1.5)]
    assert [int(frame.image.mean()) for frame in frames] == [90, 20, 160]
    assert source.counts.unreadable == 1
    assert source.skipped == [str(tmp_path / "bad.png")]


def test_a_looped_folder_and_a_single_image(tmp_path):
    for number in range(2):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.full((8, 9, 3), 100 * number, np.uint8))
    source = open_source(str(tmp_path), loop=True)
    frames = [source.read() for _ in range(5)]
    assert [(frame.index, frame.time, int(frame.image.mean())) for frame in frames] == [
        (0, 0.0, 0),
        (1, 1.0, 100),
        (2, 2.0, 0),
        (3, 3.0, 100),
        (4, 4.0, 0),
    ]
    assert len(all_frames(open_source(str(tmp_path / "1.png")))) == 1


@pytest.mark.parametrize("loop", [False, True])
def test_a_folder_of_which_nothing_can_be_read(tmp_path, loop):
    (tmp_path / "bad.png").write_bytes(b"\x89PNG")
    with pytest.raises(EdgefelError, match="nothing in it can be read"):
        open_source(str(tmp_path), loop=loop).read()


def test_a_looped_folder_whose_images_vanish_ends(tmp_path):
    cv2.imwrite(str(tmp_path / "1.png"), np.zeros((8, 8, 3), np.uint8))
    source = open_source(str(tmp_path), loop=True)
    assert [source.read().index for _ in range(3)] == [0, 1, 2]
    (tmp_path / "1.png").unlink()
    with pytest.raises(EdgefelError, match="nothing in it can be read"):
        source.read()


def test_a_video_that_fails_on_the_way_says_why(caplog):
    """A decoder that dies, of a file that does not announce how long it is."""

    class Failing(OpenCVDevice):
        def __init__(self) -> None:
            self.size, self.fps, self.frames, self.reader, self.left = (8, 8), 25.0, 0, "test", 3

        def grab(self) -> bool:
            self.left -= 1
            return self.left >= 0

        def retrieve(self) -> np.ndarray:
            return np.zeros((8, 8, 3), np.uint8)

        def time(self) -> None:
            return None

        def failure(self) -> str:
            return "the decoder died"

        def close(self) -> None:
            pass

    assert len(all_frames(VideoFile(Failing, "a.mkv"))) == 3
    assert caplog.messages == ["a.mkv: ends after 3 frames: the decoder died"]


def test_what_cannot_be_opened_is_explained(tmp_path):
    with pytest.raises(EdgefelError, match="no such file or folder; give a camera"):
        open_source(str(tmp_path / "absent.mp4"))
    with pytest.raises(EdgefelError, match="no images in it"):
        open_source(str(tmp_path))
    broken = tmp_path / "broken.mp4"
    cut(write_video(broken, codec="mp4v"), 0.5)
    with pytest.raises(EdgefelError, match="cannot open this as a video"):
        open_source(str(broken))
    with pytest.raises(EdgefelError, match="unknown kind of address"):
        open_source("gopher://somewhere/else")
    with pytest.raises(EdgefelError, match="not a camera device|cannot be opened as a camera"):
        open_source("/dev/null")


@pytest.mark.skipif(Path("/dev/video97").exists(), reason="there is such a camera")
@pytest.mark.parametrize("decoder", ["auto", "gstreamer"])
def test_a_camera_that_is_not_there(decoder):
    with pytest.raises(EdgefelError, match="/dev/video97: no such device"):
        open_source("97", decoder=decoder)


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ("0", {"loop": True}, "is a camera, for which loop has no meaning"),
        ("csi", {"decoder": "opencv"}, "read by GStreamer alone"),
        ("rtsp://host/live", {"fps": 5.0}, "is a stream, for which fps has no meaning"),
        ("rtsp://me:secret@host/live", {"loop": True}, "rtsp://host/live: is a stream"),
        (".", {"size": (4, 4)}, "is images, for which size has no meaning"),
        (__file__, {"fps": 4.0}, "is a video, for which fps has no meaning"),
        ("0", {"size": (0, 480)}, "size is 0x480"),
        ("0", {"fps": 0.0}, "fps is 0"),
        ("0", {"patience": -1.0}, "patience is -1"),
    ],
)
def test_options_that_do_not_fit(source, options, message):
    with pytest.raises(EdgefelError, match=message):
        open_source(source, **options)


def test_passwords_are_not_shown():
    assert without_password("rtsp://me:p%40ss@10.0.0.7:554/a?b=c@d") == "rtsp://10.0.0.7:554/a?b=c@d"
    assert without_password("http://10.0.0.7/a") == "http://10.0.0.7/a"


def test_a_url_that_is_none():
    with pytest.raises(EdgefelError, match="not a URL"):
        open_source("http://[::1")
