"""Commands and optional packages are imported only when they are used."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Mapping
from typing import Any

import click

from edgefel.cli.console import working
from edgefel.errors import MissingDependencyError


class LazyGroup(click.Group):
    """A group of commands; commands_at: name -> (module whose `command` it is, one-line help)."""

    def __init__(self, *arguments: Any, commands_at: Mapping[str, tuple[str, str]], **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._commands_at = commands_at

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._commands_at)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self._commands_at:
            return None
        command = importlib.import_module(self._commands_at[cmd_name][0]).command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in self._commands_at.items()])


def require(extra: str, purpose: str, *modules: str) -> None:
    """Raises MissingDependencyError, which names the extra to install, unless all modules are installed.

    Imports only PyTorch, and only on a terminal: it takes seconds, which a status line announces.
    """
    for module in modules:
        if importlib.util.find_spec(module) is None:
            raise MissingDependencyError(module, extra, purpose)
        if module == "torch" and sys.stderr.isatty():
            with working("loading PyTorch"):
                importlib.import_module(module)
