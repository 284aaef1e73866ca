"""Videos as sources: order, times, losses, loops."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from streams import all_frames, cut, write_video

from edgefel.runtime.stream.capture import open_source
from edgefel.runtime.stream.devices import OpenCVDevice
from edgefel.runtime.stream.frames import SourceCounts
from edgefel.runtime.stream.video import VideoFile


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


def test_a_video_that_ends_early_counts_what_is_missing(tmp_path):
    source = open_source(str(cut(write_video(tmp_path / "a.mkv", codec="mp4v"), 0.6)))
    assert source.frames == 24
    count = len(all_frames(source))
    assert 5 < count < 24
    assert source.counts.missing == 24 - count


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
