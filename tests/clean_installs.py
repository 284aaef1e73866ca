"""Interpreters and environments of their own, into which edgefel is installed, and what is run in them."""

from __future__ import annotations

import atexit
import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from matplotlib import cbook

ROOT = Path(__file__).parent.parent
HERE = "{}.{}".format(*sys.version_info)
PIP = (sys.executable, "-m", "pip", "-q", "--disable-pip-version-check")
FRAMES = 6


def find_python(version: str) -> Path | None:
    """An interpreter of that version that starts: this one, one on the path, the launcher's, pyenv's."""
    pyenv = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
    candidates: list[list[str]] = [[sys.executable]] if version == HERE else []
    candidates += [[f"python{version}"], ["py", f"-{version}"], *([str(path)] for path in pyenv)]
    for command in candidates:
        if shutil.which(command[0]) is None:
            continue
        code = "import sys, venv, ensurepip; print(*sys.version_info[:2], sep='.'); print(sys.executable)"
        result = subprocess.run([*command, "-c", code], capture_output=True, text=True, check=False)
        if result.returncode == 0 and result.stdout.split("\n")[0] == version:
            return Path(result.stdout.split("\n")[1])
    return None


def run(*command: object, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs in `cwd`, with nothing of this test process's Python."""
    own = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "VIRTUAL_ENV"))}
    return subprocess.run(
        list(map(str, command)), capture_output=True, text=True, check=False, cwd=cwd, env=own | environment
    )


@functools.cache
def wheel() -> Path:
    """edgefel's wheel, built once: pip would build it anew for each environment."""
    folder = Path(tempfile.mkdtemp(prefix="edgefel-wheel-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    result = run(*PIP, "wheel", "--no-deps", "-w", folder, ROOT, cwd=folder)
    skip_without_index(result)
    assert result.returncode == 0, result.stderr
    (built,) = folder.glob("*.whl")
    return built


def new_environment(python: Path, folder: Path) -> Path:
    """An environment in `folder`, without pip; its interpreter."""
    subprocess.run([python, "-m", "venv", "--without-pip", folder], check=True)
    return folder / ("Scripts" if os.name == "nt" else "bin") / "python"


def install(python: Path, extras: str, *more: object) -> None:
    """Installs edgefel with its extras ("[data]", or ""), and more, into the environment of `python`."""
    # most of what is installed is never imported: compiling all of it takes longer than the tests
    command = [*PIP, "--python", python, "install", "--no-compile", f"{wheel()}{extras}", *more]
    result = run(*command, cwd=python.parent)
    skip_without_index(result)
    assert result.returncode == 0, result.stderr


def skip_without_index(result: subprocess.CompletedProcess[str]) -> None:
    """CI must not lose the test in silence; elsewhere a machine may have no package index."""
    if result.returncode and "Could not find a version" in result.stderr and "CI" not in os.environ:
        pytest.skip("no package index can be reached, so nothing can be installed")


def write_clip(path: Path) -> Path:
    """A video of one face that moves to the right."""
    portrait = cv2.imread(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False))
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10, (512, 600))
    for number in range(FRAMES):
        writer.write(np.roll(portrait, 2 * number, axis=1))
    writer.release()
    return path


def edgefel(python: Path, *arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    return run(python, "-m", "edgefel.cli.main", *arguments, cwd=cwd)


def check_lines(text: str) -> None:
    """`edgefel run --json` of `clip`: every frame in order, with one person in it who stays the same."""
    lines = [json.loads(line) for line in text.splitlines()]
    assert [line["frame"] for line in lines] == list(range(FRAMES))
    # a person is reported when a second frame has confirmed the first
    assert [[face["track"] for face in line["faces"]] for line in lines[1:]] == [[1]] * (FRAMES - 1)
    for line in lines[1:]:
        assert sum(line["faces"][0]["probabilities"].values()) == pytest.approx(1, abs=1e-4)
