"""Errors that users see as one line."""

from __future__ import annotations

import ast
from pathlib import Path

import click
import pytest
import tomllib
from click.testing import CliRunner

from edgefel.cli.main import main
from edgefel.errors import EdgefelError, MissingDependencyError

ROOT = Path(__file__).parent.parent


def test_a_missing_dependency_names_the_command_that_installs_it():
    error = MissingDependencyError("onnx", "export", "checking a graph")
    assert isinstance(error, EdgefelError)
    assert str(error) == (
        "checking a graph needs the package 'onnx', which is not installed; run: pip install 'edgefel[export]'"
    )


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


@pytest.mark.parametrize("error", [EdgefelError("a: b; do c"), MissingDependencyError("m", "x", "p")])
def test_a_command_prints_one_line_and_exits_with_2(monkeypatch, error):
    @click.command()
    def broken() -> None:
        raise error

    monkeypatch.setattr(main, "get_command", lambda ctx, name: broken)
    done = CliRunner().invoke(main, ["broken"])
    assert (done.exit_code, done.stdout, done.stderr) == (2, "", f"error: {error}\n")


def test_any_other_exception_is_a_bug_and_keeps_its_traceback(monkeypatch):
    @click.command()
    def broken() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(main, "get_command", lambda ctx, name: broken)
    assert isinstance(CliRunner().invoke(main, ["broken"]).exception, ZeroDivisionError)
