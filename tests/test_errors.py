"""Errors and warnings of the user: one line, an exit code, no traceback; anything else is a bug and keeps it."""

from __future__ import annotations

import ast
import warnings
from pathlib import Path

import click
import pytest
import tomllib
from click.testing import CliRunner

from edgefel.cli.main import Edgefel
from edgefel.errors import EdgefelError, EdgefelWarning, MissingDependencyError

ROOT = Path(__file__).parent.parent


def run(body):
    """`edgefel fail`, a command that does `body`."""
    group = Edgefel("edgefel", package="edgefel.cli", helps={})
    group.get_command = lambda ctx, name: click.Command("fail", callback=body)
    return CliRunner().invoke(group, ["fail"])


def raising(error: Exception):
    def body() -> None:
        raise error

    return body


def test_an_error_of_the_user_is_one_line():
    result = run(raising(EdgefelError("a.png: no such file\nor folder")))
    assert (result.exit_code, result.stderr) == (2, "error: a.png: no such file\\nor folder\n")


def test_a_missing_package_is_such_an_error():
    result = run(raising(MissingDependencyError("torch", "train", "edgefel train")))
    assert result.exit_code == 2
    assert result.stderr == (
        "error: edgefel train needs the package 'torch', which is not installed; run: pip install 'edgefel[train]'\n"
    )


def test_a_bug_keeps_its_traceback():
    result = run(raising(ZeroDivisionError("a bug")))
    assert isinstance(result.exception, ZeroDivisionError)
    assert result.stderr == ""


def test_a_warning_is_one_line_however_often_it_is_given():
    def body() -> None:
        for _ in range(3):
            warnings.warn(EdgefelWarning("labels are those of label.csv"), stacklevel=2)

    result = run(body)
    assert (result.exit_code, result.stderr) == (0, "warning: labels are those of label.csv\n")


def test_other_warnings_are_left_to_python():
    with pytest.warns(UserWarning, match="of another library"):
        run(lambda: warnings.warn("of another library", stacklevel=2))


def test_every_extra_that_an_error_names_can_be_installed():
    extras = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])
    named = [
        node.args[1].value
        for folder in ("edgefel", "kernels", "calib", "export", "bench")
        for file in (ROOT / folder).rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call)
        and getattr(node.func, "id", "") == "MissingDependencyError"
        and isinstance(node.args[1], ast.Constant)
    ]
    assert len(named) > 5
    assert set(named) <= extras
