"""How `edgefel run` ends: by signals, a full disk, a reader or a camera that goes away; and what it leaves."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import pytest
from heeding import heed
from labelled_runs import CLIP, NANO, QUICK, run, start, wait_for

from edgefel.data.synthetic.video import SyntheticVideo


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
