"""Standard output that is closed, full, or a pipe whose reader has gone; and what errors look like."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from tiny_bundle import write_bundle

from edgefel.cli.main import _line, main
from edgefel.data.synthetic import FaceOptions
from edgefel.data.synthetic.write import write_faces


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a bundle and faces, which the commands run in."""
    folder = tmp_path_factory.mktemp("place")
    write_bundle(folder / "bundle")
    write_faces(folder / "faces", FaceOptions(count=14, size=48, subjects=6))
    return folder


def run(words: str, place: Path, redirection: str) -> subprocess.CompletedProcess[str]:
    command = [
        "bash",
        "-c",
        f'exec "$@" {redirection}',
        "bash",
        sys.executable,
        "-m",
        "edgefel.cli.main",
        *words.split(),
    ]
    return subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)


def run_without_reader(words: str, place: Path) -> subprocess.CompletedProcess[str]:
    """Its standard output is a pipe that nobody reads from."""
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "edgefel.cli.main", *words.split()]
    try:
        return subprocess.run(
            command, cwd=place, stdout=writing, stderr=subprocess.PIPE, text=True, check=False
        )
    finally:
        os.close(writing)


COMMANDS = [
    "--help",
    "predict --help",
    "doctor bundle",
    "doctor bundle --json",
    "predict bundle faces/images --no-detect",
    "predict bundle faces/images --no-detect --json",
    "data inspect faces --workers 1",
    "data inspect faces --workers 1 --json",
]


@pytest.mark.parametrize("words", COMMANDS)
def test_a_reader_that_has_gone_ends_a_command_quietly(words, place):
    done = run_without_reader(words, place)
    assert done.returncode == 141, done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    assert "error" not in done.stderr


@pytest.mark.parametrize("words", COMMANDS[4:7])
def test_a_command_works_without_standard_output(words, place):
    done = run(words, place, ">&-")
    assert (done.returncode, done.stdout) == (0, "")
    assert "Traceback" not in done.stderr
    assert run(words, place, ">&- 2>&-").returncode == 0


def test_what_is_written_does_not_land_in_a_file_that_took_the_number_of_a_closed_stream(place):
    done = run("predict bundle faces/images --no-detect --save out", place, "<&- >&- 2>&-")
    assert done.returncode == 0
    for image in (place / "out").iterdir():
        assert image.read_bytes().startswith(b"\x89PNG")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("words", COMMANDS[4:7])
def test_a_full_disk_behind_standard_output_is_one_line(words, place):
    done = run(words, place, ">/dev/full")
    assert done.returncode == 2
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: ")
    assert "cannot be written" in last
    assert "Exception ignored" not in done.stderr


def test_an_error_into_a_pipe_without_reader_keeps_its_code(place):
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "edgefel.cli.main", "predict", "nowhere", "nothing"]
    done = subprocess.run(command, cwd=place, stdout=subprocess.PIPE, stderr=writing, text=True, check=False)
    os.close(writing)
    assert done.returncode == 2
    assert done.stdout == ""


def test_names_of_files_cannot_break_the_line_or_the_terminal(tmp_path):
    name = os.fsdecode(b"a\nerror: \x1b[31mred\r caf\xe9")
    result = CliRunner().invoke(main, ["predict", "bundle", str(tmp_path / name)])
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert r"a\nerror: \x1b[31mred\r caf\udce9" in result.stderr
    assert _line("x" * 10_000).startswith("x" * 3000 + " ... ")
    assert len(_line("x" * 10_000)) < 4010


def test_a_loop_of_links_is_one_line(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    for words in (
        ["data", "inspect"],
        ["predict", "bundle"],
        ["bench", "report", "-o", str(tmp_path / "r.html")],
    ):
        result = CliRunner().invoke(main, [*words, str(tmp_path / "loop" / "x")])
        assert result.exit_code == 2, result.output
        assert result.stderr.startswith("error: ")
        assert result.stderr.count("\n") == 1


def test_what_python_prints_may_hold_any_name(place):
    folder = Path(os.fsdecode(os.fsencode(place) + b"/caf\xe9"))
    folder.mkdir()
    image = next((place / "faces" / "images").iterdir())
    (folder / "a.png").write_bytes(image.read_bytes())
    for words, asked in (
        ("data inspect", ["--json"]),
        ("predict bundle", ["--no-detect", "--json"]),
        ("predict bundle", ["--no-detect"]),
    ):
        command = [
            sys.executable,
            "-m",
            "edgefel.cli.main",
            *words.split(),
            os.fsencode(folder if "predict" in words else place / "faces"),
            *asked,
        ]
        done = subprocess.run(
            command,
            cwd=place,
            capture_output=True,
            check=False,
            env={**os.environ, "PYTHONIOENCODING": "utf-8"},
        )
        assert done.returncode == 0, done.stderr
