"""`edgefel serve`: what it refuses before it serves."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import urllib.request

import pytest
from click.testing import CliRunner
from tiny_bundle import write_bundle

from edgefel.cli import lazy
from edgefel.cli.main import main


def fails(*arguments: str) -> str:
    result = CliRunner().invoke(main, ["serve", *arguments])
    assert result.exit_code == 2, result.output
    assert result.stderr.count("\n") == 1
    return result.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--host", "0.0.0.0"], "--token"),
        (["--token", "short"], "at least 16"),
        (["--tls-cert", "a.pem"], "belong together"),
        (["--source", "no-such-file.mp4"], "no such file"),
        (["--size", "640x480"], "--size belongs to --source"),
    ],
)
def test_what_cannot_be_served_is_refused_before_the_network_is_loaded(arguments, said, monkeypatch):
    pytest.importorskip("uvicorn", reason="the extra 'serve' is not installed")
    monkeypatch.delenv("EDGEFEL_TOKEN", raising=False)
    assert said in fails(*arguments)


def test_without_the_extra_the_line_says_how_to_install_it(monkeypatch):
    find = lazy.importlib.util.find_spec
    monkeypatch.setattr(
        lazy.importlib.util, "find_spec", lambda name: None if name == "starlette" else find(name)
    )
    assert "pip install 'edgefel[serve]'" in fails()


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_the_command_serves_until_it_is_ended(tmp_path, number, code):
    pytest.importorskip("uvicorn", reason="the extra 'serve' is not installed")
    bundle = write_bundle(tmp_path / "bundle")
    command = [
        sys.executable,
        "-m",
        "edgefel.cli.main",
        "serve",
        str(bundle),
        "--port",
        "0",
        "--detector",
        "haar",
    ]
    with subprocess.Popen(
        [*command, "--backend", "onnxruntime"], stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            lines = iter(process.stderr.readline, "")
            address = next(filter(None, (re.search(r"http://127\.0\.0\.1:\d+/", line) for line in lines)))[0]
            with urllib.request.urlopen(f"{address}readyz", timeout=20) as answer:
                assert answer.status == 200
            process.send_signal(number)
            rest = process.stderr.read()
            assert process.wait(30) == code
            assert "Traceback" not in rest
        finally:
            process.kill()
