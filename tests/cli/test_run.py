"""`edgefel run` end to end: outputs, errors, ends, and what a person is told."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result
from heeding import heed
from tiny_bundle import write_bundle

from edgefel.cli.main import main
from edgefel.data.synthetic.options import VideoOptions
from edgefel.data.synthetic.video import SyntheticVideo, write_video

NANO = Path(__file__).parent.parent / "bundles" / "nano-synthetic"
CLIP = VideoOptions(
    seconds=4, fps=10, size=(480, 360), faces=2, changes=1, labels=("happiness", "surprise"), seed=3
)
# the same backend everywhere, and faces of the clip's size: quick
QUICK = ("--backend", "onnxruntime", "--min-face", "0.25")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    write_video(path, CLIP)
    return path


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("tiny") / "bundle")


def run(bundle: Path, source: object, *options: object) -> Result:
    return CliRunner().invoke(
        main,
        ["run", str(bundle), "--source", str(source), *QUICK, *map(str, options)],
        catch_exceptions=False,
    )


def lines(result: Result) -> list[dict]:
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def start(bundle: Path, source: object, *options: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "edgefel.cli.main", "run", bundle, "--source", source, *QUICK, *options]
    return subprocess.Popen(
        list(map(str, command)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed,
    )


@pytest.fixture(scope="module")
def whole(clip: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Result, list[dict]]:
    """A run over the clip: what it printed, and its results."""
    listing = tmp_path_factory.mktemp("whole") / "faces.jsonl"
    result = run(NANO, clip, "-o", listing)
    assert result.exit_code == 0, result.output
    return result, [json.loads(line) for line in listing.read_text().splitlines()]


def test_a_line_of_json_for_each_frame(clip, whole):
    _, rows = whole
    assert [row["frame"] for row in rows] == list(range(40))
    assert rows[20]["time"] == pytest.approx(2.0)
    assert {row["source"] for row in rows} == {str(clip)}
    faces = rows[20]["faces"]
    assert sorted(face["track"] for face in faces) == [1, 2]
    for face in faces:
        assert sum(face["probabilities"].values()) == pytest.approx(1, abs=1e-5)
        assert face["label"] == max(face["probabilities"], key=face["probabilities"].get)
        assert face["raw_label"] in face["probabilities"]
        assert 0 <= face["confidence"] <= 1


def test_label_changes_are_told_when_they_come(whole):
    result, _ = whole
    found = re.findall(
        r"([\d.]+) s  person (\d)  (\w+)(?: -> (\w+))?  \(\d+%, confidence [\d.]+\)", result.stdout
    )
    assert len(found) == len(result.stdout.splitlines())
    for change in SyntheticVideo(CLIP).changes:
        told = [row for row in found if row[2:] == (change.first, change.second)]
        assert any(abs(float(time) - change.time) < 0.7 for time, *_ in told), (change, found)
    assert "model.fp32.onnx by onnxruntime (asked for)" in result.stderr
    assert "policy all" in result.stderr
    assert "inference" in result.stderr
    assert "frames per second" in result.stderr


def test_every_output_at_once(clip, tmp_path):
    table, listing, video = tmp_path / "faces.csv", tmp_path / "faces.jsonl", tmp_path / "out.mkv"
    metrics = tmp_path / "metrics.jsonl"
    outputs = ("-o", table, "-o", listing, "--save", video, "--metrics", metrics, "--frames", 12)
    result = run(NANO, clip, *outputs)
    assert result.exit_code == 0, result.output
    rows = [json.loads(line) for line in listing.read_text().splitlines()]
    assert len(rows) == 12
    with table.open(newline="") as stream:
        cells = list(csv.DictReader(stream))
    assert len(cells) == sum(len(row["faces"]) for row in rows) == 22
    assert cells[-1]["label"] == rows[-1]["faces"][-1]["label"]
    last = json.loads(metrics.read_text().splitlines()[-1])
    assert last["counters"]["frames"] == 12
    assert last["stages_ms"]["inference"]["count"] > 0
    capture = cv2.VideoCapture(str(video))
    frames = []
    while (read := capture.read())[0]:
        frames.append(read[1])
    assert len(frames) == 12
    plain = cv2.cvtColor(SyntheticVideo(CLIP).frame(11), cv2.COLOR_RGB2BGR)
    # tags, boxes and the line of numbers; the codec changes no pixel so much
    assert (np.abs(frames[11].astype(int) - plain).max(axis=2) > 60).mean() > 0.01

    again = run(NANO, clip, "-o", table)
    assert again.exit_code == 2
    assert "--overwrite" in again.stderr
    assert run(NANO, clip, "-o", table, "--overwrite", "--frames", 3).exit_code == 0


def test_below_the_threshold_a_face_is_unsure(clip):
    rows = lines(run(NANO, clip, "--json", "--min-confidence", 1, "--frames", 5))
    assert [row["frame"] for row in rows] == list(range(5))
    (face, *_) = rows[-1]["faces"]
    assert face["label"] == "unsure"
    assert face["top_label"] in face["probabilities"]


def test_looking_near_known_faces_finds_them_too(clip, whole):
    _, rows = whole
    fifth = lines(run(NANO, clip, "--json", "--frames", 20, "--detect-every", 5))
    assert [len(row["faces"]) for row in fifth] == [len(row["faces"]) for row in rows[:20]]


def test_images_of_a_folder_are_people_of_their_own(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    frame = cv2.cvtColor(SyntheticVideo(CLIP).frame(3), cv2.COLOR_RGB2BGR)
    for name in ("a.png", "c.png"):
        cv2.imwrite(str(folder / name), frame)
    (folder / "b.png").write_bytes(b"not an image")
    result = run(NANO, folder, "--json")
    rows = lines(result)
    assert [(Path(row["source"]).name, [face["track"] for face in row["faces"]]) for row in rows] == [
        ("a.png", [1, 2]),
        ("c.png", [3, 4]),
    ]
    assert f"1 image skipped, since unreadable: {folder / 'b.png'}" in result.stderr
    sequence = lines(run(NANO, folder, "--json", "--fps", 5))
    assert [face["track"] for face in sequence[1]["faces"]] == [1, 2]


def test_a_truncated_video_is_labelled_as_far_as_it_goes(clip, tmp_path):
    whole = tmp_path / "whole.avi"
    writer = cv2.VideoWriter(str(whole), cv2.VideoWriter.fourcc(*"MJPG"), 10, CLIP.size)
    video = SyntheticVideo(CLIP)
    for index in range(16):
        writer.write(cv2.cvtColor(video.frame(index), cv2.COLOR_RGB2BGR))
    writer.release()
    cut = tmp_path / "cut.avi"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    result = run(NANO, cut, "--json")
    rows = lines(result)
    assert 5 < len(rows) < 16
    missing = re.search(
        r"^(\d+) announced frames missing at the end of the file", result.stderr, re.MULTILINE
    )
    assert len(rows) + int(missing[1]) >= 15


def test_a_frame_with_nobody_and_one_with_forty(tmp_path):
    video = SyntheticVideo(VideoOptions(seconds=1, fps=4, size=(1280, 800), faces=40, changes=0, seed=3))
    crowd = cv2.cvtColor(video.frame(0), cv2.COLOR_RGB2BGR)
    empty = np.full((200, 320, 3), 90, np.uint8)
    for number, image in enumerate((empty, crowd, empty)):
        cv2.imwrite(str(tmp_path / f"{number}.png"), image)
    nobody, forty, again = lines(run(NANO, tmp_path, "--json", "--min-face", 0.05))
    assert nobody["faces"] == again["faces"] == []
    assert len(forty["faces"]) >= 30
    assert len({face["track"] for face in forty["faces"]}) == len(forty["faces"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--source", "nowhere.mp4"), "nowhere.mp4: no such file or folder"),
        (("--source", ""), "--source is empty"),
        (("--source", "csi:x"), "csi:x: no such file or folder"),
        (("-o", "faces.txt"), "faces.txt: unknown kind of results; name it .jsonl or .csv"),
        (("--backend", "tensorrt"), "tensorrt"),
        (("--detector", "yunet"), "YuNet needs its ONNX file"),
        (("--show",), "window"),
        (("--show", "-o", "faces.csv", "-o", "faces.jsonl"), "window"),
        (("-o", "-"), "-: results go to standard output with --json"),
        (("-o", "faces.csv", "-o", "faces.txt"), "faces.txt: unknown kind of results"),
        (("-o", "faces.csv", "-o", "./faces.csv", "--overwrite"), "faces.csv: is named by -o and by -o"),
        (
            ("-o", "a.jsonl", "--metrics", "a.jsonl", "--overwrite"),
            "a.jsonl: is named by -o and by --metrics",
        ),
        (("--metrics-every", "2"), "--metrics-every belongs to --metrics"),
        (("--metrics-host", "0.0.0.0"), "--metrics-host belongs to --metrics-port"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(tiny, clip, options, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(
        main, ["run", str(tiny), "--source", str(clip), *options], catch_exceptions=False
    )
    assert result.exit_code == 2
    assert message in result.stderr.splitlines()[-1]
    assert result.stderr.count("error: ") == 1
    assert not list(tmp_path.iterdir())


def test_the_source_is_never_overwritten(tiny, clip):
    before = clip.read_bytes()
    link = clip.with_name("link.mp4")
    link.symlink_to(clip)
    for target in (clip, link):
        result = run(tiny, clip, "--save", target, "--overwrite")
        assert result.exit_code == 2
        assert f"error: {target}: is named by --source and by --save" in result.stderr
    assert clip.read_bytes() == before


@pytest.mark.parametrize(
    "option",
    ["--fps", "--patience", "--min-face", "--smoothing", "--min-confidence", "--seconds", "--metrics-every"],
)
def test_not_a_number_is_no_number(tiny, clip, option):
    result = run(tiny, clip, option, "nan")
    assert result.exit_code == 2
    assert "nan is not a finite number" in result.stderr


def test_a_refused_run_keeps_the_results_of_an_earlier_one(tiny, clip, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("faces.csv").write_text("earlier\n")
    for options in (("-o", "new.jsonl", "-o", "faces.csv"), ("--overwrite", "-o", "faces.csv", "--show")):
        assert run(tiny, clip, *options).exit_code == 2
        assert [path.name for path in tmp_path.iterdir()] == ["faces.csv"]
        assert Path("faces.csv").read_text() == "earlier\n"


def test_a_broken_video_is_one_line_of_ours_alone(tiny, tmp_path):
    (tmp_path / "empty.mp4").touch()
    process = start(tiny, tmp_path / "empty.mp4")
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    (line,) = errors.splitlines()  # told before the model is loaded
    assert line.startswith(f"error: {tmp_path / 'empty.mp4'}: ")


def test_not_a_bundle(tmp_path, clip):
    result = run(tmp_path, clip)
    assert result.exit_code == 2
    assert "manifest.json" in result.stderr


@pytest.mark.parametrize("options", [("--json",), ("--smoothing", "0")])
def test_who_reads_the_output_may_stop(clip, options):
    process = start(NANO, clip, "--loop", *options)
    assert process.stdout is not None
    assert process.stdout.readline()
    process.stdout.close()
    assert process.wait(30) == 0
    assert process.stderr is not None
    assert "Traceback" not in process.stderr.read()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0), (signal.SIGHUP, 0)])
def test_a_signal_ends_a_run_with_whole_files(tiny, clip, tmp_path, number, code):
    listing, video = tmp_path / "faces.jsonl", tmp_path / "out.mkv"
    process = start(tiny, clip, "--loop", "-o", listing, "--save", video)
    wait_for(lambda: listing.exists() and listing.read_text().count("\n") > 20)
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == code, errors
    assert "frames per second" in errors
    rows = [json.loads(line) for line in listing.read_text().splitlines()]
    assert [row["frame"] for row in rows] == list(range(len(rows)))
    assert frames_of(video) >= len(rows)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["faces.jsonl", "out.mkv"]


def frames_of(video: Path) -> int:
    capture, count = cv2.VideoCapture(str(video), cv2.CAP_FFMPEG), 0
    while capture.grab():
        count += 1
    capture.release()
    return count


def test_a_recording_survives_a_kill_and_the_next_run(tiny, clip, tmp_path):
    """As a service that the system kills and starts again."""
    listing, video = tmp_path / "faces.jsonl", tmp_path / "out.mp4"
    options = ("-o", listing, "--save", video, "--overwrite")
    process = start(tiny, clip, "--loop", *options)
    wait_for(lambda: listing.exists() and listing.read_text().count("\n") > 20)
    process.kill()
    process.communicate(timeout=30)
    text = listing.read_text()
    assert text.endswith("\n")
    assert all(json.loads(line) for line in text.splitlines())
    seen = text.count("\n")
    # a line is written before its image
    assert frames_of(tmp_path / "out.part.mp4") >= seen - 1
    again = run(tiny, clip, *options, "--frames", 5)
    assert again.exit_code == 0, again.output
    kept = tmp_path / "out.interrupted.mp4"
    assert f"a recording that an earlier run did not complete is now {kept}" in again.stderr
    assert frames_of(kept) >= seen - 1
    assert frames_of(video) == 5
    assert sorted(tmp_path.iterdir()) == sorted([listing, kept, video])


def test_a_recording_on_a_full_disk_ends_the_run_with_what_was_recorded(tiny, clip, tmp_path):
    script = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))
from edgefel.cli.main import main
main(["run", *sys.argv[1:]])
"""
    video = tmp_path / "out.mp4"
    command = [sys.executable, "-c", script, tiny, "--source", clip, *QUICK, "--save", video, "--json"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert done.stderr.splitlines()[-1].startswith(
        f"error: {video}: not every frame could be written (File too large)"
    )
    (left,) = tmp_path.iterdir()
    assert left in (video, tmp_path / "out.part.mp4")
    # the result of a frame is printed after its image was written
    assert frames_of(left) == done.stdout.count("\n") > 3


def test_a_second_run_does_not_write_the_same_files(tiny, clip, tmp_path):
    """Both may overwrite: without locks the second empties what the first is writing, and their lines mix."""
    files = {
        "-o": tmp_path / "faces.jsonl",
        "--save": tmp_path / "out.mkv",
        "--metrics": tmp_path / "metrics.jsonl",
    }
    process = start(tiny, clip, "--loop", "--overwrite", *(part for pair in files.items() for part in pair))
    listing = files["-o"]
    wait_for(lambda: listing.exists() and listing.read_text().count("\n") > 5)
    for option, file in files.items():
        second = run(tiny, clip, "--overwrite", option, file)
        assert second.exit_code == 2
        assert re.search(
            rf"^error: {file}: another run is \w+ .*; give this one a file", second.stderr, re.MULTILINE
        )
    process.terminate()
    process.communicate(timeout=30)
    rows = [json.loads(line) for line in listing.read_text().splitlines()]
    assert [row["frame"] for row in rows] == list(range(len(rows)))
    assert frames_of(files["--save"]) >= len(rows)


def test_a_run_goes_on_when_nobody_reads_its_messages(tiny, clip, tmp_path):
    """As over ssh without a terminal, when the connection drops."""
    video = tmp_path / "out.mkv"
    process = start(tiny, clip, "--save", video, "--metrics", tmp_path / "m.jsonl", "--frames", 15)
    assert process.stderr is not None
    assert process.stdout is not None
    process.stderr.close()
    process.stdout.read()
    assert process.wait(60) == 0
    assert frames_of(video) == 15


@pytest.mark.skipif(sys.platform == "win32", reason="no terminals of that kind")
@pytest.mark.parametrize("ending", ["by itself", "terminal closed"])
def test_a_run_on_a_terminal(tiny, clip, tmp_path, ending):
    """With its progress bar; when a terminal is closed, as that of an ssh connection, the kernel sends SIGHUP."""
    import fcntl
    import pty
    import select
    import termios

    listing, video = tmp_path / "faces.jsonl", tmp_path / "out.mkv"
    options = [
        "--save",
        video,
        "-o",
        listing,
        *(["--loop"] if ending == "terminal closed" else ["--frames", 24]),
    ]
    command = [sys.executable, "-m", "edgefel.cli.main", "run", tiny, "--source", clip, *QUICK, *options]
    screen, terminal = pty.openpty()

    def take_terminal() -> None:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        heed()

    process = subprocess.Popen(
        list(map(str, command)),
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
        preexec_fn=take_terminal,
    )
    os.close(terminal)
    shown = b""
    try:
        deadline = time.monotonic() + 60
        while not (ending == "terminal closed" and listing.exists() and listing.read_text().count("\n") > 20):
            assert time.monotonic() < deadline
            if select.select([screen], [], [], 0.1)[0]:
                shown += os.read(screen, 1 << 16)
    except OSError:  # the other end of the terminal is closed
        assert ending == "by itself"
        assert b"frames per second" in shown
    finally:
        os.close(screen)
        with process:  # a run that does not end must not outlive its test
            try:
                process.wait(60)
            finally:
                process.kill()
    assert process.returncode == 0
    rows = [json.loads(line) for line in listing.read_text().splitlines()]
    assert [row["frame"] for row in rows] == list(range(len(rows)))
    assert frames_of(video) == len(rows) >= 20


def test_names_are_checked_before_the_model_is_loaded(clip, tmp_path):
    """There is no bundle; what is wrong with source and outputs is told first."""
    absent = tmp_path / "no bundle"
    (tmp_path / "faces.csv").write_text("earlier\n")
    for source, options, message in (
        (tmp_path / "nowhere.mp4", (), "nowhere.mp4: no such file"),
        ("gopher://x", (), "unknown kind of address"),
        ("97", (), "/dev/video97: no such device"),
        (clip, ("--save", tmp_path / "x.gif"), "x.gif: unknown kind of video"),
        (clip, ("-o", tmp_path / "faces.csv"), "faces.csv: exists"),
        (clip, ("-o", tmp_path / "faces.txt"), "faces.txt: unknown kind of results"),
    ):
        result = run(absent, source, *options)
        assert result.exit_code == 2
        assert message in result.stderr
        assert result.stderr.count("\n") == 1
    assert (tmp_path / "faces.csv").read_text() == "earlier\n"


def test_metrics_for_prometheus_while_it_runs(tiny, clip):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = start(tiny, clip, "--loop", "--metrics-port", port)
    try:

        def frames() -> float:
            try:
                page = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5).read().decode()
            except OSError:
                return 0.0
            found = re.search(r'^edgefel_events_total{event="frames"} ([\d.e+]+)$', page, re.MULTILINE)
            return float(found[1]) if found else 0.0

        wait_for(lambda: frames() > 10)
        before = frames()
        wait_for(lambda: frames() > before)
    finally:
        process.terminate()
        process.communicate(timeout=30)


@pytest.fixture
def camera() -> Iterator[ThreadingHTTPServer]:
    """A network camera: JPEG images one after the other, until the server is shut down."""
    jpeg = cv2.imencode(".jpg", cv2.cvtColor(SyntheticVideo(CLIP).frame(0), cv2.COLOR_RGB2BGR))[1].tobytes()
    over = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *arguments: object) -> None:
            pass

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n".encode()
            while not over.wait(0.03):
                self.wfile.write(head + jpeg + b"\r\n")

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    server.kill = lambda: (over.set(), server.shutdown(), server.server_close())  # type: ignore[attr-defined]
    yield server
    if not over.is_set():
        server.kill()  # type: ignore[attr-defined]
    thread.join(5)


def test_a_camera_that_is_killed_ends_the_run_with_what_was_seen(tiny, camera, tmp_path):
    listing = tmp_path / "faces.jsonl"
    url = f"http://127.0.0.1:{camera.server_address[1]}/live"
    process = start(tiny, url, "-o", listing, "--patience", 1)
    wait_for(lambda: listing.exists() and listing.read_text().count("\n") > 5)
    camera.kill()
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2, errors
    assert "policy latest" in errors
    assert "frames per second" in errors
    last = errors.splitlines()[-1]
    assert last.startswith(f"error: {url}: gone, and not back after 1 seconds")
    assert all(json.loads(line) for line in listing.read_text().splitlines())


def wait_for(happened, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.05)


def test_the_help_has_examples_and_needs_nothing():
    environment = {**os.environ, "COLUMNS": "100"}
    result = subprocess.run(
        [sys.executable, "-m", "edgefel.cli.main", "run", "--help"],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    for word in ("Examples:", "--source csi --show", "--min-confidence", "--metrics-port"):
        assert word in result.stdout
