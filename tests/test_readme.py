"""The README says what is: its files exist, its commands run."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.request import urlopen

import cv2
import pytest
import shallow
from click.testing import CliRunner

from edgefel.cli.main import main

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, flags=re.DOTALL | re.MULTILINE)


def commands() -> list[list[str]]:
    """Every `edgefel` line of the README's code blocks."""
    lines = [line for language, block in BLOCKS if not language for line in block.splitlines()]
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("edgefel ")]


SMALLER = {"--count": "210", "--epochs": "1", "--size": "128", "--seconds": "4"}


def test_the_python_runs_as_written(tmp_path, monkeypatch, capsys):
    from matplotlib import cbook

    from edgefel.data.synthetic.options import VideoOptions
    from edgefel.data.synthetic.video import write_video

    monkeypatch.chdir(tmp_path)
    shutil.copy(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False), "photo.jpg")
    write_video(Path("clip.mp4"), VideoOptions(seconds=1, fps=10, faces=1, changes=0))
    (code,) = (block for language, block in BLOCKS if language == "python")
    assert len(code.split("\n\n")[1].splitlines()) == 4
    exec(compile(code, "README.md", "exec"), {})
    photo, face, *frames = capsys.readouterr().out.splitlines()
    assert photo == "photo.jpg: 1 face"
    assert re.fullmatch(r"  \w+ \d+\.\d%  confidence 0\.\d\d, quality \d\.\d\d  \d+x\d+ at \d+,\d+", face)
    assert frames[0].startswith("0.0 [")
    assert any("'" in line for line in frames)


def serve_a_page() -> None:
    """`edgefel serve` on any free port, until its page was loaded."""
    command = [sys.executable, "-m", "edgefel.cli.main", "serve", "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            address = next(found[0] for line in process.stderr if (found := re.search(r"http://\S+/", line)))
            with urlopen(address) as page:
                assert b"<!doctype html>" in page.read(100).lower()
            process.terminate()
            assert process.wait(60) == 0
        finally:
            process.kill()


@pytest.mark.slow
def test_the_commands_run_as_written(tmp_path, monkeypatch):
    """In order, in one folder; only made smaller by the options named in SMALLER, and the network too."""
    from matplotlib import cbook

    monkeypatch.chdir(tmp_path)
    portrait = cv2.imread(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False))
    cv2.imwrite("photo.jpg", portrait)
    ran = []
    for arguments in commands():
        for option, value in SMALLER.items():
            if option in arguments:
                arguments[arguments.index(option) + 1] = value
        if arguments[0] == "train":
            arguments += ["--per-class", "8", "--batch-size", "8", *shallow.PYRAMID]
        elif arguments == ["run"]:  # no camera is here
            arguments += ["--source", "photo.jpg"]
        if arguments == ["serve"]:
            serve_a_page()
        else:
            result = CliRunner().invoke(main, arguments)
            assert result.exit_code == 0, (arguments, result.output)
        ran.append(arguments[0])
    every = "predict run serve pack models data train evaluate export parity predict data run pack"
    assert " ".join(ran) == every
    assert list(Path("labelled").iterdir())
    assert cv2.VideoCapture("labelled.mkv").read()[0]
    assert all(Path(archive).stat().st_size > 1e6 for archive in ("edge.tar", "nano.tar"))


def test_the_two_commands_of_the_readme_are_targets():
    makefile = (ROOT / "Makefile").read_text()
    for target in ("demo", "test"):
        assert f"make {target}" in README
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE)
