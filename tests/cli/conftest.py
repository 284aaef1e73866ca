"""Running the command line as users do: in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from labelled_runs import CLIP
from tiny_bundle import write_bundle

from edgefel.data.synthetic.video import write_video

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def compiling(_once: Callable[..., Path]) -> Run:
    """Runs `edgefel ARGUMENTS` with Triton's compiler instead of its interpreter. first: code to run before it.

    The cache is this run's own: what an earlier one compiled proves nothing.
    """
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(_once("triton-cache", Path.mkdir))

    def run(*arguments: object, first: str = "") -> subprocess.CompletedProcess[str]:
        code = f"{first}\nfrom edgefel.cli.main import main\nmain()"
        command = [sys.executable, "-c", code, *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)

    return run


@pytest.fixture
def not_a_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty folder: a command that would open it complains of that, so what it says instead was found before."""
    return tmp_path_factory.mktemp("no bundle")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    write_video(path, CLIP)
    return path


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("tiny") / "bundle")
