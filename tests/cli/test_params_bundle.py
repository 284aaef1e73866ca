"""Commands that take the network that comes with edgefel where no BUNDLE is given."""

from __future__ import annotations

from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from edgefel.cli.main import main

# what is wrong in each, and what is said of it
WRONG = {
    "bench latency": ("--backend openvino --precision fp16", "no fp16 file"),
    "bench pick": ("-o .", ".: is a folder"),
    "bench throughput": ("--precision int8", "no int8 file"),
    "doctor": ("nothere", "nothere: no manifest.json here"),
    "engine": ("--kernels nothere", "nothere: no such folder"),
    "label": ("nothere -o out", "nothere: no such file or folder"),
    "pack": ("-o edge.tar --precision int8", "no int8 onnx file in this bundle"),
    "predict": ("nothere.png --save labelled", "nothere.png: no such file"),
    "serve": ("--host 0.0.0.0", "0.0.0.0"),
    "run": ("--source nothere.mp4 -o faces.csv --save faces.mp4", "nothere.mp4: no such file"),
}


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[str]:
    """Those with an argument BUNDLE that may be left out."""
    context = click.Context(group)
    for name in group.list_commands(context):
        one = group.get_command(context, name)
        if isinstance(one, click.Group):
            yield from commands(one, (*path, name))
        elif any(
            argument.name in ("bundle", "bundles") and not argument.required
            for argument in one.params
            if isinstance(argument, click.Argument)
        ):
            yield " ".join((*path, name))


def test_all_are_here():
    assert set(commands(main)) == set(WRONG)


@pytest.mark.parametrize("name", WRONG)
def test_wrong_arguments_are_one_line_and_nothing_is_written(shipped, tmp_path, monkeypatch, name):
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    before = sorted(tmp_path.rglob("*"))
    arguments, said = WRONG[name]
    result = CliRunner().invoke(main, [*name.split(), *arguments.split()])
    assert (result.exit_code, result.stdout) == (2, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert said in line
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", ["run", "serve"])
@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            "clip.mp4",
            "no such folder; give the folder that 'edgefel export' wrote; a camera, stream or video to label",
        ),
        (
            "csi",
            "no such folder; give the folder that 'edgefel export' wrote; a camera, stream or video to label",
        ),
        ("rtsp://10.0.0.7/live", "is an address, and this has to be on a disk; a stream to label"),
    ],
)
def test_what_is_to_be_labelled_in_place_of_a_bundle(tmp_path, monkeypatch, name, given, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "clip.mp4").touch()
    result = CliRunner().invoke(main, [name, given])
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == f"error: {given}: {message} goes to --source\n"


def test_an_address_to_write_to_is_no_source():
    result = CliRunner().invoke(main, ["run", "--save", "s3://bucket/clip.mp4"])
    assert result.exit_code == 2
    assert result.stderr.endswith("has to be on a disk; docs/addresses.md says what need not be\n")
