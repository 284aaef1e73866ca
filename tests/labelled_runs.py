"""`edgefel run` in this process and in one of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

from click.testing import CliRunner, Result
from heeding import heed

from edgefel.cli.main import main
from edgefel.data.synthetic.options import VideoOptions

NANO = Path(__file__).parent / "bundles" / "nano-synthetic"


CLIP = VideoOptions(
    seconds=4, fps=10, size=(480, 360), faces=2, changes=1, labels=("happiness", "surprise"), seed=3
)


# the same backend everywhere, and faces of the clip's size: quick
QUICK = ("--backend", "onnxruntime", "--min-face", "0.25")


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


def wait_for(happened, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.05)
