"""Commands and optional packages are imported only when they are used."""

from __future__ import annotations

import importlib
import importlib.util
import keyword
import sys
from collections.abc import Mapping
from typing import Any

import click
from click.shell_completion import CompletionItem

from edgefel.cli.console import working
from edgefel.errors import MissingDependencyError


class LazyGroup(click.Group):
    """A group of commands, each the `command` of a module of `package`; helps: name -> one-line help."""

    def __init__(self, *arguments: Any, package: str, helps: Mapping[str, str], **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._package, self._helps = package, helps

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._helps)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self._helps:
            return None
        module = f"{cmd_name}_" if keyword.iskeyword(cmd_name) else cmd_name
        command = importlib.import_module(f"{self._package}.{module}").command
        assert isinstance(command, click.Command)
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        # click's own imports every command for its help
        commands = [
            CompletionItem(name, help=text)
            for name, text in self._helps.items()
            if name.startswith(incomplete)
        ]
        return commands + click.Command.shell_complete(self, ctx, incomplete)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(self._helps.items()))


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
