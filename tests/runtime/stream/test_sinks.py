"""What is written is whole at every moment, and what cannot be written is said."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgefel.data.labels import EXPRESSIONS_7
from edgefel.errors import EdgefelError
from edgefel.runtime.alignment import FaceBox
from edgefel.runtime.results import LabelledFace
from edgefel.runtime.stream import sinks
from edgefel.runtime.stream.capture import open_source
from edgefel.runtime.stream.frames import Frame, FrameResult, SourceCounts, TrackedFace
from edgefel.runtime.stream.sinks import (
    CsvSink,
    JsonLines,
    SinkClosed,
    VideoSink,
    WindowSink,
    open_file_sink,
)


def tracked(track: int, share: float = 0.7, sure: bool = True) -> TrackedFace:
    rest = (1 - share) / 6
    probabilities = {name: share if i == 1 else rest for i, name in enumerate(EXPRESSIONS_7)}
    primary = dict.fromkeys(EXPRESSIONS_7, 1 / 7)
    face = LabelledFace(
        FaceBox(-3, 5, 40, 12.5), EXPRESSIONS_7[1], EXPRESSIONS_7[0], 0.4, probabilities, primary
    )
    return TrackedFace(track, face, sure, 1.25, face)


def result(index: int, *faces: TrackedFace, time: float | None = None) -> FrameResult:
    scene = np.zeros((48, 64, 3), np.uint8)
    frame = Frame(index, index / 20 if time is None else time, scene, 0.0)
    return FrameResult(frame, faces, 0.0123, 20.0, "camera 0")


def scene(shade: int, size: tuple[int, int] = (64, 48)) -> np.ndarray:
    return np.full((size[1], size[0], 3), shade, np.uint8)


def shades(file: Path) -> list[int]:
    capture = cv2.VideoCapture(str(file), cv2.CAP_FFMPEG)
    found = []
    while True:
        readable, frame = capture.read()
        if not readable:
            capture.release()
            return found
        found.append(round(frame.mean()))


def test_json_lines_can_be_read_while_they_grow(tmp_path):
    sink = JsonLines(tmp_path / "out" / "a.jsonl")
    for number in range(3):
        sink.write(result(number, tracked(1), tracked(2, sure=False)))
        lines = (tmp_path / "out" / "a.jsonl").read_text().splitlines()
        assert [json.loads(line)["frame"] for line in lines] == list(range(number + 1))
    sink.close()
    sink.close()
    assert json.loads(lines[0]) == json.loads(
        json.dumps(result(0, tracked(1), tracked(2, sure=False)).to_dict())
    )
    assert [face["label"] for face in json.loads(lines[0])["faces"]] == ["happiness", "unsure"]


def test_json_lines_to_a_stream_leave_it_open():
    stream = io.StringIO()
    sink = JsonLines(stream)
    sink.write(result(0))
    sink.close()
    assert json.loads(stream.getvalue())["faces"] == []
    assert not stream.closed


def test_a_reader_that_goes_ends_the_run():
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as stream:
        sink = JsonLines(stream)
        sink.write(result(0))
        os.close(reading)
        with pytest.raises(SinkClosed):
            sink.write(result(1))
        # what the stream still holds has nowhere to go
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
def test_a_full_disk_is_said():
    for sink in (JsonLines(Path("/dev/full"), overwrite=True), CsvSink(Path("/dev/full"), overwrite=True)):
        with pytest.raises(EdgefelError, match=r"/dev/full: not every line could be written \(No space left"):
            sink.write(result(0, tracked(1)))
        sink.close()
    with Path("/dev/full").open("w") as stream:
        with pytest.raises(EdgefelError, match="the output cannot be written: No space left"):
            JsonLines(stream).write(result(0))
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def test_a_line_that_does_not_fit_is_taken_back(tmp_path):
    """The limit on a file's size cuts the write that crosses it, as a disk does that fills up."""
    code = f"""
import resource, signal, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import test_sinks as t
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
for name in ("a.jsonl", "a.csv"):
    sink = t.open_file_sink(t.Path({str(tmp_path)!r}) / name)
    try:
        for number in range(100):
            sink.write(t.result(number, t.tracked(1)))
    except t.EdgefelError as error:
        print(error)
"""
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    for name, message in zip(("a.jsonl", "a.csv"), output.splitlines(), strict=True):
        file = tmp_path / name
        assert message.startswith(
            f"{file}: not every line could be written (File too large); what was written before is whole"
        )
        text = file.read_text()
        assert 3000 < len(text) <= 5000
        assert text.endswith("\n")
        if name == "a.jsonl":
            assert [json.loads(line)["frame"] for line in text.splitlines()] == list(range(text.count("\n")))
        else:
            assert len({len(row) for row in csv.reader(text.splitlines())}) == 1


def test_one_csv_row_for_each_face(tmp_path):
    sink = CsvSink(tmp_path / "a.csv")
    sink.write(result(0))
    sink.write(result(1, tracked(1), tracked(2, sure=False)))
    sink.write(result(2, tracked(2)))
    rows = list(csv.DictReader((tmp_path / "a.csv").open()))
    sink.close()
    assert [(row["frame"], row["track"], row["label"]) for row in rows] == [
        ("1", "1", "happiness"),
        ("1", "2", "unsure"),
        ("2", "2", "happiness"),
    ]
    assert tuple(rows[0])[: len(CsvSink.COLUMNS)] == CsvSink.COLUMNS
    assert [float(rows[0][f"p_{name}"]) for name in EXPRESSIONS_7][1] == 0.7
    assert float(rows[0]["primary_fear"]) == 1 / 7
    assert (rows[0]["x"], rows[0]["width"], rows[0]["source"]) == ("-3", "40", "camera 0")
    assert rows[1]["top_label"] == "happiness"
    assert rows[0]["time"] == "0.05"


def test_the_csv_of_a_run_without_a_face_has_a_header(tmp_path):
    sink = CsvSink(tmp_path / "a.csv")
    sink.write(result(0))
    sink.close()
    assert (tmp_path / "a.csv").read_text() == ",".join(CsvSink.COLUMNS) + "\n"


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.mp4"])
def test_a_file_that_exists_is_kept(tmp_path, name):
    def opened(path, **options):
        return VideoSink(path, 20.0, **options) if name == "a.mp4" else open_file_sink(path, **options)

    file = tmp_path / name
    file.write_text("precious")
    with pytest.raises(EdgefelError, match="exists; choose another name"):
        opened(file)
    assert file.read_text() == "precious"
    sink = opened(file, overwrite=True)
    sink.write(result(0, tracked(1)), scene(9))
    sink.close()
    assert file.read_bytes() != b"precious"
    (tmp_path / f"b.{name}").mkdir()
    with pytest.raises(EdgefelError, match="is a folder"):
        opened(tmp_path / f"b.{name}", overwrite=True)


def test_unknown_kinds_of_files(tmp_path):
    with pytest.raises(EdgefelError, match="name it .jsonl or .csv"):
        open_file_sink(tmp_path / "a.txt")
    with pytest.raises(EdgefelError, match="name it .mp4, .mov, .mkv, .avi"):
        VideoSink(tmp_path / "a.gif", 20.0)
    (tmp_path / "file").write_text("")
    with pytest.raises(EdgefelError, match="is a file, not a folder"):
        open_file_sink(tmp_path / "file" / "a.csv")


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "avi"])
def test_a_video_appears_when_it_is_complete(tmp_path, suffix):
    file = tmp_path / "out" / f"a.{suffix}"
    sink = VideoSink(file, 20.0)
    for number in range(12):
        sink.write(result(number), scene(10 + 20 * number))
    assert not file.exists()
    sink.close()
    sink.close()
    assert list(file.parent.iterdir()) == [file]
    assert np.allclose(shades(file), [10 + 20 * number for number in range(12)], atol=6)


def test_a_video_keeps_the_times_of_the_source(tmp_path):
    """Two frames were dropped, one came early, and of a minute without any five seconds are left."""
    times = [0.0, 0.05, 0.2, 0.25, 0.3, 0.31, 0.35, 60.35, 60.4]
    file = tmp_path / "a.mkv"
    sink = VideoSink(file, 20.0)
    for number, time in enumerate(times):
        sink.write(result(number, time=100 + time), scene(25 * number))
    sink.close()
    assert np.allclose(shades(file), [25 * number for number in range(9)], atol=4)
    capture, found = cv2.VideoCapture(str(file), cv2.CAP_FFMPEG), []
    while capture.grab():
        found.append(capture.get(cv2.CAP_PROP_POS_MSEC) / 1e3)
    assert np.allclose(found, [*times[:7], 5.35, 5.4], atol=1e-3)


def test_a_video_of_a_stream_that_changes_its_resolution(tmp_path):
    file = tmp_path / "a.avi"
    sink = VideoSink(file, 20.0)
    sink.write(result(0), scene(50))
    sink.write(result(1), scene(90, (128, 96)))
    sink.close()
    assert np.allclose(shades(file), [50, 90], atol=3)


def test_colours_of_a_video(tmp_path):
    file = tmp_path / "a.mkv"
    sink = VideoSink(file, 20.0)
    sink.write(result(0), np.full((48, 64, 3), (255, 0, 0), np.uint8))
    sink.close()
    blue, _, red = cv2.VideoCapture(str(file), cv2.CAP_FFMPEG).read()[1].reshape(-1, 3).mean(axis=0)
    assert red > 230
    assert blue < 25


def test_a_killed_run_leaves_videos_that_can_be_played(tmp_path):
    code = f"""
import os, signal, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import test_sinks as t
sinks = [t.VideoSink(t.Path({str(tmp_path)!r}) / f"a.{{suffix}}", 20.0) for suffix in ("mp4", "mkv", "avi")]
for number in range(60):
    for sink in sinks:
        sink.write(t.result(number), t.scene(4 * number))
os.kill(os.getpid(), signal.SIGKILL)
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert ended.returncode == -signal.SIGKILL
    for suffix in ("mp4", "mkv", "avi"):
        file = tmp_path / f"a.{suffix}"
        assert not file.exists()
        assert len(shades(tmp_path / f"a.part.{suffix}")) == 60
        # the next run starts, and the dead one's video has a name of its own
        sink = VideoSink(file, 20.0)
        assert sink.kept == tmp_path / f"a.interrupted.{suffix}"
        source = open_source(str(sink.kept))
        frames = list(iter(source.read, None))
        source.close()
        assert np.allclose([frame.time for frame in frames], np.arange(60) / 20, atol=1e-3)
        assert source.counts == SourceCounts()
        sink.close()
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        f"a.interrupted.{suffix}" for suffix in ("avi", "mkv", "mp4")
    ]


def test_two_runs_do_not_write_one_file(tmp_path):
    """With leave to overwrite each other, the second is refused; the first one's lines stay."""
    for name in ("a.jsonl", "a.csv"):
        first = open_file_sink(tmp_path / name, overwrite=True)
        first.write(result(0, tracked(1)))
        with pytest.raises(
            EdgefelError, match="another run is writing to it; give this one a file of its own"
        ):
            open_file_sink(tmp_path / name, overwrite=True)
        first.write(result(1, tracked(1)))
        first.close()
        assert (tmp_path / name).read_text().count("\n") == (3 if name == "a.csv" else 2)
        open_file_sink(tmp_path / name, overwrite=True).close()


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv"])
def test_a_file_that_is_removed_while_it_is_written(tmp_path, name):
    sink = open_file_sink(tmp_path / name)
    sink.write(result(0, tracked(1)))
    (tmp_path / name).unlink()
    with pytest.raises(EdgefelError, match=rf"{name}: was removed while it was written"):
        sink.write(result(1, tracked(1)))
    sink.close()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_named_pipe_is_no_file_to_overwrite(tmp_path):
    pipe = tmp_path / "a.jsonl"
    os.mkfifo(pipe)
    reading = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    sink = open_file_sink(pipe)
    sink.write(result(0, tracked(1)))
    assert json.loads(os.read(reading, 1 << 16))["frame"] == 0
    os.close(reading)
    with pytest.raises(SinkClosed):
        sink.write(result(1, tracked(1)))
    sink.close()
    assert pipe.is_fifo()


def test_a_video_stops_before_the_disk_is_full(tmp_path, monkeypatch):
    free = [1 << 40]
    real = sinks.shutil.disk_usage
    monkeypatch.setattr(sinks.shutil, "disk_usage", lambda path: real(path)._replace(free=free[0]))
    file = tmp_path / "a.mp4"
    sink = VideoSink(file, 20.0)
    for number in range(15):
        sink.write(result(number), scene(100))
    free[0] = 1 << 20
    with pytest.raises(EdgefelError, match="less than 32 MB are free; the video up to here is kept"):
        for number in range(15, 40):
            sink.write(result(number), scene(100))
    assert 15 <= len(shades(file)) < 40
    with pytest.raises(EdgefelError, match="nothing was written"):
        VideoSink(tmp_path / "not" / "yet" / "b.mp4", 20.0).write(result(0), scene(9))
    assert not (tmp_path / "not").exists()


def test_a_window_that_cannot_be_is_explained(monkeypatch):
    if "GUI:                           NONE" in cv2.getBuildInformation():
        with pytest.raises(EdgefelError, match="built without windows; save a video with --save"):
            WindowSink("edgefel")
    monkeypatch.setattr(cv2, "getBuildInformation", lambda: "  GUI:                           QT5\n")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    with pytest.raises(EdgefelError, match="no screen"):
        WindowSink("edgefel")


@pytest.mark.parametrize(("key", "visible"), [(ord("q"), 1.0), (27, 1.0), (-1, 0.0)])
def test_a_window_is_closed_by_the_user(monkeypatch, key, visible):
    """OpenCV's window functions are imitated: there is no screen; that a real window opens is not proven."""
    shown = []
    monkeypatch.setattr(cv2, "getBuildInformation", lambda: "  GUI:                           GTK3\n")
    monkeypatch.setenv("DISPLAY", ":0")
    keys = iter([-1, key])
    seen = iter([1.0, visible])
    for name, stand_in in {
        "namedWindow": lambda *arguments: None,
        "resizeWindow": lambda *arguments: None,
        "imshow": lambda title, image: shown.append(image),
        "waitKey": lambda delay: next(keys),
        "getWindowProperty": lambda *arguments: next(seen),
        "destroyWindow": lambda title: None,
    }.items():
        monkeypatch.setattr(cv2, name, stand_in)
    sink = WindowSink("edgefel")
    sink.write(result(0), np.full((4, 4, 3), (255, 0, 0), np.uint8))
    assert shown[0][0, 0].tolist() == [0, 0, 255]
    assert not sink.closed
    with pytest.raises(SinkClosed):
        sink.write(result(1), scene(0))
    assert sink.closed
    sink.close()


def test_a_video_that_could_not_be_written_whole_is_an_error(tmp_path):
    """A limit on the size of files, as a full disk that OpenCV does not notice."""
    script = f"""
import resource, signal, sys
sys.path[:0] = {sys.path!r}
import numpy as np
from edgefel.errors import EdgefelError
from edgefel.runtime.stream.sinks import VideoSink
from edgefel.runtime.stream.frames import Frame, FrameResult
from pathlib import Path
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
sink = VideoSink(Path({str(tmp_path / "out.mp4")!r}), 20.0)
rng = np.random.default_rng(0)
try:
    for index in range(40):
        noise = rng.integers(0, 256, (120, 160, 3), dtype=np.uint8)
        sink.write(FrameResult(Frame(index, index / 20, noise, 0.0), (), 0.0, 20.0, "x"), noise)
except EdgefelError as error:
    print("refused:", error, index)
sink.close()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert "refused: " in done.stdout, done.stderr
    assert "not every frame could be written" in done.stdout
    # what there was room for is whole
    assert len(shades(tmp_path / "out.mp4")) == int(done.stdout.split()[-1]) > 3


@pytest.mark.parametrize("name", ["x.mp4", "x.jsonl", "x.csv", "deeper/x.jsonl"])
def test_a_file_in_the_place_of_the_folder(tmp_path, name):
    (tmp_path / "file").write_text("a file")
    target = tmp_path / "file" / name
    with pytest.raises(EdgefelError, match="is a file, not a folder"):
        VideoSink(target, 20.0) if name.endswith("mp4") else open_file_sink(target)
