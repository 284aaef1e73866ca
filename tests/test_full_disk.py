"""A full disk is one line and exit code 2 for every command that writes, and leaves nothing unreadable behind.

The limit on the size of a file stands in for the disk: the system refuses what goes beyond it in the same way, wherever
it is, and needs no rights.
"""

from __future__ import annotations

import errno
import json
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from tiny_bundle import write_bundle

from edgefel.cli.main import main
from edgefel.data.images import write_image

TRAIN = [
    "--model",
    "poster-v2-nano",
    "--epochs",
    2,
    "--batch-size",
    4,
    "--per-class",
    2,
    "--accelerator",
    "cpu",
]
TRAIN += ["--workers", 0, "--log-every", 1, "--checkpoint-every", 1, "--quiet"]


@contextmanager
def room_for(size: int) -> Iterator[None]:
    """No file may grow beyond `size` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def check_refused(result: Result) -> str:
    assert result.exit_code == 2, (result.output, result.exception)
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert "cannot be written" in line
    assert "File too large" in line
    assert "free disk space" in line
    return line


def tree(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


# command -> (bytes there are, arguments); OUT is a path in an empty folder
COMMANDS = {
    "synth, an image": (3_000, "data synth -o OUT --count 60 --size 64"),
    "synth, the labels": (14_000, "data synth -o OUT --count 60 --size 64"),
    "synth, of a worker": (3_000, "data synth -o OUT --count 66 --size 64 --workers 2"),
    "inspect": (20_000, "data inspect FACES -o OUT"),
    "sheet": (20_000, "data sheet FACES -o OUT.png"),
    "evaluate": (20_000, "evaluate CHECKPOINT --data FACES --split test -o OUT"),
    "export": (200_000, "export CHECKPOINT -o OUT --fp32"),
    "calibrate": (500, "calibrate --data FACES -o OUT.json"),
    "bundle, an archive": (4_000, "pack BUNDLE -o OUT.tar --no-kernels"),
    "bundle, compressed": (4_000, "pack BUNDLE -o OUT.tgz --no-kernels"),
    "bundle, a folder": (4_000, "pack BUNDLE -o OUT --no-kernels"),
    "bundle for Triton": (500, "pack BUNDLE --triton-repository OUT"),
}


@pytest.mark.parametrize("name", list(COMMANDS))
def test_a_command_says_so_and_leaves_nothing(name, faces_folder, nano_checkpoint, tmp_path):
    size, text = COMMANDS[name]
    bundle = write_bundle(tmp_path / "bundle")
    places = {"FACES": faces_folder, "CHECKPOINT": nano_checkpoint, "BUNDLE": bundle}
    out = tmp_path / "place"
    out.mkdir()
    words = [str(places.get(word, word)) for word in text.replace("OUT", str(out / "out")).split()]
    before = tree(tmp_path)
    with room_for(size):
        result = run(*words)
    check_refused(result)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("shards", [(), ("--shards", 20)])
def test_prepare_says_so_and_goes_on(faces_folder, tmp_path, shards):
    command = ("data", "prepare", faces_folder, "-o", tmp_path / "out", "--no-detect", *shards)
    with room_for(9_000):
        line = check_refused(run(*command))
    assert "give the same command again" in line
    assert not (tmp_path / "out").exists()
    result = run(*command)
    assert result.exit_code == 0, result.output
    assert tree(tmp_path)[0] == "out"


def train(faces: Path, out: Path, size: int) -> str:
    with room_for(size):
        return check_refused(run("train", "--data", faces, "-o", out, *TRAIN))


@pytest.mark.parametrize("size", [1_000, 50_000])
def test_training_says_so_and_goes_on(faces_folder, tmp_path, size):
    out = tmp_path / "run"
    line = train(faces_folder, out, size)
    assert not list(out.rglob("*.safetensors"))
    assert not (out / ".lock").exists()
    if size > 1_000:  # else there is no configuration to go on with
        assert line.endswith(f"continue with: edgefel train --resume {out}")
        result = run("train", "--resume", out, "--quiet")
        assert result.exit_code == 0, result.output
        assert json.loads((out / "last.json").read_text())["step"] == 6


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_log_that_cannot_be_written_ends_training(faces_folder, tmp_path, monkeypatch):
    """TensorBoard's files are written by a thread of theirs."""
    from tensorboard.summary.writer.record_writer import RecordWriter

    def full(self: object, data: bytes) -> None:
        raise OSError(errno.EFBIG, "File too large")

    monkeypatch.setattr(RecordWriter, "write", full)
    line = train(faces_folder, tmp_path / "run", 10**9)
    assert f"edgefel train --resume {tmp_path / 'run'}" in line


@pytest.mark.parametrize("missing", [1, 3_000])
def test_a_image_that_lacks_its_last_bytes_is_no_success(tmp_path, missing):
    """The last bytes wait in a buffer of OpenCV's, whose writing at the end it does not check."""
    image = np.random.default_rng(0).integers(0, 256, (32, 48, 3), dtype=np.uint8)
    write_image(tmp_path / "whole.png", image)
    size = (tmp_path / "whole.png").stat().st_size
    with room_for(size - missing), pytest.raises(OSError, match="File too large"):
        write_image(tmp_path / "a.png", image)
