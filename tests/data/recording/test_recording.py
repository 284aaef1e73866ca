"""A recording can be played up to its last frame, however it ends, and nothing that was recorded is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgefel.data.recording import VideoWriter, encoders, writer
from edgefel.errors import EdgefelError

SUFFIXES = [".mp4", ".mov", ".mkv", ".avi"]
# of a variable rate, in milliseconds that every container can hold
TIMES = [
    0,
    0.033,
    0.067,
    0.1,
    0.5,
    0.52,
    0.6,
    1.2,
    1.25,
    5.0,
    5.1,
    8.0,
    8.5,
    *(9 + i / 20 for i in range(20)),
]


def image(shade: int, size: tuple[int, int] = (64, 48)) -> np.ndarray:
    return np.full((size[1], size[0], 3), shade, np.uint8)


def played(file: Path) -> tuple[list[float], list[float]]:
    """Times in seconds, and mean shades."""
    capture = cv2.VideoCapture(str(file), cv2.CAP_FFMPEG)
    times, shades = [], []
    while (read := capture.read())[0]:
        times.append(capture.get(cv2.CAP_PROP_POS_MSEC) / 1e3)
        shades.append(read[1].mean())
    capture.release()
    return times, shades


def child(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """A process that has `VideoWriter`, `image` and `noise` (of 320x240)."""
    start = f"""
import os, resource, signal, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_recording import *
folder = Path(sys.argv[1])
noise = np.random.default_rng(0).integers(0, 255, (240, 320, 3), dtype=np.uint8)
"""
    command = [sys.executable, "-c", start + code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_frame_has_its_time(tmp_path, suffix):
    file = tmp_path / f"a{suffix}"
    recording = VideoWriter(file, 20.0)
    for number, time in enumerate(TIMES):
        recording.write(image(7 * number), time)
        assert len(played(recording.part)[0]) == number + 1  # on disk as soon as it is written
        assert not file.exists()
    recording.close()
    recording.close()
    assert list(tmp_path.iterdir()) == [file]
    times, shades = played(file)
    # AVI has places of a twentieth second alone; where two frames want the same, the second takes the next
    assert np.allclose(times, TIMES, atol=0.101 if suffix == ".avi" else 1e-3)
    assert np.allclose(shades, [7 * number for number in range(len(TIMES))], atol=5)
    capture = cv2.VideoCapture(str(file), cv2.CAP_FFMPEG)
    length = capture.get(cv2.CAP_PROP_FRAME_COUNT) / capture.get(cv2.CAP_PROP_FPS)
    assert length == pytest.approx(TIMES[-1] + 0.05, abs=0.06)
    if suffix in (".mp4", ".mov"):
        assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == len(TIMES)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_player_can_jump(tmp_path, suffix):
    file = tmp_path / f"a{suffix}"
    recording = VideoWriter(file, 20.0)
    for number in range(100):
        recording.write(image(2 * number), number / 20)
    recording.close()
    capture = cv2.VideoCapture(str(file), cv2.CAP_FFMPEG)
    for number in (80, 30, 99):
        capture.set(cv2.CAP_PROP_POS_FRAMES, number)
        assert capture.read()[1].mean() == pytest.approx(2 * number, abs=4)


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a process leaves that is killed while it records noise and a still scene, each as all kinds of files.

    A still scene is compressed to a few bytes a frame, of which FFmpeg's own files hold back thousands.
    """
    code = """
names = [scene + suffix for scene in ("noise", "still") for suffix in SUFFIXES]
recordings = [VideoWriter(folder / name, 10.0) for name in names]
for number in range(40):
    for name, recording in zip(names, recordings):
        scene = np.roll(noise, number, 1) if name.startswith("noise") else image(90)
        recording.write(scene, number / 10)
os.kill(os.getpid(), signal.SIGKILL)
"""
    folder = tmp_path_factory.mktemp("killed")
    assert child(code, folder).returncode == -signal.SIGKILL
    return folder


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("scene", ["noise", "still"])
def test_a_killed_process_loses_no_frame(killed, suffix, scene):
    assert len(list(killed.iterdir())) == 2 * len(SUFFIXES)
    times, _ = played(killed / f"{scene}.part{suffix}")
    assert np.allclose(times, np.arange(40) / 10, atol=2e-3)


def test_what_a_killed_run_left_is_kept(tmp_path):
    file = tmp_path / "a.mkv"
    left = []
    for number in range(3):
        recording = VideoWriter(file, 20.0)
        assert recording.kept == (left[-1] if left else None)
        recording.write(image(40 * number), 0.0)
        os.close(recording._descriptor)  # as the end of the process would
        left.append(tmp_path / ("a.interrupted.mkv" if number == 0 else f"a.interrupted-{number + 1}.mkv"))
    recording = VideoWriter(file, 20.0)
    recording.write(image(200), 0.0)
    recording.close()
    assert sorted(tmp_path.iterdir()) == sorted([file, *left])
    for number, kept in enumerate(left):
        assert played(kept)[1] == pytest.approx([40 * number], abs=4)


def test_one_run_alone_records_to_a_file(tmp_path):
    file = tmp_path / "a.mp4"
    recording = VideoWriter(file, 20.0)
    recording.write(image(50), 0.0)
    with pytest.raises(EdgefelError, match=r"a.mp4: another run is recording to it"):
        VideoWriter(file, 20.0, overwrite=True)
    recording.write(image(60), 0.1)
    recording.close()
    assert len(played(file)[0]) == 2


def test_an_empty_recording_leaves_nothing(tmp_path):
    VideoWriter(tmp_path / "new" / "folder" / "a.mkv", 20.0).close()
    recording = VideoWriter(tmp_path / "new" / "a.mkv", 20.0)
    recording.write(image(9), 0.0)
    recording.discard()
    recording.close()
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "a.part.mkv").touch()
    assert VideoWriter(tmp_path / "a.mkv", 20.0).kept is None


@pytest.fixture(scope="module")
def full_disk(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, list[str]]]:
    """A folder with what was recorded until the disk was full, and what was said, by suffix.

    The limit on a file's size cuts the write that crosses it, as a disk does that fills up.
    """
    code = """
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
most = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, most))
for suffix in SUFFIXES:
    recording = VideoWriter(folder / suffix[1:] / f"a{suffix}", 20.0)
    try:
        for number in range(400):
            recording.write(np.roll(noise, number, 1), number / 20)
    except EdgefelError as error:
        print(f"{suffix} {error} {number}")
    try:
        recording.close()
    except EdgefelError as error:
        print(f"{suffix} {error}")
resource.setrlimit(resource.RLIMIT_FSIZE, (100, most))
recording = VideoWriter(folder / "new" / "a.mp4", 20.0)
try:
    recording.write(noise, 0.0)
except EdgefelError as error:
    print(f"none {error}")
recording.close()
"""
    folder = tmp_path_factory.mktemp("full")
    done = child(code, folder)
    assert done.returncode == 0, done.stderr
    said: dict[str, list[str]] = {}
    for line in done.stdout.splitlines():
        suffix, text = line.split(" ", 1)
        said.setdefault(suffix, []).append(text)
    return folder, said


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_full_disk_is_told_and_what_was_written_is_whole(full_disk, suffix):
    folder, said = full_disk[0] / suffix[1:], full_disk[1]
    file = folder / f"a{suffix}"
    first, *second = said[suffix]
    assert first.startswith(
        f"{file}: not every frame could be written (File too large); what was written before is whole; free disk"
    )
    number = int(first.split()[-1])
    assert number >= 3
    (left,) = folder.iterdir()
    assert left == (folder / f"a.part{suffix}" if second else file)
    if second:
        assert second[0].endswith(f"What there is can be played: {left}")
    assert len(played(left)[0]) == number


def test_a_disk_that_is_full_from_the_start(full_disk):
    folder, said = full_disk
    (message,) = said["none"]
    assert "not every frame could be written" in message
    assert not (folder / "new").exists()


def test_an_interruption_in_the_middle_of_a_write(tmp_path, monkeypatch):
    """Ctrl-C comes after half of a frame was written: the half is taken back, the video ends before it."""
    file = tmp_path / "a.mp4"
    recording = VideoWriter(file, 20.0)
    for number in range(5):
        recording.write(image(40 * number), number / 20)
    real = os.write

    def interrupted(descriptor: int, data: bytes) -> int:
        real(descriptor, data[: len(data) // 2])
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            recording.write(image(250), 0.25)
    recording.close()
    assert played(file)[1] == pytest.approx([0, 40, 80, 120, 160], abs=5)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_end_that_is_cut_short(tmp_path, monkeypatch, suffix):
    """Killed while the index is being written: what there is can be played as before."""
    recording = VideoWriter(tmp_path / f"a{suffix}", 20.0)
    for number in range(30):
        recording.write(image(8 * number), number / 20)

    def killed(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(recording._file, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        recording.close()
    times, shades = played(recording.part)
    assert np.allclose(times, np.arange(30) / 20, atol=2e-3)
    assert np.allclose(shades, 8 * np.arange(30), atol=5)


def test_a_recording_that_is_removed_while_it_is_written(tmp_path):
    recording = VideoWriter(tmp_path / "out" / "a.mkv", 20.0)
    recording.write(image(9), 0.0)
    recording.part.unlink()
    recording.part.parent.rmdir()
    with pytest.raises(EdgefelError, match="a.mkv: was removed while it was written"):
        recording.write(image(9), 0.1)
    recording.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("links", [True, False])
def test_a_file_that_appears_meanwhile_is_kept(tmp_path, monkeypatch, links):
    """Also on a file system without hard links."""
    if not links:

        def refused(source: Path, target: Path) -> None:
            raise PermissionError(1, "Operation not permitted")

        monkeypatch.setattr(writer.os, "link", refused)
    file = tmp_path / "a.mkv"
    recording = VideoWriter(file, 20.0)
    recording.write(image(9), 0.0)
    file.write_text("precious")
    with pytest.raises(EdgefelError, match=r"a.mkv: appeared meanwhile.*can be played: .*a.part.mkv"):
        recording.close()
    assert file.read_text() == "precious"
    assert len(played(recording.part)[0]) == 1
    other = VideoWriter(tmp_path / "b.mkv", 20.0)
    other.write(image(9), 0.0)
    other.close()
    assert len(played(tmp_path / "b.mkv")[0]) == 1


@pytest.mark.parametrize("size", [(63, 47), (1280, 720), (2, 2)])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi"])
def test_sizes(tmp_path, suffix, size):
    """Odd sides lose their last line; a frame of noise is larger than a pipe."""
    recording = VideoWriter(tmp_path / f"a{suffix}", 20.0)
    noise = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    for number in range(3):
        recording.write(noise, number / 20)
    recording.close()
    capture = cv2.VideoCapture(str(tmp_path / f"a{suffix}"), cv2.CAP_FFMPEG)
    frame = capture.read()[1]
    assert frame.shape == (size[1] // 2 * 2, size[0] // 2 * 2, 3)
    assert len(played(tmp_path / f"a{suffix}")[0]) == 3


def test_frames_that_are_too_small(tmp_path):
    recording = VideoWriter(tmp_path / "a.mp4", 20.0)
    with pytest.raises(EdgefelError, match="a.mp4: frames of 1x9 pixels are too small for a video"):
        recording.write(image(9, (1, 9)), 0.0)
    recording.close()
    assert list(tmp_path.iterdir()) == []


def test_without_named_pipes_it_is_said_what_to_do(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "mkfifo")
    recording = VideoWriter(tmp_path / "a.mp4", 20.0)
    with pytest.raises(EdgefelError, match="a.mp4: this system has no named pipes; save the video as .avi"):
        recording.write(image(9), 0.0)
    recording.close()
    other = VideoWriter(tmp_path / "a.avi", 20.0)
    other.write(image(9), 0.0)
    other.close()
    assert [file.name for file in tmp_path.iterdir()] == ["a.avi"]


def test_without_a_temporary_folder_it_is_said_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "absent"))
    recording = VideoWriter(tmp_path / "a.mp4", 20.0)
    with pytest.raises(EdgefelError, match="a.mp4: the encoder needs a temporary folder .*set TMPDIR"):
        recording.write(image(9), 0.0)
    recording.close()
    assert list(tmp_path.iterdir()) == []


def test_an_encoder_that_is_missing_or_fails(tmp_path, monkeypatch):
    class Failing:
        opened = False

        def __init__(self, *options: object) -> None: ...

        def isOpened(self) -> bool:
            return self.opened

        def write(self, frame: np.ndarray) -> None: ...

        def release(self) -> None: ...

    Failing.fourcc = cv2.VideoWriter.fourcc
    monkeypatch.setattr(cv2, "VideoWriter", Failing)
    monkeypatch.setattr(encoders, "_TIMEOUT", 0.01)
    recording = VideoWriter(tmp_path / "a.mp4", 20.0)
    with pytest.raises(
        EdgefelError, match="a.mp4: OpenCV has no MPEG-4 encoder here; save the video as .avi"
    ):
        recording.write(image(9), 0.0)
    Failing.opened = True
    with pytest.raises(EdgefelError, match="a.mp4: the encoder lost a frame"):
        recording.write(image(9), 0.0)
    recording.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_another_player_agrees(tmp_path, suffix):
    """GStreamer's demultiplexers, which share no code with FFmpeg's, for whole files and those of killed runs."""
    from edgefel.runtime.stream.capture import open_source
    from edgefel.runtime.stream.gstreamer import has_element

    if not all(map(has_element, ("gdppay", "avdec_mpeg4", "qtdemux", "matroskademux"))):
        pytest.skip("GStreamer with its base, good, bad and libav plugins is not installed")
    recording = VideoWriter(tmp_path / f"a{suffix}", 20.0)
    for number, time in enumerate(TIMES):
        recording.write(image(7 * number), time)
    for file in (recording.part, recording.path):
        if file == recording.path:
            recording.close()
        source = open_source(str(file), decoder="gstreamer")
        times, shades = [], []
        while (frame := source.read()) is not None:
            times.append(frame.time)
            shades.append(frame.image.mean())
        source.close()
        assert np.allclose(times, TIMES, atol=2e-3)
        assert np.allclose(shades, [7 * number for number in range(len(TIMES))], atol=6)
        assert source.counts.missing == 0
