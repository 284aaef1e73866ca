"""The command group: help without optional dependencies, errors in one line."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner
from heeding import heed

from edgefel.cli.main import COMMANDS, main


def test_help_lists_every_command_with_an_example():
    result = CliRunner().invoke(main, ["--help"])
    assert result.exit_code == 0
    for name in COMMANDS:
        assert f"  {name} " in result.output
    assert "Examples:" in result.output


@pytest.mark.parametrize("name", list(COMMANDS))
def test_each_command_explains_itself_with_an_example(name):
    result = CliRunner().invoke(main, [name, "--help"])
    assert result.exit_code == 0, result.output
    if name != "data":  # a group: its subcommands have the examples
        assert f"edgefel {name}" in result.output
        assert "Example" in result.output


def test_help_needs_no_optional_dependency():
    """`edgefel COMMAND --help` runs where only the base install exists."""
    code = f"""
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in {{'torch', 'onnx', 'onnxsim', 'kornia', 'sklearn', 'lightning_fabric',
                                   'matplotlib', 'safetensors', 'yaml', 'tensorrt', 'tensorrt_rtx', 'triton'}}:
            raise ModuleNotFoundError(f"No module named '{{name}}'", name=name)
sys.meta_path.insert(0, Absent())
from click.testing import CliRunner
from edgefel.cli.main import main
for command in {list(COMMANDS)!r}:
    result = CliRunner().invoke(main, [command, '--help'])
    assert result.exit_code == 0, (command, result.output, result.exception)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_an_unknown_command_is_a_usage_error():
    result = CliRunner().invoke(main, ["trian"])
    assert result.exit_code == 2
    assert "No such command" in result.output


def test_a_place_where_nothing_can_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    target = tmp_path / "file" / "clip.mp4"
    result = CliRunner().invoke(
        main, ["data", "video", "-o", str(target), "--seconds", "1", "--changes", "0"]
    )
    assert result.exit_code == 2
    line = result.stderr.splitlines()[-1]
    assert line.startswith("error: ")
    assert "cannot be written" in line
    assert "choose another place" in line
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("command", [["predict", "bundle", "x.png"], ["run", "bundle", "--source", "x.mp4"]])
def test_a_package_that_does_not_load_is_one_line(tmp_path, command):
    """As OpenCV in a container without libGL, or one that was built for another NumPy."""
    (tmp_path / "cv2.py").write_text("raise ImportError('libGL.so.1: cannot open shared object file')\n")
    result = subprocess.run(
        [sys.executable, "-m", "edgefel.cli.main", *command],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
    )
    assert result.returncode == 2
    assert result.stderr.splitlines() == [
        "error: a package does not load (libGL.so.1: cannot open shared object file); run 'edgefel doctor', which "
        "says which"
    ]


REPLACED = """
import os, signal, sys, time
from edgefel.cli import models
from edgefel.cli.main import main

def fail(**options):
    try:
        if "signal" in sys.argv:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(60)
    except BaseException:
        pass
    raise TypeError("as NumPy does in a comparison")

models.command.callback = fail
main(["models"])
"""


def test_a_signal_is_not_forgotten_for_an_exception_that_a_library_made_of_it():
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", REPLACED, *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, preexec_fn=heed)

    ended = run("signal")
    assert (ended.returncode, ended.stderr) == (143, "terminated\n")
    failed = run()
    assert failed.returncode == 1
    assert "TypeError: as NumPy does" in failed.stderr


def test_no_command_takes_an_option_twice():
    def commands(command: click.Command, name: str) -> Iterator[tuple[str, click.Command]]:
        yield name, command
        if isinstance(command, click.Group):
            context = click.Context(command)
            for inner in command.list_commands(context):
                found = command.get_command(context, inner)
                assert found is not None
                yield from commands(found, f"{name} {inner}")

    for name, command in commands(main, "edgefel"):
        flags = [
            flag for parameter in command.params for flag in (*parameter.opts, *parameter.secondary_opts)
        ]
        assert len(set(flags)) == len(flags), name
