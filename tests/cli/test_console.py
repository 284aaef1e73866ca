"""What is slow says so on a terminal, and nothing of it reaches files and pipes."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from rich.console import Console
from tiny_bundle import write_bundle

from edgefel.cli.console import Bars

COMMAND = (sys.executable, "-m", "edgefel.cli.main")


def on_a_terminal(*arguments: object) -> str:
    """What a command writes to stderr that is a terminal."""
    main, end = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, *map(str, arguments)],
        stdout=subprocess.DEVNULL,
        stderr=end,
        env=os.environ | {"TERM": "xterm", "COLUMNS": "100"},
    )
    os.close(end)
    seen = b""
    while True:
        try:
            block = os.read(main, 65536)
        except OSError:  # the other end is closed
            break
        if not block:
            break
        seen += block
    os.close(main)
    process.wait()
    return seen.decode(errors="replace")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("tiny") / "a [bold] bundle")


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("image") / "crop.png"
    cv2.imwrite(str(path), np.full((30, 30, 3), 128, np.uint8))
    return path


def test_loading_a_model_and_examining_a_machine(bundle, image):
    command = ("predict", bundle, image, "--no-detect", "--backend", "onnxruntime")
    assert f"loading {bundle}"[:60] in on_a_terminal(*command)
    assert "examining this machine" in on_a_terminal("doctor", "--no-measure")
    piped = subprocess.run([*COMMAND, *map(str, command)], capture_output=True, text=True, check=True)
    assert "loading" not in piped.stdout + piped.stderr


def test_loading_pytorch(tmp_path):
    """It takes seconds, before anything else can be said; the error stays a line of its own."""
    for command in (
        ("train", "--data", tmp_path / "nothing", "-o", tmp_path / "run"),
        ("import", tmp_path / "nothing.pth", "--layout", "ir50", "-o", tmp_path / "imported"),
    ):
        seen = on_a_terminal(*command)
        assert "loading PyTorch" in seen
        assert "error: " in seen.splitlines()[-1]


def bars(**options) -> tuple[Bars, io.StringIO]:
    stream = io.StringIO()
    return Bars(console=Console(file=stream, width=100), **options), stream


def test_steps_begin_with_their_first_call_and_end_full():
    progress, stream = bars()
    with progress:
        advance, update = progress.counter("images", 3), progress.follower("hashes")
        assert stream.getvalue() == ""
        advance(1)
        advance(1)
        update(1, 2)
        progress.share("timing", 0.25)
    lines = [line.split() for line in stream.getvalue().splitlines() if line.strip()]
    assert [(line[0], line[-2]) for line in lines] == [
        ("images", "3/3"),
        ("hashes", "2/2"),
        ("timing", "100/100"),
    ]


def test_without_a_step_or_after_an_error_nothing_is_made_up():
    progress, stream = bars()
    with progress:
        pass
    assert stream.getvalue() == ""
    progress, stream = bars()
    with pytest.raises(ValueError, match="stop"), progress:
        progress.start("work", 5)
        progress.advance(2)
        raise ValueError("stop")
    assert "2/5" in stream.getvalue()
